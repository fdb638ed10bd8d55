"""Calibration: from a detector's raw scores to probabilities, and the range too uncertain to label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit, logit

from avff_lib.errors import AVFFError

PROBABILITY_EPSILON = 1e-6  # distance from 0 and 1 that keeps logits finite; float32 is no finer near 1


@dataclass(frozen=True)
class Calibration:
    """Temperature and bias that turn a model's scores into probabilities, and the range labelled unsure.

    Files and windows each have their own: the mean over a file's windows varies less than a single window,
    and a partly fake file also holds real windows. `avff_lib.evaluation.evaluate.calibrate` fits them on
    validation clips. The defaults leave scores unchanged and none unsure.

    Attributes:
        temperature: the logit of a file's score is divided by it; above 1 it makes scores less confident.
        bias: then added to the logit; positive values raise every score.
        window_temperature, window_bias: the same for single windows.
        window_threshold: calibrated score at and above which a window is predicted fake.
        unsure: files with scores in this range, ends included, fit both classes too well to be labelled.
        error_rate: target for the range: the share of real clips above it, and of fake clips below it.
        fpr, fnr: false positive and false negative rate at the threshold, each measured on validation clips
            of people that calibration and threshold were not fitted to; None with fewer than two people.
        clips, identities: number of validation clips, and of identities in them.
        pooling: what is averaged over a file's windows before calibration: their probabilities, or their
            logits, as re-implementations do for the paper's model.
    """

    temperature: float = 1.0
    bias: float = 0.0
    window_temperature: float = 1.0
    window_bias: float = 0.0
    window_threshold: float = 0.5
    unsure: tuple[float, float] | None = None
    error_rate: float | None = None
    fpr: float | None = None
    fnr: float | None = None
    clips: int = 0
    identities: int = 0
    pooling: Literal["probability", "logit"] = "probability"

    def __post_init__(self) -> None:
        for name in ("temperature", "window_temperature"):
            if not 0 < getattr(self, name) < np.inf:
                raise AVFFError(f"the {name} is {getattr(self, name)}; expected a number above 0")
        for name in ("bias", "window_bias"):
            if not np.isfinite(getattr(self, name)):
                raise AVFFError(f"the {name} is {getattr(self, name)}; expected a number")
        if not 0 < self.window_threshold < 1:
            raise AVFFError(
                f"the window_threshold is {self.window_threshold}; expected a probability between 0 and 1"
            )
        if self.clips and None in (self.unsure, self.error_rate):
            raise AVFFError(f"there are {self.clips} clips, but a range or rate fitted on them is missing")
        if self.unsure is not None and not 0 <= self.unsure[0] <= self.unsure[1] <= 1:
            raise AVFFError(f"the unsure range is {self.unsure}; expected two probabilities in order")

    def pool(self, raw: Sequence[float] | np.ndarray) -> float:
        """Raw probabilities of a face's windows ``(N,)`` -> its raw score."""
        if self.pooling == "probability":
            return float(np.mean(raw))
        return float(expit(np.mean(logit(np.clip(raw, PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON)))))

    def apply(self, raw: np.ndarray | float) -> np.ndarray:
        """Raw scores of files, of any shape -> probabilities of fake; their order stays the same."""
        return _scaled(raw, self.temperature, self.bias)

    def apply_to_windows(self, raw: np.ndarray | float) -> np.ndarray:
        """Raw scores of windows, of any shape -> probabilities of fake; their order stays the same."""
        return _scaled(raw, self.window_temperature, self.window_bias)

    def is_unsure(self, score: float) -> bool:
        """Whether a file's probability of fake lies in the unsure range."""
        return self.unsure is not None and self.unsure[0] <= score <= self.unsure[1]


def _scaled(raw: np.ndarray | float, temperature: float, bias: float) -> np.ndarray:
    """The only place in the library that calibrates."""
    raw = np.asarray(raw)
    if (temperature, bias) == (1.0, 0.0):
        return raw  # exactly, without a round trip through the logit
    return expit(logit(raw) / temperature + bias)
