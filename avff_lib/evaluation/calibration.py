"""Scores that mean something: temperature and bias, thresholds for stated error rates, reliability.

All of it is fitted on the scores of validation clips, whose people are in no other split, and measured on
test clips. Genuine and forged clips weigh the same here, however many there are of either: a probability of
0.5 means that the score is as common among fakes as among genuine clips. Where one video in a thousand is
forged the odds are a thousand times lower, and no detector can know that.

What was tried on avff-tiny, fitted on 120 validation and measured on 120 test clips, and the other way round,
as Brier scores: nothing 0.090 and 0.096; temperature alone 0.089 and 0.095; temperature and bias of each
window, before the mean, 0.060 and 0.072; of the mean 0.047 and 0.054; isotonic regression of the mean 0.045
and 0.061, and its steps take 0.012 and 0.007 off the AUC. So it is temperature and bias, of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from avff_lib.clip import AVFFError

ERROR_RATE = 0.05  # that the unsure range leaves on either side
SURE = 1e-6  # a probability nearer to 0 or 1 than this counts as this near: float32 has no finer ones


def fit_temperature(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Temperature T and bias b with which ``sigmoid(logit(score) / T + b)`` has the least cross-entropy.

    The labels are drawn in by as much as so few clips leave open: to ``(n + 1) / (n + 2)`` for the n fakes,
    likewise for the genuine clips. Else the best temperature for clips that are told apart without an error
    would be 0.

    Sources: Guo et al. 2017, section 4.2 (temperature); Platt 1999, section 2.2 (bias, smoothed labels).

    Args:
        labels: ``(N,)``, 0 or 1, both present.
        scores: ``(N,)``, as a model gives them that is not calibrated.

    Returns:
        T in [0.05, 20] and b in [-10, 10]; T is 20, and nearly all scores alike, where fakes score no higher
        than genuine clips.
    """
    logits, weights, fakes = logit(np.clip(scores, SURE, 1 - SURE)), balanced_weights(labels), labels.sum()
    targets = np.where(labels == 1, (fakes + 1) / (fakes + 2), 1 / (len(labels) - fakes + 2))

    def cross_entropy(point: np.ndarray) -> tuple[float, np.ndarray]:
        found = logits * point[0] + point[1]
        loss = (weights * (np.logaddexp(0, found) - targets * found)).sum()
        slope = weights * (expit(found) - targets)
        return float(loss), np.array([(slope * logits).sum(), slope.sum()])

    bounds = [(0.05, 20.0), (-10.0, 10.0)]
    found = minimize(cross_entropy, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-12)
    return float(1 / found.x[0]), float(found.x[1])


def balanced_weights(labels: np.ndarray) -> np.ndarray:
    """Weights ``(N,)`` that sum to 1, half of it on either class; evenly where one class is missing."""
    counts = np.bincount(labels, minlength=2)
    weights = 1.0 / np.maximum(counts, 1)[labels]
    return weights / weights.sum()


def clips_needed(error_rate: float) -> int:
    """Least number of clips of a class with which a threshold can promise ``error_rate`` on others."""
    return int(np.ceil(1 / error_rate - 1e-9)) - 1


def threshold_for(genuine: np.ndarray, false_alarm_rate: float) -> float:
    """Lowest threshold that accuses another genuine clip with a probability of at most ``false_alarm_rate``.

    Of n genuine validation clips and one more, each is as likely as the others to have one of the k highest
    scores; so k - 1 of the n may lie above, where ``k = floor(rate (n + 1))``. The promise is about clips of
    the same kind, drawn one by one; where there are several of each person it holds roughly.
    Source: Vovk, Gammerman and Shafer 2005, section 2.2 (conformal prediction), one class at a time.

    Args:
        genuine: ``(n,)`` scores of the genuine validation clips.
        false_alarm_rate: in (0, 1).

    Raises:
        AVFFError: there are too few clips to promise that.
    """
    check_false_alarm_rate(false_alarm_rate, len(genuine))
    allowed = int(false_alarm_rate * (len(genuine) + 1) + 1e-9) - 1
    return float(np.sort(genuine)[len(genuine) - 1 - allowed] + SURE)


