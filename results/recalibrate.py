"""Recalibrate the shipped detectors and measure them on the test people, without retraining.

    avff synth data/avff-medium --clips 3000 --identities 300 --seed 2026
    avff prepare data/avff-medium --out data/shards
    python results/recalibrate.py

Needed whenever the scoring of files changes: threshold, calibration and out-of-distribution detector depend
on it as much as on the weights. Only the shipped run of `train.py` is measured again, since the weights of
the other seeds are not kept; `model_card.py` then updates the cards.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import tyro

from avff_lib.data.shards import read_shards
from avff_lib.evaluation.evaluate import calibrate, evaluate_scores, score_readable
from avff_lib.evaluation.summary import summarize
from avff_lib.models import Detector
from avff_lib.models.checkpoint import SHIPPED_DIR
from avff_lib.utils.atomic import atomic_write

HERE = Path(__file__).parent


def main(shards: Path = Path("data/shards"), threads: int = 2) -> None:
    """Calibrate both detectors, save them, and write their test results.

    Args:
        shards: the corpus, as the commands above create it.
        threads: of the processor; the last digits depend on it.
    """
    torch.set_num_threads(threads)
    for name in ("avff-tiny", "avffmae-tiny"):
        folder = SHIPPED_DIR / name
        model = Detector.from_pretrained(folder)
        examples = read_shards(shards, model.spec)
        split = {
            part: [example for example in examples if example.row.split == part] for part in ("val", "test")
        }
        calibrate(model, split["val"])
        model.save_pretrained(folder, half=True)
        path = HERE / f"{name}.json"
        result = json.loads(path.read_text())
        shipped = next(run for run in result["runs"] if run["seed"] == result["shipped"])
        scored, _ = score_readable(model, split["val"])
        threshold = model.config.threshold
        rows, scores = (
            [entry.row for entry in scored],
            torch.tensor([entry.score for entry in scored]).numpy(),
        )
        shipped["validation_auc"] = summarize(rows, scores, threshold)["auc"]
        metrics = evaluate_scores(model, score_readable(model, split["test"])[0])
        shipped |= {key: value for key, value in metrics.items() if key not in ("windows", "trained_on")}
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
