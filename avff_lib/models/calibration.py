"""Calibration: from a detector's raw scores to probabilities, and the range too uncertain to label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from avff_lib.errors import AVFFError


@dataclass(frozen=True)
class Calibration:
    """Temperature and bias that turn a model's scores into probabilities, and the range labelled unsure.

    Fitted on validation clips by `avff_lib.evaluation.evaluate.calibrate`. The defaults change nothing:
    scores are reported as they are, and none is unsure.

    Attributes:
        temperature: the logit of a score is divided by it; above 1 it makes the scores less confident.
        bias: added to the logit after that; positive values raise every score.
        unsure: scores in this range, ends included, are too near to both classes for a label.
        error_rate: the share of real clips above the range, and of fake clips below it, that the range was
            chosen for.
        fpr: false positive rate, the share of real validation clips at or above the model's threshold.
        fnr: false negative rate, the share of fake validation clips below it.
        clips, identities: number of validation clips, and of identities in them.
    """

    temperature: float = 1.0
    bias: float = 0.0
    unsure: tuple[float, float] | None = None
    error_rate: float | None = None
    fpr: float | None = None
    fnr: float | None = None
    clips: int = 0
    identities: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise AVFFError(f"the temperature is {self.temperature}; expected a number above 0")
        if not np.isfinite(self.bias):
            raise AVFFError(f"the bias is {self.bias}; expected a number")
        if self.clips and None in (self.unsure, self.error_rate, self.fpr, self.fnr):
            raise AVFFError(f"there are {self.clips} clips, but a range or rate fitted on them is missing")
        if self.unsure is not None and not 0 <= self.unsure[0] <= self.unsure[1] <= 1:
            raise AVFFError(f"the unsure range is {self.unsure}; expected two probabilities in order")

    def apply(self, raw: np.ndarray | float) -> np.ndarray:
        """Raw probabilities of a model, of any shape -> the reported ones; their order stays the same.

        This is the only place in the library that calibrates.
        """
        raw = np.asarray(raw)
        if (self.temperature, self.bias) == (1.0, 0.0):
            return raw  # exactly, without a round trip through the logit
        return expit(logit(raw) / self.temperature + self.bias)

    def is_unsure(self, score: float) -> bool:
        """Whether a file's probability of fake lies in the unsure range."""
        return self.unsure is not None and self.unsure[0] <= score <= self.unsure[1]
