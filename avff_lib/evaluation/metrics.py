"""Scores and labels -> the numbers of the field, by scikit-learn, and how sure they are; fake = 1."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score, roc_curve

METRICS = ("auc", "ap", "eer", "tpr_at_1_fpr", "balanced_accuracy")
LOW_FPR = 0.01
RESAMPLES = 2000
AT_ONCE = 4_000_000  # numbers that a bootstrap holds in each of its arrays, 32 MB


def equal_error_rate(labels: np.ndarray, scores: np.ndarray) -> float:
    """Error rate at the threshold where false alarms and misses are equally frequent.

    Args:
        labels: ``(N,)``, 0 or 1, both present.
        scores: ``(N,)``, higher is more fake.
    """
    false_alarms, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(_crossing(false_alarms[None], 1 - hits[None])[0])


def tpr_at_fpr(labels: np.ndarray, scores: np.ndarray, fpr: float = LOW_FPR) -> float:
    """Largest share of fakes that is found while at most ``fpr`` of the genuine clips are accused.

    Nothing is interpolated: with fewer than ``1 / fpr`` genuine clips none of them may be accused.

    Args:
        labels, scores: as in `equal_error_rate`.
        fpr: in [0, 1].
    """
    false_alarms, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(hits[false_alarms <= fpr].max())


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
    """The `METRICS` of a set of clips; None where a class is missing, for none is defined then.

    AUC, average precision, equal error rate, true positive rate at 1 % false positives, and balanced
    accuracy at ``threshold``.
    """
    if len(set(labels.tolist())) < 2:
        return dict.fromkeys(METRICS)
    return {
        "auc": float(roc_auc_score(labels, scores)),
        "ap": float(average_precision_score(labels, scores)),
        "eer": equal_error_rate(labels, scores),
        "tpr_at_1_fpr": tpr_at_fpr(labels, scores),
        "balanced_accuracy": float(balanced_accuracy_score(labels, scores >= threshold)),
    }


def bootstrap_intervals(
    labels: np.ndarray,
    scores: np.ndarray,
    identities: np.ndarray,
    rng: np.random.Generator,
    threshold: float = 0.5,
    resamples: int = RESAMPLES,
) -> dict[str, tuple[float, float]]:
    """95 % intervals of the `METRICS`, over other people who might have been in the test.

    People are drawn with replacement, each with all of their clips: clips of one person are alike, and
    drawing clips would make the interval too narrow. Source: Efron and Tibshirani 1993, chapter 13
    (percentiles); Field and Welsh 2007 (whole clusters). Draws that lack a class are left out.
    With fewer than some ten people the intervals are too narrow still.

    Args:
        labels: ``(N,)``, 0 or 1, both present.
        scores: ``(N,)``, higher is more fake.
        identities: ``(N,)``, who is in each clip.
        rng: draws the people.
        threshold: of the balanced accuracy.
        resamples: number of draws.

    Returns:
        The 2.5th and the 97.5th percentile of each metric.
    """
    names, person = np.unique(identities, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)  # (R, people)
    parts = np.array_split(drawn, -(-drawn.shape[0] * len(labels) // AT_ONCE))
    values = [_metrics_of_draws(labels, scores, part[:, person], threshold) for part in parts]
    return {
        name: tuple(np.quantile(np.concatenate([part[name] for part in values]), [0.025, 0.975]).tolist())
        for name in METRICS
    }


def bootstrap_auc(
    labels: np.ndarray,
    scores: np.ndarray,
    identities: np.ndarray,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """95 % interval of the AUC over people; see `bootstrap_intervals`."""
    return bootstrap_intervals(labels, scores, identities, rng, resamples=resamples)["auc"]


def _metrics_of_draws(
    labels: np.ndarray, scores: np.ndarray, times: np.ndarray, threshold: float
) -> dict[str, np.ndarray]:
    """The `METRICS` ``(R,)`` of R draws at once, where ``times`` ``(R, N)`` says how often a clip is drawn.

    The same numbers as `binary_metrics`, many times as fast as asking scikit-learn draw by draw: the
    clips are sorted once, and each draw is a running sum over them.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # ties share one point of the curve

    def at_or_above(label: int) -> np.ndarray:
        counts = np.cumsum(times[:, order] * (labels[order] == label), axis=1)[:, ends]
        return np.pad(counts.astype(float), ((0, 0), (1, 0)))  # (R, K), from none to all

    fakes, genuine = at_or_above(1), at_or_above(0)
    whole = (fakes[:, -1] > 0) & (genuine[:, -1] > 0)
    fakes, genuine = fakes[whole], genuine[whole]
    hits, false_alarms = fakes / fakes[:, -1:], genuine / genuine[:, -1:]
    precision = fakes[:, 1:] / np.maximum(fakes[:, 1:] + genuine[:, 1:], 1)
    below = int((scores[order][ends] >= threshold).sum())  # points of the curve up to the threshold
    return {
        "auc": (np.diff(false_alarms) * (hits[:, 1:] + hits[:, :-1]) / 2).sum(axis=1),
        "ap": (np.diff(hits) * precision).sum(axis=1),
        "eer": _crossing(false_alarms, 1 - hits),
        "tpr_at_1_fpr": np.where(false_alarms <= LOW_FPR, hits, 0).max(axis=1),
        "balanced_accuracy": (hits[:, below] + 1 - false_alarms[:, below]) / 2,
    }


def _crossing(false_alarms: np.ndarray, misses: np.ndarray) -> np.ndarray:
    """Where the rising false alarms ``(R, K)`` meet the falling misses: the equal error rates ``(R,)``.

    Both are known at the same thresholds only; between two of them they are straight.
    """
    after = np.argmax(misses <= false_alarms, axis=1)[:, None]
    before = np.maximum(after - 1, 0)
    early, late = (np.take_along_axis(false_alarms, place, axis=1)[:, 0] for place in (before, after))
    gaps = misses - false_alarms
    gap, other = (np.take_along_axis(gaps, place, axis=1)[:, 0] for place in (before, after))
    share = np.divide(gap, gap - other, out=np.zeros_like(gap), where=gap != other)
    return early + share * (late - early)
