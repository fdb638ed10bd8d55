"""The figures of an evaluation: functions of labels and scores that draw on an Axes and return it.

Labels are ``(N,)``, fake = 1; scores are ``(N,)``, probability of fake. Colours are those of
`avff_lib.plots`, and meaning never rests on colour alone. Both classes must be present.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from scipy.stats import norm
from sklearn.metrics import (
    average_precision_score,
    det_curve,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from avff_lib.evaluation.calibration import Reliability
from avff_lib.evaluation.metrics import equal_error_rate
from avff_lib.evaluation.summary import confusion
from avff_lib.plots import FAKE, NEUTRAL, REAL

DET_TICKS = np.array([0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95])


def plot_roc(
    labels: np.ndarray, scores: np.ndarray, threshold: float | None = None, *, ax: Axes | None = None
) -> Axes:
    """Share of fakes found over share of genuine clips accused; a ring marks ``threshold``."""
    ax = ax or _square_axes()
    false_alarms, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    ax.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", linewidth=1, label="chance")
    auc = roc_auc_score(labels, scores)
    # Straight over ties, as the AUC is.
    ax.plot(false_alarms, hits, color=FAKE, label=f"detector, AUC {auc:.3f}")
    if threshold is not None:
        x, y = _error_rates(labels, scores, threshold)
        ax.plot(x, 1 - y, "o", color="black", fillstyle="none", label=f"threshold {threshold:.2f}")
    ax.set(xlabel="false positive rate", ylabel="true positive rate", title=f"ROC, {_basis(labels)}")
    ax.legend(loc="lower right")
    return ax


def plot_precision_recall(labels: np.ndarray, scores: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """Share of fakes among the accused, over share of fakes found; guessing gives the share of fakes."""
    ax = ax or _square_axes()
    precision, recall, _ = precision_recall_curve(labels, scores)
    share = labels.mean()
    ax.axhline(share, color=NEUTRAL, linestyle=":", linewidth=1, label=f"chance, {share:.2f}")
    # From the right end to the left: a step holds the precision of the threshold that reaches it.
    ap = average_precision_score(labels, scores)
    ax.step(recall, precision, where="post", color=FAKE, label=f"detector, AP {ap:.3f}")
    ax.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02), title=f"PR, {_basis(labels)}")
    ax.legend(loc="lower left")
    return ax


def plot_det(labels: np.ndarray, scores: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """Misses over false alarms, on scales where two normal distributions give a straight line.

    Source: Martin et al. 1997, The DET curve in assessment of detection task performance. Rates of 0 and 1,
    which these scales do not have, are drawn at the edges.
    """
    ax = ax or _square_axes()
    low, high = DET_TICKS[[0, -1]]
    false_alarms, misses, _ = det_curve(labels, scores)
    curve = norm.ppf(np.clip([false_alarms, misses], low, high))
    eer = equal_error_rate(labels, scores)
    ax.plot(norm.ppf([low, high]), norm.ppf([low, high]), color=NEUTRAL, linestyle=":", linewidth=1)
    ax.step(*curve, where="post", color=FAKE, label="detector")
    point = norm.ppf(np.clip(eer, low, high))
    ax.plot(point, point, "o", color="black", fillstyle="none", label=f"equal error rate {eer:.3f}")
    names = [f"{rate:.1%}" if rate < 0.01 else f"{rate:.0%}" for rate in DET_TICKS]
    ax.set_xticks(norm.ppf(DET_TICKS), names)
    ax.set_yticks(norm.ppf(DET_TICKS), names)
    ax.set(xlabel="false positive rate", ylabel="false negative rate", title=f"DET, {_basis(labels)}")
    ax.legend(loc="upper right")
    return ax


def plot_histograms(
    labels: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    unsure: tuple[float, float] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """How the scores of either class are spread, as shares of its own clips; the unsure range is shaded."""
    ax = ax or _wide_axes()
    if unsure is not None:
        name = f"unsure, {unsure[0]:.2f}–{unsure[1]:.2f}"
        ax.axvspan(*unsure, color=NEUTRAL, alpha=0.15, linewidth=0, label=name)
    for label, name, color, hatch in ((0, "genuine", REAL, ""), (1, "fake", FAKE, "//")):
        own = scores[labels == label]
        ax.hist(
            own,
            bins=np.linspace(0, 1, 21),
            weights=np.full(len(own), 1 / max(len(own), 1)),
            histtype="stepfilled",
            facecolor=(color, 0.25),
            edgecolor=color,
            hatch=hatch,
            label=f"{len(own)} {name} clips",
        )
    ax.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:.2f}")
    ax.set(xlabel="probability of fake", ylabel="share of the class", title=f"Scores, {_basis(labels)}")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_confusion(
    labels: np.ndarray, scores: np.ndarray, threshold: float, *, ax: Axes | None = None
) -> Axes:
    """What clips are, and what they are called at ``threshold``: counts, and shares of each row."""
    ax = ax or _square_axes()
    found = confusion(labels, scores, threshold)
    table = np.array(
        [
            [found["true_negatives"], found["false_positives"]],
            [found["false_negatives"], found["true_positives"]],
        ]
    )
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{table[row, column]}\n{share:.0%}"
        ax.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black")
    ax.set_xticks([0, 1], ["real", "fake"])
    ax.set_yticks([0, 1], ["genuine", "fake"])
    ax.set(xlabel="called", ylabel="is", title=f"Threshold {threshold:.2f}, {_basis(labels)}")
    return ax


def plot_reliability(labels: np.ndarray, scores: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """Share of fakes over the score they got, both classes weighing the same, in bins.

    The area of a mark is the weight of its bin, the number beside it how many clips are in it.
    """
    ax = ax or _square_axes()
    found = Reliability.of(labels, scores)
    ax.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", linewidth=1, label="calibrated")
    ax.scatter(found.score, found.share, s=10 + 600 * found.weight, color=FAKE, alpha=0.6, clip_on=False)
    for score, share, clips in zip(found.score, found.share, found.clips, strict=True):
        if clips:
            ax.annotate(
                f"{clips}", (score, share), xytext=(6, -10), textcoords="offset points", fontsize="small"
            )
    title = f"ECE {found.ece:.3f}, Brier {found.brier:.3f}\n{_basis(labels)}"
    ax.set(
        xlabel="probability of fake",
        ylabel="share of fakes",
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
        title=title,
    )
    ax.legend(loc="upper left")
    return ax


def _error_rates(labels: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, float]:
    """Shares of the genuine clips that are accused, and of the fakes that are missed."""
    return float((scores[labels == 0] >= threshold).mean()), float((scores[labels == 1] < threshold).mean())


def _basis(labels: np.ndarray) -> str:
    """What a figure rests on, for its title."""
    return f"{(labels == 0).sum()} genuine, {(labels == 1).sum()} fake"


def _square_axes() -> Axes:
    return plt.subplots(figsize=(4.5, 4.5), layout="constrained")[1]


def _wide_axes() -> Axes:
    return plt.subplots(figsize=(7.0, 3.0), layout="constrained")[1]
