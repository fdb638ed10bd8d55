"""Calibration: temperature and bias, thresholds with a guaranteed error rate, reliability.

All of it is fitted on the scores of validation clips, whose people are in no other split, and measured on
test clips. Both classes have equal weight, whatever their numbers of clips: a probability of 0.5 means that
the score is as common among fakes as among real clips. Where one video in a thousand is fake, the odds are a
thousand times lower, which no detector can know.

Brier scores of avff-tiny by method of calibration, fitted on 120 validation and measured on 120 test clips,
and the other way round: none 0.090 and 0.096; temperature alone 0.089 and 0.095; temperature and bias of each
window, before the mean, 0.060 and 0.072; of the mean 0.047 and 0.054; isotonic regression of the mean 0.045
and 0.061, and its ties cost 0.012 and 0.007 of the AUC. We therefore use temperature and bias of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.metrics import brier_score_loss
from sklearn.model_selection import GroupKFold

from avff_lib.errors import AVFFError
from avff_lib.evaluation.metrics import best_threshold
from avff_lib.models.calibration import PROBABILITY_EPSILON, Calibration

TARGET_ERROR_RATE = 0.05  # on either side of the unsure range
CROSS_FIT_FOLDS = 5


def fit_platt_scaling(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Temperature T and bias b that minimise the cross-entropy of ``sigmoid(logit(score) / T + b)``.

    The labels are smoothed to ``(n + 1) / (n + 2)`` for n fakes and ``1 / (m + 2)`` for m real clips. Without
    smoothing, the best temperature for perfectly separated clips would be 0.

    scikit-learn's ``LogisticRegression`` finds the same optimum (a test checks this), but takes smoothed
    labels only as two weighted copies of each clip, and no bounds: a negative temperature would reverse the
    order of the scores. ``CalibratedClassifierCV`` needs a classifier to wrap.

    Sources: Guo et al. 2017, section 4.2 (temperature); Platt 1999, section 2.2 (bias, smoothed labels).

    Args:
        labels: ``(N,)``, 0 or 1, both present.
        scores: ``(N,)``, uncalibrated probabilities of fake.

    Returns:
        T in [0.05, 20] and b in [-10, 10]. If fakes score no higher than real clips, T is 20 and all
        calibrated scores are nearly equal.
    """
    logits = logit(np.clip(scores, PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON))
    weights = balanced_weights(labels)
    fakes = labels.sum()
    targets = np.where(labels == 1, (fakes + 1) / (fakes + 2), 1 / (len(labels) - fakes + 2))

    def cross_entropy(slope_and_bias: np.ndarray) -> tuple[float, np.ndarray]:
        calibrated = logits * slope_and_bias[0] + slope_and_bias[1]
        loss = (weights * (np.logaddexp(0, calibrated) - targets * calibrated)).sum()
        residuals = weights * (expit(calibrated) - targets)
        return float(loss), np.array([(residuals * logits).sum(), residuals.sum()])

    bounds = [(0.05, 20.0), (-10.0, 10.0)]
    optimum = minimize(cross_entropy, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-12)
    slope, bias = optimum.x
    return float(1 / slope), float(bias)


def balanced_weights(labels: np.ndarray) -> np.ndarray:
    """Weights ``(N,)`` that sum to 1, half of it on each class; uniform if a class is missing."""
    counts = np.bincount(labels, minlength=2)
    weights = 1.0 / np.maximum(counts, 1)[labels]
    return weights / weights.sum()


def clips_needed_for(error_rate: float) -> int:
    """Smallest number of clips of a class with which `threshold_at_fpr` can guarantee ``error_rate``."""
    return int(np.ceil(1 / error_rate - 1e-9)) - 1


