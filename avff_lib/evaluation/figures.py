"""The figures of an evaluation: functions of labels and scores that draw on an Axes and return it.

Labels are ``(N,)``, fake = 1; scores are ``(N,)``, probability of fake. Curves and the confusion matrix are
scikit-learn's displays in the colours of `avff_lib.plots`; colour is never the only cue. Both classes must be
present.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from scipy.stats import norm
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    DetCurveDisplay,
    PrecisionRecallDisplay,
    RocCurveDisplay,
    average_precision_score,
    confusion_matrix,
    roc_auc_score,
)

from avff_lib.evaluation.calibration import Reliability
from avff_lib.evaluation.metrics import equal_error_rate
from avff_lib.plots import FAKE, NEUTRAL, REAL, legend_below

DET_LIMITS = (0.0008, 0.96)  # error rates at the ends of both axes


def plot_roc(
    labels: np.ndarray, scores: np.ndarray, threshold: float | None = None, *, ax: Axes | None = None
) -> Axes:
    """True positive rate over false positive rate; a ring marks ``threshold``."""
    ax = ax or _square_axes()
    auc = roc_auc_score(labels, scores)
    chance = {"color": NEUTRAL, "linestyle": ":", "linewidth": 1, "label": "chance"}
    display = RocCurveDisplay.from_predictions(
        labels, scores, ax=ax, drop_intermediate=False, plot_chance_level=True, chance_level_kw=chance
    )
    display.line_.set(color=FAKE, label=f"detector, AUC {auc:.3f}")
    if threshold is not None:
        fpr = (scores[labels == 0] >= threshold).mean()
        tpr = (scores[labels == 1] >= threshold).mean()
        ax.plot(fpr, tpr, "o", color=NEUTRAL, fillstyle="none", label=f"threshold {threshold:.2f}")
    ax.set(xlabel="false positive rate", ylabel="true positive rate", title=f"ROC, {_basis(labels)}")
    ax.legend(loc="lower right")
    return ax


def plot_precision_recall(labels: np.ndarray, scores: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """Precision over recall; a random detector's precision is the share of fakes."""
    ax = ax or _square_axes()
    ap = average_precision_score(labels, scores)
    chance = {"color": NEUTRAL, "linestyle": ":", "linewidth": 1, "label": f"chance, {labels.mean():.2f}"}
    display = PrecisionRecallDisplay.from_predictions(
        labels, scores, ax=ax, plot_chance_level=True, chance_level_kw=chance
    )
    display.line_.set(color=FAKE, label=f"detector, AP {ap:.3f}")
    ax.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02), title=f"PR, {_basis(labels)}")
    ax.legend(loc="lower left")
    return ax


def plot_det(labels: np.ndarray, scores: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """False negative rate over false positive rate, on scales where normally distributed scores give a line.

    Rates of 0 and 1 are infinitely far away on these scales, and lie outside the axes.
    Source: Martin et al. 1997, The DET curve in assessment of detection task performance.
    """
    ax = ax or _square_axes()
    DetCurveDisplay.from_predictions(
        labels, scores, ax=ax, name="detector", color=FAKE, drawstyle="steps-post"
    )
    low, high = norm.ppf(DET_LIMITS)
    ax.plot([low, high], [low, high], color=NEUTRAL, linestyle=":", linewidth=1)
    eer = equal_error_rate(labels, scores)
    point = norm.ppf(np.clip(eer, *DET_LIMITS))
    ax.plot(
        point, point, "o", color=NEUTRAL, fillstyle="none", clip_on=False, label=f"equal error rate {eer:.3f}"
    )
    ax.set(xlabel="false positive rate", ylabel="false negative rate", title=f"DET, {_basis(labels)}")
    ax.set(xlim=(low, high), ylim=(low, high))
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
    """Histograms of the scores, as shares of the clips of each class; the unsure range is shaded."""
    ax = ax or _wide_axes()
    if unsure is not None:
        name = f"unsure, {unsure[0]:.2f}–{unsure[1]:.2f}"
        ax.axvspan(*unsure, color=NEUTRAL, alpha=0.15, linewidth=0, label=name)
    for label, name, color, hatch in ((0, "real", REAL, ""), (1, "fake", FAKE, "//")):
        own = scores[labels == label]
        ax.hist(
            own,
            bins=np.linspace(0, 1, 21).tolist(),
            weights=np.full(len(own), 1 / max(len(own), 1)),
            histtype="stepfilled",
            facecolor=(color, 0.25),
            edgecolor=color,
            hatch=hatch,
            label=f"{len(own)} {name} clips",
        )
    ax.axvline(threshold, color=NEUTRAL, linestyle="--", linewidth=1, label=f"threshold {threshold:.2f}")
    ax.set(xlabel="probability of fake", ylabel="share of the class", title=f"Scores, {_basis(labels)}")
    legend_below(ax)
    return ax


def plot_confusion(
    labels: np.ndarray, scores: np.ndarray, threshold: float, *, ax: Axes | None = None
) -> Axes:
    """Confusion matrix at ``threshold``: counts, and shares of each row."""
    ax = ax or _square_axes()
    counts = confusion_matrix(labels, scores >= threshold, labels=[0, 1])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    display = ConfusionMatrixDisplay(shares, display_labels=["real", "fake"])
    display.plot(ax=ax, cmap="Blues", colorbar=False, im_kw={"vmin": 0, "vmax": 1})
    for cell, share in np.ndenumerate(shares):  # the display shows counts or shares, not both
        display.text_[cell].set_text(f"{counts[cell]}\n{share:.0%}")
        display.text_[cell].set_color("white" if share > 0.5 else "black")
    ax.set(xlabel="predicted", ylabel="label", title=f"Threshold {threshold:.2f}, {_basis(labels)}")
    return ax


def plot_reliability(labels: np.ndarray, scores: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """Share of fakes over the score, in bins, with equal weight on both classes.

    The area of a mark grows with the weight of its bin. scikit-learn's ``CalibrationDisplay`` takes no
    weights, so it shows a balanced detector as miscalibrated if one class has more clips.
    """
    ax = ax or _square_axes()
    reliability = Reliability.of(labels, scores)
    ax.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", linewidth=1, label="calibrated")
    sizes = 10 + 600 * reliability.weight
    ax.scatter(reliability.score, reliability.share, s=sizes, color=FAKE, alpha=0.6, clip_on=False)
    ax.set(xlabel="probability of fake", ylabel="share of fakes", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    ax.set_title(f"ECE {reliability.ece:.3f}, Brier {reliability.brier:.3f}\n{_basis(labels)}")
    ax.legend(loc="upper left")
    return ax


def _basis(labels: np.ndarray) -> str:
    """Number of clips of each class, for the title."""
    return f"{(labels == 0).sum()} real, {(labels == 1).sum()} fake"


def _square_axes() -> Axes:
    return plt.subplots(figsize=(4.5, 4.5), layout="constrained")[1]


def _wide_axes() -> Axes:
    return plt.subplots(figsize=(7.0, 3.6), layout="constrained")[1]
