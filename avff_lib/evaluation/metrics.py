"""Scores and labels -> the numbers of the field, by scikit-learn; fake = 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score, roc_curve

from avff_lib.data.manifest import Row


def equal_error_rate(labels: np.ndarray, scores: np.ndarray) -> float:
    """Error rate at the threshold where false alarms and misses are equally frequent.

    Args:
        labels: ``(N,)``, 0 or 1, both present.
        scores: ``(N,)``, higher is more fake.
    """
    false_alarms, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    misses = 1 - hits
    # Both curves are known at the same thresholds only; between two of them they are straight.
    after = int(np.argmax(misses <= false_alarms))
    before = max(after - 1, 0)
    gap_before, gap_after = misses[before] - false_alarms[before], misses[after] - false_alarms[after]
    share = 0.0 if gap_before == gap_after else gap_before / (gap_before - gap_after)
    return float(false_alarms[before] + share * (false_alarms[after] - false_alarms[before]))


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Threshold with the highest balanced accuracy, halfway between the scores on its two sides.

    For validation data only: a threshold fitted on test data flatters.
    """
    false_alarms, hits, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    best = int(np.argmax(hits - false_alarms))
    above = thresholds[best]
    below = scores[scores < above]
    return float((above + below.max()) / 2 if len(below) else above)


def binary_metrics(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float | None]:
    """AUC, AP, EER and balanced accuracy; None where a class is missing, for none is defined then."""
    if len(set(labels.tolist())) < 2:
        return dict.fromkeys(("auc", "ap", "eer", "balanced_accuracy"))
    return {
        "auc": float(roc_auc_score(labels, scores)),
        "ap": float(average_precision_score(labels, scores)),
        "eer": equal_error_rate(labels, scores),
        "balanced_accuracy": float(balanced_accuracy_score(labels, scores >= threshold)),
    }


def summarise(rows: Sequence[Row], scores: np.ndarray, threshold: float) -> dict:
    """All metrics overall, and for each category and method of forgery against all genuine clips.

    Args:
        rows: of the clips that were scored.
        scores: ``(N,)`` probability of fake for each.
        threshold: from which a clip is called fake.

    Returns:
        ``auc, ap, eer, balanced_accuracy, by_category, by_method, counts``.
    """
    labels = np.array([row.label for row in rows], dtype=int)

    def against_genuine(names: list[str]) -> dict[str, dict]:
        groups = {}
        for name in sorted({name for name, label in zip(names, labels, strict=True) if label}):
            chosen = (labels == 0) | (np.array(names) == name)
            metrics = binary_metrics(labels[chosen], scores[chosen], threshold)
            groups[name] = {**metrics, "clips": int(labels[chosen].sum())}
        return groups

    return {
        **binary_metrics(labels, scores, threshold),
        "by_category": against_genuine([row.category for row in rows]),
        "by_method": against_genuine([row.method for row in rows]),
        "counts": {"clips": len(labels), "genuine": int((labels == 0).sum()), "fake": int(labels.sum())},
    }


def bootstrap_auc(
    labels: np.ndarray,
    scores: np.ndarray,
    identities: np.ndarray,
    rng: np.random.Generator,
    resamples: int = 2000,
) -> tuple[float, float]:
    """95 % interval of the AUC, over other people who might have been in the test.

    People are drawn with replacement, each with all of their clips: clips of one person are alike, and
    drawing clips would make the interval too narrow. Source: Efron and Tibshirani 1993, chapter 13
    (percentiles); Field and Welsh 2007 (whole clusters). Draws that lack a class are left out.

    Args:
        labels: ``(N,)``, 0 or 1, both present.
        scores: ``(N,)``, higher is more fake.
        identities: ``(N,)``, who is in each clip.
        rng: draws the people.
        resamples: number of draws.

    Returns:
        The 2.5th and the 97.5th percentile.
    """
    names, person = np.unique(identities, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)  # (R, people)
    times = drawn[:, person].astype(float)  # (R, N), how often each clip is in a draw
    fake = labels == 1
    pairs = scores[fake, None] - scores[None, ~fake]
    won = (pairs > 0) + 0.5 * (pairs == 0)  # (fake, genuine): 1 where the fake has the higher score
    wins = ((times[:, fake] @ won) * times[:, ~fake]).sum(axis=1)
    total = times[:, fake].sum(axis=1) * times[:, ~fake].sum(axis=1)
    low, high = np.quantile(wins[total > 0] / total[total > 0], [0.025, 0.975])
    return float(low), float(high)
