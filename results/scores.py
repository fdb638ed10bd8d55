"""What the shipped detector says of every window of some clips of the corpus, uncalibrated.

    avff synth data/avff-medium --clips 3000 --identities 300 --seed 2026
    avff prepare data/avff-medium --out data/shards
    python results/scores.py

Chapter 12 calibrates by these numbers: on validation people, checked on test people. It also asks how far a
file is from what the detector was calibrated on; hence mean and spread of the features that
`avff_lib.predict.process_video` returns, over the validation clips.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from common import HERE

from avff_lib.atomic import atomic_write
from avff_lib.data.loader import Example, windows_over
from avff_lib.data.shards import read_shards
from avff_lib.examine import HOP
from avff_lib.judge import judge_windows
from avff_lib.models import Detector
from avff_lib.predict import SHIPPED, load_detector

COUNTS = {"val": 180, "test": 200}  # clips of each split, drawn with seed 0


def main(
    shards: Path = Path("data/shards"), out: Path = HERE / f"scores-{SHIPPED}.json", threads: int = 2
) -> None:
    """Score, and write down.

    Args:
        shards: the corpus, as the commands above leave it.
        out: JSON file for the results.
        threads: of the processor; the last digits depend on it.
    """
    torch.set_num_threads(threads)
    model = load_detector(SHIPPED)
    examples, rng = read_shards(shards, model.spec), np.random.default_rng(0)
    features: dict[str, np.ndarray] = {}
    found: dict[str, Any] = {"command": "python results/scores.py", "model": SHIPPED}
    for split, count in COUNTS.items():
        part = [example for example in examples if example.row.split == split]
        drawn = sorted(rng.permutation(len(part))[:count])
        found[split], features[split] = score(model, [part[i] for i in drawn])
    found["features"] = spread(features["val"])
    with atomic_write(out) as path:
        path.write_text(json.dumps(found) + "\n")


def score(model: Detector, examples: Sequence[Example]) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Columns of a table with a row for each clip, and what the model makes of each, ``(N, D)``."""
    table: dict[str, list[Any]] = {key: [] for key in ("label", "method", "person", "segment", "windows")}
    rows = []
    for row, clip in ((example.row, example.clip) for example in examples):
        judged = judge_windows(model, windows_over(clip, model.spec.duration, HOP))
        table["label"].append(row.label)
        table["method"].append(row.method)
        table["person"].append(row.source)
        table["segment"].append(row.fake_segments[0] if row.fake_segments else (0.0, 0.0))
        table["windows"].append([round(value, 7) for value in judged.probability.tolist()])
        streams = (part.mean(dim=(0, 1)) for part in (judged.features.audio, judged.features.visual))
        rows.append(torch.cat([*streams, judged.fused.mean(dim=0)]).numpy())
    return table, np.array(rows)


def spread(features: np.ndarray) -> dict[str, list[float]]:
    """Mean and standard deviation ``(D,)``, and of each clip ``(N,)`` its distance from all the others."""
    distances = []
    for number, clip in enumerate(features):
        others = np.delete(features, number, axis=0)
        distances.append(np.sqrt(np.mean(((clip - others.mean(axis=0)) / others.std(axis=0)) ** 2)))
    found = {"mean": features.mean(axis=0), "std": features.std(axis=0), "distances": np.array(distances)}
    return {name: values.round(6).tolist() for name, values in found.items()}


if __name__ == "__main__":
    tyro.cli(main)
