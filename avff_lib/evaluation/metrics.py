"""Scores and labels -> the metrics of the field, and their intervals; fake = 1.

The metrics are scikit-learn's, with two exceptions. scikit-learn lacks the equal error rate, and torchmetrics
(``binary_eer``) does not interpolate it, so with few clips its two error rates differ.
``scipy.stats.bootstrap`` draws only single clips, not identities.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score, roc_curve

METRICS = ("auc", "ap", "eer", "tpr_at_1_fpr", "balanced_accuracy")
LOW_FPR = 0.01
RESAMPLES = 2000
BOOTSTRAP_CHUNK = 4_000_000  # numbers that a bootstrap holds in each of its arrays, 32 MB


def equal_error_rate(labels: np.ndarray, scores: np.ndarray) -> float:
    """Error rate at the threshold where false positives and false negatives are equally frequent.

    Args:
        labels: ``(N,)``, 0 or 1, both present.
        scores: ``(N,)``, higher is more fake.
    """
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(_crossing(fpr[None], 1 - tpr[None])[0])


def tpr_at_fpr(labels: np.ndarray, scores: np.ndarray, max_fpr: float = LOW_FPR) -> float:
    """Highest true positive rate at a false positive rate of at most ``max_fpr``.

    Nothing is interpolated: with fewer than ``1 / max_fpr`` real clips no false positive is allowed.

    Args:
        labels, scores: as in `equal_error_rate`.
        max_fpr: in [0, 1].
    """
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(tpr[fpr <= max_fpr].max())


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Threshold with the highest balanced accuracy, halfway between the scores on its two sides.

    For validation data only: a threshold fitted on test data gives optimistic results.
    """
    fpr, tpr, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    best = int(np.argmax(tpr - fpr))
    above = thresholds[best]
    below = scores[scores < above]
    return float((above + below.max()) / 2 if len(below) else above)


def risk_coverage_curve(wrong: np.ndarray, confidences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of wrong labels among those given, for every number of labels that can be given.

    Source: El-Yaniv and Wiener 2010, section 2 (selective classification).

    Args:
        wrong: ``(N,)`` bool, whether the label of a clip would be wrong.
        confidences: ``(N,)``; the most confident clips are labelled first.

    Returns:
        Coverage ``(N,)``, the share of clips that are labelled, ascending to 1, and the risk ``(N,)`` there.
    """
    order = np.argsort(-confidences, kind="stable")
    labelled = np.arange(1, len(wrong) + 1)
    return labelled / len(wrong), np.cumsum(wrong[order]) / labelled


def binary_metrics(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float | None]:
    """The `METRICS` of a set of clips; None if a class is missing, since they are then undefined.

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
    """95 % intervals of the `METRICS`, by a bootstrap over identities.

    Identities are drawn with replacement, each with all of its clips: clips of one person are similar, and
    drawing single clips would make the intervals too narrow. Draws that lack a class are left out. With fewer
    than about ten identities, the intervals are still too narrow.
    Source: Efron and Tibshirani 1993, chapter 13 (percentiles); Field and Welsh 2007 (whole clusters).

    Args:
        labels: ``(N,)``, 0 or 1, both present.
        scores: ``(N,)``, higher is more fake.
        identities: ``(N,)``, one for each clip.
        rng: draws the identities.
        threshold: of the balanced accuracy.
        resamples: number of draws.

    Returns:
        The 2.5th and the 97.5th percentile of each metric.
    """
    names, member = np.unique(identities, return_inverse=True)
    drawn = rng.multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=resamples
    )  # (R, identities)
    parts = np.array_split(drawn, -(-drawn.shape[0] * len(labels) // BOOTSTRAP_CHUNK))
    values = [_metrics_of_draws(labels, scores, part[:, member], threshold) for part in parts]
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
    """95 % interval of the AUC over identities; see `bootstrap_intervals`."""
    return bootstrap_intervals(labels, scores, identities, rng, resamples=resamples)["auc"]


def _metrics_of_draws(
    labels: np.ndarray, scores: np.ndarray, times: np.ndarray, threshold: float
) -> dict[str, np.ndarray]:
    """The `METRICS` ``(R,)`` of R draws at once; ``times`` ``(R, N)`` is how often each clip is drawn.

    The numbers equal those of `binary_metrics`, a hundred times faster than with scikit-learn draw by draw:
    the clips are sorted once, and each draw is a running sum over them.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # ties share one point of the curve

    def at_or_above(label: int) -> np.ndarray:
        counts = np.cumsum(times[:, order] * (labels[order] == label), axis=1)[:, ends]
        return np.pad(counts.astype(float), ((0, 0), (1, 0)))  # (R, K), from none to all

    fakes, real = at_or_above(1), at_or_above(0)
    both = (fakes[:, -1] > 0) & (real[:, -1] > 0)
    fakes, real = fakes[both], real[both]
    tpr, fpr = fakes / fakes[:, -1:], real / real[:, -1:]
    precision = fakes[:, 1:] / np.maximum(fakes[:, 1:] + real[:, 1:], 1)
    at = int((scores[order][ends] >= threshold).sum())  # point of the curve that belongs to the threshold
    return {
        "auc": (np.diff(fpr) * (tpr[:, 1:] + tpr[:, :-1]) / 2).sum(axis=1),
        "ap": (np.diff(tpr) * precision).sum(axis=1),
        "eer": _crossing(fpr, 1 - tpr),
        "tpr_at_1_fpr": np.where(fpr <= LOW_FPR, tpr, 0).max(axis=1),
        "balanced_accuracy": (tpr[:, at] + 1 - fpr[:, at]) / 2,
    }


def _crossing(fpr: np.ndarray, fnr: np.ndarray) -> np.ndarray:
    """Equal error rates ``(R,)``: where the rising ``fpr`` ``(R, K)`` meets the falling ``fnr``.

    Both are known only at the same thresholds; between them they are interpolated linearly.
    """
    after = np.argmax(fnr <= fpr, axis=1)[:, None]
    before = np.maximum(after - 1, 0)
    fpr_before, fpr_after = (np.take_along_axis(fpr, index, axis=1)[:, 0] for index in (before, after))
    gaps = fnr - fpr
    gap_before, gap_after = (np.take_along_axis(gaps, index, axis=1)[:, 0] for index in (before, after))
    change = gap_before - gap_after
    share = np.divide(gap_before, change, out=np.zeros_like(gap_before), where=change != 0)
    return fpr_before + share * (fpr_after - fpr_before)
