"""What a detector outputs: scores of faces in windows, of faces, of segments, and of the whole file.

Times are seconds on the clock of the file. Every ``score`` and ``prediction`` is a calibrated probability of
fake; the model's own output is called ``raw``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from avff_lib.models.calibration import Calibration

Obstacle = Literal["face", "sound", "cut"]


@dataclass(frozen=True)
class FaceScore:
    """One face in one window.

    Attributes:
        face: its number in the file.
        score: calibrated probability of fake in [0, 1]; to be compared with the threshold.
        raw: the same, uncalibrated. Scores of several windows are aggregated from these; see
            `avff_lib.inference.timeline.aggregate_scores`.
        agreement: of lips and voice, in [-1, 1]; see `avff_lib.models.base.Detector.agreement`.
        speaks: whether its mouth moves at least half as much as the liveliest one in the window.
        box: left, top, right, bottom in the window's middle, as shares of the frame's width and height.
    """

    face: int
    score: float
    raw: float
    agreement: float
    speaks: bool
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class WindowPrediction:
    """One window of a file.

    Attributes:
        start, end: in seconds.
        score: the highest one of the faces that speak in it, None if it was not scored.
        obstacle: why it was not scored: no face, no sound, or a cut inside; else None.
        faces: all faces that were scored in it, also those that do not speak.
    """

    start: float
    end: float
    score: float | None = None
    obstacle: Obstacle | None = None
    faces: tuple[FaceScore, ...] = ()


@dataclass(frozen=True)
class FacePrediction:
    """One face over a whole file.

    Attributes:
        number: from 1, in order of appearance. Nobody is recognised: a face that comes back after a cut, or
            after more than a second out of sight, gets a new number.
        start, end: of the first and the last window with it, in seconds.
        windows: number of windows in which it speaks.
        score: calibrated probability of fake over these; None if it never speaks.
    """

    number: int
    start: float
    end: float
    windows: int
    score: float | None


@dataclass(frozen=True)
class FakeSegment:
    """A part of a file in which a face is predicted fake.

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
    obstacle: Obstacle


@dataclass(frozen=True, eq=False)
class ClipPrediction:
    """A clip that shows one face throughout, such as one of a dataset.

    Attributes:
        score: calibrated probability of fake in [0, 1].
        raw: the same, uncalibrated.
        starts: ``(K,)`` of the windows, in seconds.
        window_scores: ``(K,)`` calibrated probability of fake of each window.
        audio_features, visual_features: ``(D,)``, means over the windows and over the time in these.
    """

    score: float
    raw: float
    starts: np.ndarray
    window_scores: np.ndarray
    audio_features: np.ndarray
    visual_features: np.ndarray


@dataclass(frozen=True)
class FilePrediction:
    """A whole file; ``dataclasses.asdict`` of it is what ``avff predict --json`` prints.

    Attributes:
        path: as it was given.
        prediction: calibrated probability of fake in [0, 1], that of ``face``; None if there is an error.
        label: ``"fake"`` or ``"real"`` by ``threshold``; None if there is an error.
        unsure: whether the prediction lies where scores of either class are too common to decide.
        threshold: chosen on validation data when the model was trained.
        calibration: likewise; holds the error rates measured there.
        face: number of the face whose score is the file's; see `avff_lib.inference.timeline.select_face`.
        faces: all that were scored.
        segments: where faces are predicted fake; see `avff_lib.inference.timeline.find_fake_segments`.
        gaps: where there is no face or no sound for half a second or longer.
        windows: all windows, also those that could not be scored.
        coverage: share of the windows that were scored.
        ood_scores: how far the selected face's ``audio`` and ``visual`` features lie from those of the
            validation clips, as multiples of the limit; above 1 the file is out of distribution. Empty if
            the detector has none fitted. See `avff_lib.models.ood`.
        warnings: one sentence each.
        model: its family and what it was trained on.
        error: one sentence, or None.
    """

    path: str
    prediction: float | None = None
    label: str | None = None
    unsure: bool = False
    threshold: float | None = None
    calibration: Calibration | None = None
    face: int | None = None
    faces: tuple[FacePrediction, ...] = ()
    segments: tuple[FakeSegment, ...] = ()
    gaps: tuple[Gap, ...] = ()
    windows: tuple[WindowPrediction, ...] = ()
    coverage: float = 0.0
    ood_scores: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    model: dict[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def out_of_distribution(self) -> bool:
        """Whether either stream is."""
        return any(score > 1 for score in self.ood_scores.values())

    @property
    def verdict(self) -> str:
        """The label and the reasons not to rely on it, in words."""
        doubts = []
        if self.unsure:
            doubts.append("unsure")
        if self.out_of_distribution:
            doubts.append("out of distribution")
        return f"{self.label}, but {' and '.join(doubts)}" if doubts else str(self.label)
