"""What the shipped detector says of every window of the corpus's test clips, uncalibrated, for chapter 13.

avff synth data/avff-medium --clips 3000 --identities 300 --seed 2026
avff prepare data/avff-medium --out data/shards
python results/clip_scores.py
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
import tyro

from avff_lib.atomic import atomic_write
from avff_lib.data.shards import read_shards
from avff_lib.evaluation.evaluate import score_readable
from avff_lib.predict import SHIPPED, load_detector
from avff_lib.verdict import Calibration


def main(shards: Path = Path("data/shards"), threads: int = 2) -> None:
    """Score, and write down."""
    torch.set_num_threads(threads)
    model = load_detector(SHIPPED)
    model.config = replace(model.config, calibration=Calibration())
    examples = [example for example in read_shards(shards, model.spec) if example.row.split == "test"]
    scored, _ = score_readable(model, examples)
    columns = {
        "label": [entry.row.label for entry in scored],
        "method": [entry.row.method for entry in scored],
        "person": [entry.row.source for entry in scored],
        "windows": [[round(float(score), 7) for score in entry.windows] for entry in scored],
        "window_labels": [entry.window_labels.tolist() for entry in scored],
    }
    with atomic_write(Path(__file__).with_name(f"clip-scores-{SHIPPED}.json")) as path:
        path.write_text(json.dumps({"command": "python results/clip_scores.py", "test": columns}) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
