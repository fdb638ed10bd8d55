"""Uncalibrated scores of the shipped detector for every window of the corpus's validation and test clips.

    avff synth data/avff-medium --clips 3000 --identities 300 --seed 2026
    avff prepare data/avff-medium --out data/shards
    python results/scores.py

Chapter 15 fits its calibration to these numbers, and chapter 16 computes its metrics and intervals from them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro

from avff_lib.data.labels import window_label
from avff_lib.data.shards import read_shards
from avff_lib.evaluation.evaluate import ClipScores, score_readable
from avff_lib.models import Detector
from avff_lib.models.calibration import Calibration
from avff_lib.utils.atomic import atomic_write

CHECKPOINT = "avff-tiny"
OUT = Path(__file__).with_name(f"scores-{CHECKPOINT}.json")


def main(shards: Path = Path("data/shards"), threads: int = 2) -> None:
    """Score the clips and write the table.

    Args:
        shards: the corpus, as the commands above create it.
        threads: of the processor; the last digits depend on it.
    """
    torch.set_num_threads(threads)
    model = Detector.from_pretrained(CHECKPOINT)
    model.config = replace(model.config, calibration=Calibration())
    examples = read_shards(shards, model.spec)
    found: dict[str, Any] = {"command": "python results/scores.py", "model": CHECKPOINT}
    for split in ("val", "test"):
        scored, _ = score_readable(model, [example for example in examples if example.row.split == split])
        found[split] = columns(scored)
    with atomic_write(OUT) as path:
        path.write_text(json.dumps(found) + "\n")


def columns(scored: Sequence[ClipScores]) -> dict[str, list[Any]]:
    """A table with a row for each clip; ``segment`` is its fake part in seconds, (0, 0) without one.

    A window that is fake by less than a quarter has no label.
    """
    rows = [entry.row for entry in scored]
    windows = [entry.prediction.windows for entry in scored]
    return {
        "label": [row.label for row in rows],
        "method": [row.method for row in rows],
        "identity": [row.source for row in rows],
        "segment": [row.fake_segments[0] if row.fake_segments else (0.0, 0.0) for row in rows],
        "windows": [[round(window.faces[0].raw, 7) for window in found] for found in windows],
        "window_labels": [
            [window_label(row, window.start, window.end - window.start) for window in found]
            for row, found in zip(rows, windows, strict=True)
        ],
    }


if __name__ == "__main__":
    tyro.cli(main)
