"""What is said of a file: scores of faces in windows, of faces, of parts, and the verdict on the whole.

Times are seconds on the clock of the file. Every ``score`` and ``prediction`` is a probability of fake,
calibrated; what the model itself gave is called ``raw``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.special import expit, logit

from avff_lib.clip import AVFFError

Missing = Literal["face", "sound", "cut"]


@dataclass(frozen=True)
class Calibration:
    """What makes probabilities of a model's scores, and where they are no ground for a verdict.

    Fitted on validation clips by `avff_lib.evaluation.evaluate.calibrate`. The defaults change nothing:
    scores are reported as they are, and none is unsure.

    Attributes:
        temperature: the logit of a score is divided by it; above 1 it makes a model less sure of itself.
        bias: then added. Positive values make every score more suspicious.
        unsure: scores in this range, ends included, are too near to those of both classes for a verdict.
        error_rate: at most this share of the genuine clips should score above the range, and of the
            fakes below it.
        false_alarms: share of the genuine validation clips at or above the model's threshold.
        misses: share of the forged ones below it.
        clips, people: of the validation that all of this rests on.
    """

    temperature: float = 1.0
    bias: float = 0.0
    unsure: tuple[float, float] | None = None
    error_rate: float | None = None
    false_alarms: float | None = None
    misses: float | None = None
    clips: int = 0
    people: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise AVFFError(f"the temperature is {self.temperature}; expected a number above 0")
        if not np.isfinite(self.bias):
            raise AVFFError(f"the bias is {self.bias}; expected a number")
        if self.clips and None in (self.unsure, self.error_rate, self.false_alarms, self.misses):
            raise AVFFError(f"there are {self.clips} clips, and a range or rate that they gave is missing")
        if self.unsure is not None and not 0 <= self.unsure[0] <= self.unsure[1] <= 1:
            raise AVFFError(f"the unsure range is {self.unsure}; expected two probabilities in order")

    def apply(self, raw: np.ndarray | float) -> np.ndarray:
        """Probabilities as a model gives them -> those that are reported; their order stays as it is.

        Nothing else in the library calibrates.
        """
        raw = np.asarray(raw)
        if (self.temperature, self.bias) == (1.0, 0.0):
            return raw  # to the bit
        return expit(logit(raw) / self.temperature + self.bias)

    def is_unsure(self, score: float) -> bool:
        """Whether a file's probability of fake lies in the unsure range."""
        return self.unsure is not None and self.unsure[0] <= score <= self.unsure[1]


@dataclass(frozen=True)
class FaceScore:
    """What is said of one face in one window.

    Attributes:
        face: its number in the file.
        score: probability of fake in [0, 1], calibrated; to be compared with the threshold.
        raw: the same as the model gives it. What is said of several windows rests on these; see
            `avff_lib.timeline.clip_score`.
        agreement: of lips and voice, in [-1, 1]; see `avff_lib.models.base.Detector.agreement`.
        speaks: whether its mouth moves at least half as much as the liveliest one in the window.
        box: left, top, right, bottom in the window's middle, as shares of the picture's width and height.
    """

    face: int
    score: float
    raw: float
    agreement: float
    speaks: bool
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Window:
    """One window of a file.

    Attributes:
        start, end: in seconds.
        score: the highest one of the faces that speak in it, None if it was not judged.
        missing: why it was not judged: no face, no sound, or a cut inside; else None.
        faces: all faces that were judged in it, also those that do not speak.
    """

    start: float
    end: float
    score: float | None = None
    missing: Missing | None = None
    faces: tuple[FaceScore, ...] = ()


@dataclass(frozen=True)
class Face:
    """One face through a file.

    Attributes:
        number: from 1, in order of appearance. Nobody is recognised: who comes back after a cut, or after
            more than a second away, gets a new number.
        start, end: of the first and the last window with it, in seconds.
        windows: in which it speaks.
        score: probability of fake, calibrated, by these together; None if it never speaks.
    """

    number: int
    start: float
    end: float
    windows: int
    score: float | None


@dataclass(frozen=True)
class Segment:
    """A part of a file in which a face is judged fake.

    Attributes:
        start, end: in seconds.
        face: its number.
        score: the probability of fake that a file of this part alone would have.
    """

    start: float
    end: float
    face: int
    score: float


@dataclass(frozen=True)
class Gap:
    """A part of a file, in seconds, in which there is no face to see or no sound to hear."""

    start: float
    end: float
    missing: Missing


@dataclass(frozen=True)
class Report:
    """The answer for one file; ``dataclasses.asdict`` of it is what ``avff predict --json`` prints.

    Attributes:
        path: as it was given.
        prediction: probability of fake in [0, 1], calibrated, that of ``face``; None where there is an error.
        label: ``"fake"`` or ``"real"`` by ``threshold``; None where there is an error.
        unsure: whether the prediction lies where scores of either class are too common for a verdict.
        threshold: chosen on validation data when the model was trained.
        calibration: likewise; also how often verdicts were wrong there.
        face: number of the face whose score is the file's; see `avff_lib.timeline.decisive`.
        faces: all that were judged.
        segments: where faces are judged fake; see `avff_lib.timeline.forged_segments`.
        gaps: where there is no face or no sound for half a second or longer.
        windows: all windows, also those that could not be judged.
        judged: share of the windows that were.
        strangeness: of the decisive face's ``sound`` and ``picture``, how far they lie from those of the
            calibration as multiples of what is usual there; above 1 the detector has not met their like.
            Empty if that was never measured. See `avff_lib.domain`.
        warnings: one sentence each.
        model: family and what it was trained on.
        error: one sentence, or None.
    """

    path: str
    prediction: float | None = None
    label: str | None = None
    unsure: bool = False
    threshold: float | None = None
    calibration: Calibration | None = None
    face: int | None = None
    faces: tuple[Face, ...] = ()
    segments: tuple[Segment, ...] = ()
    gaps: tuple[Gap, ...] = ()
    windows: tuple[Window, ...] = ()
    judged: float = 0.0
    strangeness: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    model: dict[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def verdict(self) -> str:
        """The label and what speaks against relying on it, for people."""
        doubts = [
            *(["unsure"] if self.unsure else []),
            *(["out of its domain"] if any(times > 1 for times in self.strangeness.values()) else []),
        ]
        return f"{self.label}, but {' and '.join(doubts)}" if doubts else str(self.label)
