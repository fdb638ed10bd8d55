"""The AUC of the training-free baseline on the drawn corpus, method by method.

    python results/sync_drawn.py

Clips are made and measured in memory; fakes are fake throughout. A low correlation at lag zero counts as a
sign of a fake. The intervals are those of Hanley and McNeil (1982) at 95 %.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tyro
from sklearn.metrics import roc_auc_score

from avff_lib.inference.sync import SyncCurve, measure_sync
from avff_lib.synth import make_clip, plan_corpus
from avff_lib.synth.recording import DURATION, ClipPlan
from avff_lib.utils.parallel import parallel_map

SETTINGS = {"clips": 700, "identities": 120, "seed": 11, "level": "medium"}
REAL_CLIPS, FAKE_CLIPS = 60, 25  # clips of each method
RESULTS = Path(__file__).with_name("sync-drawn.json")


def measure(plan: ClipPlan) -> SyncCurve:
    return measure_sync(make_clip(plan))


def interval(auc: float, fakes: int, real: int) -> list[float]:
    """95 % interval of an AUC, clipped to [0, 1]."""
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (fakes - 1) * (first - auc**2) + (real - 1) * (second - auc**2)
    half = 1.96 * np.sqrt(variance / (fakes * real))
    return [round(float(np.clip(auc + side * half, 0, 1)), 3) for side in (-1, 1)]


def main(workers: int = 2) -> None:
    """Make, measure, write ``sync-drawn.json``.

    Args:
        workers: number of processes.
    """
    chosen: dict[str, list[ClipPlan]] = {}
    for plan in plan_corpus(**SETTINGS):
        members = chosen.setdefault(plan.method, [])
        whole = plan.segment in (None, (0.0, DURATION))
        if whole and len(members) < (REAL_CLIPS if plan.method == "real" else FAKE_CLIPS):
            members.append(plan)
    plans = [plan for members in chosen.values() for plan in members]
    measured = list(parallel_map(measure, plans, workers, description="measuring"))
    methods = np.array([plan.method for plan in plans])
    at_zero = np.array([found.correlation_at_zero for found in measured])
    lags = np.array([found.lag for found in measured])

    real = methods == "real"
    result = {
        "command": "python results/sync_drawn.py",
        "corpus": SETTINGS,
        "real": {
            "clips": int(real.sum()),
            "lag at most 80 ms": round(float(np.mean(np.abs(lags[real]) < 0.081)), 3),
        },
        "methods": {},
    }
    for method in sorted(chosen.keys() - {"real"}):
        picked = real | (methods == method)
        auc = float(roc_auc_score(~real[picked], -at_zero[picked]))
        count = int((methods == method).sum())
        result["methods"][method] = {
            "clips": count,
            "auc": round(auc, 3),
            "interval": interval(auc, count, int(real.sum())),
        }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
