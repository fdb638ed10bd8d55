"""Rows and scores -> every metric overall and by group, and the numbers of clips and identities behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from avff_lib.data.manifest import Row
from avff_lib.evaluation.calibration import Reliability
from avff_lib.evaluation.metrics import LOW_FPR, binary_metrics, bootstrap_intervals

MIN_IDENTITIES = 10  # fewer make the intervals too narrow
MIN_REAL_CLIPS = round(1 / LOW_FPR)  # fewer cannot show a false positive rate of 1 %


def summarize(rows: Sequence[Row], scores: np.ndarray, threshold: float, seed: int = 0) -> dict[str, Any]:
    """All metrics of files: overall, and by category, method, and group of people.

    The fakes of a category or a method are compared with all real clips; a group of people with the real
    clips of the same group. A metric that is not defined is left out, and ``notes`` gives the reason.

    Args:
        rows: those of the scored clips.
        scores: ``(N,)`` probability of fake for each.
        threshold: score at and above which a clip is predicted fake.
        seed: of the bootstrap over identities.

    Returns:
        ``auc, ap, eer, tpr_at_1_fpr, balanced_accuracy``, each with its 95 % limits in ``interval``;
        ``confusion, calibration, counts, notes``; ``by_category, by_method, by_group``: for each name the
        same metrics and intervals, with the numbers of fake ``clips``, ``real`` clips, and ``identities``.
    """
    labels = np.array([row.label for row in rows], dtype=int)
    identities = np.array([row.source for row in rows])

    def metrics_of(chosen: np.ndarray) -> dict[str, Any]:
        part = (labels[chosen], scores[chosen], identities[chosen])
        counts = count_clips(*part)
        return {
            **compute_metrics(*part, threshold, seed),
            "clips": counts["fake"],
            "real": counts["real"],
            "identities": counts["identities"],
        }

    def fakes_by(names: np.ndarray) -> dict[str, dict[str, Any]]:
        kinds = np.unique(names[labels == 1]).tolist()
        return {kind: metrics_of((names == kind) | (labels == 0)) for kind in kinds}

    groups = np.array([row.group for row in rows])
    summary = {
        **compute_metrics(labels, scores, identities, threshold, seed),
        "confusion": confusion_counts(labels, scores, threshold),
        "calibration": {
            **Reliability.of(labels, scores).to_json(),
            "ece_by_chance": Reliability.ece_by_chance(labels, scores, np.random.default_rng(seed)),
        },
        "by_category": fakes_by(np.array([row.category for row in rows])),
        "by_method": fakes_by(np.array([row.method for row in rows])),
        "by_group": {name: metrics_of(groups == name) for name in np.unique(groups).tolist() if name},
        "counts": count_clips(labels, scores, identities),
    }
    return {**summary, "notes": _notes(summary)}


def compute_metrics(
    labels: np.ndarray, scores: np.ndarray, identities: np.ndarray, threshold: float, seed: int = 0
) -> dict[str, Any]:
    """The metrics that are defined, and ``interval`` with the 95 % limits of each.

    Args:
        labels, scores, identities: ``(N,)``; of windows or files.
        threshold: of the balanced accuracy.
        seed: of the bootstrap over identities; a single identity has no intervals.
    """
    metrics: dict[str, Any] = {
        name: value for name, value in binary_metrics(labels, scores, threshold).items() if value is not None
    }
    if metrics and len(set(identities.tolist())) > 1:
        rng = np.random.default_rng(seed)
        metrics["interval"] = bootstrap_intervals(labels, scores, identities, rng, threshold)
    return metrics


def count_clips(labels: np.ndarray, scores: np.ndarray, identities: np.ndarray) -> dict[str, int]:
    """Sample sizes: ``clips, real, fake, identities``."""
    return {
        "clips": len(scores),
        "real": int((labels == 0).sum()),
        "fake": int((labels == 1).sum()),
        "identities": len(set(identities.tolist())),
    }


def confusion_counts(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, int]:
    """Confusion matrix by name; positive is fake."""
    counts = confusion_matrix(labels, scores >= threshold, labels=[0, 1]).ravel().tolist()
    names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    return dict(zip(names, counts, strict=True))


def _notes(summary: dict[str, Any]) -> list[str]:
    """What a reader must know about the numbers, one sentence each."""
    counts = summary["counts"]
    for label in ("real", "fake"):
        if not counts[label]:
            return [f"None of the {counts['clips']} clips is {label}, so no metric that compares is defined."]
    notes = []
    if counts["real"] < MIN_REAL_CLIPS:
        notes.append(
            f"A false positive rate of 1 % needs at least {MIN_REAL_CLIPS} real clips to be measured; with "
            f"{counts['real']} the TPR at 1 % FPR allows no false positive at all."
        )
    if counts["identities"] < MIN_IDENTITIES:
        notes.append(
            f"The intervals draw among {counts['identities']} people; with fewer than {MIN_IDENTITIES} "
            "they are too narrow, or missing."
        )
    blocks = [block for by in ("category", "method", "group") for block in summary[f"by_{by}"].values()]
    if any(block.get("auc") == 1 for block in [summary, *blocks]):
        notes.append(
            "An AUC of 1 has an interval of width 0, since a bootstrap draws only what was observed; "
            "the true AUC may be lower."
        )
    for name, block in summary["by_group"].items():
        if "auc" not in block:
            notes.append(
                f"The group {name} has {block['real']} real and {block['clips']} fake clips; its "
                "metrics need both and are left out."
            )
    return notes