def threshold_at_fpr(real: np.ndarray, target_fpr: float) -> float:
    """Lowest threshold that a new real clip reaches with a probability of at most ``target_fpr``.

    Among n real validation clips and a new one, each is equally likely to have one of the k highest scores,
    so k - 1 of the n may lie above, where ``k = floor(rate (n + 1))``. The guarantee is for clips of the same
    kind, drawn independently; with several clips of each person, it holds approximately.
    Source: Vovk, Gammerman and Shafer 2005, section 2.2 (conformal prediction), one class at a time.

    Args:
        real: ``(n,)`` scores of the real validation clips.
        target_fpr: false positive rate in (0, 1).

    Raises:
        AVFFError: there are too few clips for this guarantee.
    """
    check_target_fpr(target_fpr, len(real))
    allowed = int(target_fpr * (len(real) + 1) + 1e-9) - 1
    return float(np.sort(real)[len(real) - 1 - allowed] + PROBABILITY_EPSILON)


def check_target_fpr(target_fpr: float, real: int) -> None:
    """Check that ``real`` validation clips are enough for `threshold_at_fpr`.

    Raises:
        AVFFError: there are too few clips, or the rate is not in (0, 1).
    """
    if not 0 < target_fpr < 1:
        raise AVFFError(
            f"the false positive rate is {target_fpr}; expected a number between 0 and 1, such as 0.05"
        )
    if real < clips_needed_for(target_fpr):
        raise AVFFError(
            f"a false positive rate of {target_fpr:g} needs {clips_needed_for(target_fpr)} real validation "
            f"clips, there are {real}; add some, or choose a rate of at least {1 / (real + 1):.2g}"
        )


def choose_threshold(labels: np.ndarray, scores: np.ndarray, target_fpr: float | None) -> float:
    """Threshold with the best balanced accuracy, or with a false positive rate of ``target_fpr``, in (0, 1).

    Args:
        labels, scores: ``(N,)`` of validation clips, both classes present.
        target_fpr: see `threshold_at_fpr`.
    """
    if target_fpr is None:
        threshold = best_threshold(labels, scores)
    else:
        threshold = threshold_at_fpr(scores[labels == 0], target_fpr)
    return float(np.clip(threshold, PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON))


def cross_fit_errors(
    labels: np.ndarray, raw: np.ndarray, identities: np.ndarray, target_fpr: float | None = None
) -> tuple[float | None, float | None]:
    """False positive and false negative rate at the threshold, for people that were not used for fitting.

    A threshold is chosen to err least on the clips at hand, so its error rates on these are optimistic. Here
    each clip is judged by the calibration and threshold of the other folds, which share no person with its
    own.

    Args:
        labels: ``(N,)``, 0 or 1, both present.
        raw: ``(N,)`` uncalibrated probabilities of fake.
        identities: ``(N,)``, one for each clip.
        target_fpr: see `choose_threshold`.

    Returns:
        Both rates, or None for both if the folds cannot be made: if there are fewer than two people, or if
        the clips outside a fold lack a class or are too few for ``target_fpr``.
    """
    folds = min(CROSS_FIT_FOLDS, len(set(identities.tolist())))
    if folds < 2:
        return None, None
    fake = np.zeros(len(labels), bool)
    for train, test in GroupKFold(folds).split(raw, groups=identities):
        real = int((labels[train] == 0).sum())
        if real in (0, len(train)) or (target_fpr is not None and real < clips_needed_for(target_fpr)):
            return None, None
        calibration = Calibration(*fit_platt_scaling(labels[train], raw[train]))
        threshold = choose_threshold(labels[train], calibration.apply(raw[train]), target_fpr)
        fake[test] = calibration.apply(raw[test]) >= threshold
    return float(fake[labels == 0].mean()), float((~fake[labels == 1]).mean())