def check_false_alarm_rate(rate: float, genuine: int) -> None:
    """Whether ``genuine`` validation clips are enough for `threshold_for`.

    Raises:
        AVFFError: they are not, or the rate is none.
    """
    if not 0 < rate < 1:
        raise AVFFError(f"the false-alarm rate is {rate}; expected a share between 0 and 1, such as 0.05")
    if genuine < clips_needed(rate):
        raise AVFFError(
            f"a false-alarm rate of {rate:g} needs {clips_needed(rate)} genuine validation clips, here are "
            f"{genuine}; add some, or state a rate of at least {1 / (genuine + 1):.2g}"
        )


def unsure_range(
    labels: np.ndarray, scores: np.ndarray, threshold: float, error_rate: float = ERROR_RATE
) -> tuple[float, float]:
    """Scores between which no verdict is sure: above them few genuine clips lie, below them few fakes.

    The upper end is `threshold_for` the genuine clips, the lower end the same for the fakes, upside down.
    A detector may be so good that the two change places: then a score between them is like neither class,
    and that is no ground for a verdict either. With too few clips to promise anything all scores are unsure.

    Args:
        labels, scores: ``(N,)`` of the validation clips.
        threshold: of the verdict, which always lies inside.
        error_rate: of either kind that is promised outside.
    """
    genuine, fakes, needed = scores[labels == 0], scores[labels == 1], clips_needed(error_rate)
    above = threshold_for(genuine, error_rate) if len(genuine) >= needed else 1.0
    below = 1.0 - threshold_for(1.0 - fakes, error_rate) if len(fakes) >= needed else 0.0
    low, high = min(above, below, threshold), max(above, below, threshold)
    return max(float(low), 0.0), min(float(high), 1.0)


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often scores come true, in bins of equal width.

    Attributes:
        edges: ``(B + 1,)``, 0 to 1.
        score: ``(B,)`` mean score of the clips in a bin; NaN where there are none.
        share: ``(B,)`` share of fakes among them, both classes weighing the same.
        weight: ``(B,)``, sums to 1.
        clips: ``(B,)``, counted.
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
        """Of labels ``(N,)`` and probabilities of fake ``(N,)``."""
        weights = balanced_weights(labels)
        place = np.minimum((scores * bins).astype(int), bins - 1)

        def total(values: np.ndarray) -> np.ndarray:
            return np.bincount(place, weights=values, minlength=bins)

        weight = total(weights)
        filled = np.where(weight > 0, weight, np.nan)
        score, share = total(weights * scores) / filled, total(weights * labels) / filled
        return cls(
            edges=np.linspace(0, 1, bins + 1),
            score=score,
            share=share,
            weight=weight,
            clips=np.bincount(place, minlength=bins),
            brier=float((weights * (scores - labels) ** 2).sum()),
            ece=float(np.nansum(weight * np.abs(score - share))),
        )

    @staticmethod
    def ece_by_chance(labels: np.ndarray, scores: np.ndarray, rng: np.random.Generator) -> float:
        """ECE that a perfectly calibrated detector would have with these scores: mean over 200 draws.

        Chance alone moves an ECE away from 0, the more the fewer clips there are. Labels are drawn by the
        scores, in the odds of fakes and genuine clips that ``labels`` have.
        """
        odds = np.log(max(labels.sum(), 1) / max((labels == 0).sum(), 1))
        chances = expit(logit(np.clip(scores, SURE, 1 - SURE)) + odds)
        return float(np.mean([Reliability.of(rng.binomial(1, chances), scores).ece for _ in range(200)]))

    def to_json(self) -> dict:
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