def unsure_range(
    labels: np.ndarray, scores: np.ndarray, threshold: float, error_rate: float = TARGET_ERROR_RATE
) -> tuple[float, float]:
    """Range of scores that are too uncertain to label: few real clips lie above it, and few fakes below.

    The upper end is `threshold_at_fpr` of the real clips, the lower end its mirror image for the fakes. With
    a good detector the two change places: a score between them is then typical of neither class, and does not
    allow a label either. With too few clips for the guarantee, all scores are unsure.

    Args:
        labels, scores: ``(N,)`` of the validation clips.
        threshold: the label's threshold; always in the range.
        error_rate: guaranteed outside the range, for each class.
    """
    real, fakes = scores[labels == 0], scores[labels == 1]
    needed = clips_needed_for(error_rate)
    above = threshold_at_fpr(real, error_rate) if len(real) >= needed else 1.0
    below = 1.0 - threshold_at_fpr(1.0 - fakes, error_rate) if len(fakes) >= needed else 0.0
    low, high = min(above, below, threshold), max(above, below, threshold)
    return max(float(low), 0.0), min(float(high), 1.0)


@dataclass(frozen=True, eq=False)
class Reliability:
    """How calibrated scores are, in bins of equal width.

    torchmetrics' ``BinaryCalibrationError`` and scikit-learn's ``calibration_curve`` take no weights, so they
    measure the share of fakes in a dataset along with the detector. Ours gives both classes equal weight, and
    equals torchmetrics' if both have the same number of clips.

    Attributes:
        edges: ``(B + 1,)``, 0 to 1.
        score: ``(B,)`` mean score of the clips in a bin; NaN if there are none.
        share: ``(B,)`` share of fakes among them, with equal weight on both classes.
        weight: ``(B,)``, sums to 1.
        clips: ``(B,)`` number of clips.
        brier: mean squared distance of score and label (Brier 1950); 0.25 for always 0.5.
        ece: expected calibration error: mean distance of ``score`` and ``share`` (Naeini et al. 2015).
    """

    edges: np.ndarray
    score: np.ndarray
    share: np.ndarray
    weight: np.ndarray
    clips: np.ndarray
    brier: float
    ece: float

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray, bins: int = 10) -> Reliability:
        """Reliability from labels ``(N,)`` and probabilities of fake ``(N,)``."""
        weights = balanced_weights(labels)
        index = np.minimum((scores * bins).astype(int), bins - 1)

        def sums(values: np.ndarray) -> np.ndarray:
            return np.bincount(index, weights=values, minlength=bins)

        weight = sums(weights)
        filled = np.where(weight > 0, weight, np.nan)
        score, share = sums(weights * scores) / filled, sums(weights * labels) / filled
        return cls(
            edges=np.linspace(0, 1, bins + 1),
            score=score,
            share=share,
            weight=weight,
            clips=np.bincount(index, minlength=bins),
            brier=float(brier_score_loss(labels, scores, sample_weight=weights, pos_label=1)),
            ece=float(np.nansum(weight * np.abs(score - share))),
        )

    @staticmethod
    def ece_by_chance(labels: np.ndarray, scores: np.ndarray, rng: np.random.Generator) -> float:
        """ECE that a perfectly calibrated detector would have with these scores: mean over 200 draws.

        Chance alone moves an ECE away from 0, and more so with fewer clips. Labels are drawn from the scores,
        with the odds of fakes to real clips in ``labels``.
        """
        odds = np.log(max(labels.sum(), 1) / max((labels == 0).sum(), 1))
        chances = expit(logit(np.clip(scores, PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON)) + odds)
        return float(np.mean([Reliability.of(rng.binomial(1, chances), scores).ece for _ in range(200)]))

    def to_json(self) -> dict[str, Any]:
        """Brier score, ECE, and the bins that hold clips."""
        bins = [
            {"from": low, "to": high, "score": score, "share": share, "clips": clips}
            for low, high, score, share, clips in zip(
                self.edges[:-1].tolist(),
                self.edges[1:].tolist(),
                self.score.tolist(),
                self.share.tolist(),
                self.clips.tolist(),
                strict=True,
            )
            if clips
        ]
        return {"brier": self.brier, "ece": self.ece, "bins": bins}
