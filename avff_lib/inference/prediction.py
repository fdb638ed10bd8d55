"""What a detector outputs: scores of faces in windows, of faces, of segments, and of the whole file.

Times are seconds on the clock of the file. Every ``score`` is a calibrated probability of fake; windows and
segments use the calibration of windows, faces and files that of files. The model's own output is called
``raw``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from avff_lib.media.facts import MediaFacts, Span
from avff_lib.models.calibration import Calibration

Obstacle = Literal["face", "sound", "cut", "frames"]
Label = Literal["real", "fake", "in sync", "out of sync", "undetermined"]
ALARMS: tuple[Label, ...] = ("fake", "out of sync")  # the labels of scores at or above the threshold
Reason = Literal["out_of_distribution", "unsure", "low_coverage", "uncalibrated"]

REASON_NOTES: dict[Reason, str] = {
    "out_of_distribution": "the file is unlike the clips that the detector was calibrated on",
    "unsure": "the score is too common among both real and fake clips",
    "low_coverage": "too little of the file could be scored",
    "uncalibrated": "the detector was never calibrated on validation clips of both classes",
}


@dataclass(frozen=True)
class FaceScore:
    """One face in one window.

    Attributes:
        face: its number in the file.
        score: calibrated probability of fake in [0, 1]; compare it with the threshold of windows.
        raw: the same, uncalibrated. A face's score is computed from these; see
            `avff_lib.inference.timeline.aggregate_scores`.
        agreement: of lips and voice, in [-1, 1]; see `avff_lib.models.base.Detector.agreement`.
        speaks: whether its mouth moves at least half as much as the most active one in the window.
        box: left, top, right, bottom in the middle of the window, as shares of the frame's width and height.
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
        score: the highest score of the faces that speak in it; None if it was not scored.
        obstacle: why it was not scored: no face, no sound, a cut inside, or too few frames; else None.
        faces: all faces that were scored in it, including those that do not speak.
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
        number: from 1, in order of appearance. People are not recognised: a face that returns after a cut, or
            after more than a second out of sight, gets a new number.
        start, end: start of the first and end of the last window with it, in seconds.
        windows: number of windows in which it speaks.
        score: calibrated probability of fake over these windows, as for a file that shows only this face;
            None if it never speaks.
    """

    number: int
    start: float
    end: float
    windows: int
    score: float | None


@dataclass(frozen=True)
class FakeSegment:
    """A part of a file in which a face's windows are predicted fake.

    Attributes:
        start, end: in seconds.
        face: its number.
        score: mean of the windows' scores.
    """

    start: float
    end: float
    face: int
    score: float


@dataclass(frozen=True)
class Gap:
    """A part of a file, in seconds, without a visible face or audible sound."""

    start: float
    end: float
    obstacle: Obstacle


@dataclass(frozen=True)
class FileFacts(MediaFacts):
    """`avff_lib.media.facts.MediaFacts`, and facts from sound and faces; None if not measurable.

    Attributes:
        frozen: as in `MediaFacts`, but only where the sound continues.
        digital_silence: parts inside the sound that are softer than the last bit of 16, and so were never
            recorded: parts of 0.1 s or longer, accurate to 0.05 s, and the first
            `avff_lib.media.facts.MAX_SPANS` of them. Silence at the beginning and the end does not count.
        lag: seconds by which the voice follows the lips, negative if it precedes them, by
            `avff_lib.inference.sync` with a faster optical flow: from the mean of the curves of pieces of
            8 s, in each for the face whose mouth moves most. None if no piece has a face and sound for 1.6 s.
        lag_confidence: height of the curve's peak above its median, in [0, 2].
        lag_reliable: whether the confidence reaches `avff_lib.inference.facts.LipSync.min_confidence`;
            otherwise the lag is meaningless.
    """

    digital_silence: tuple[Span, ...]
    lag: float | None
    lag_confidence: float | None
    lag_reliable: bool | None


@dataclass(frozen=True)
class FilePrediction:
    """A whole file; ``dataclasses.asdict`` of it is what ``avff predict --json`` prints.

    Attributes:
        path: as it was given.
        label: ``"real"``, ``"fake"`` or ``"undetermined"``; a detector of synchrony outputs ``"in sync"`` or
            ``"out of sync"`` instead of the first two. None if there is an error.
        reasons: why it is undetermined, as values of `Reason`; empty for the other labels.
        prediction: the score if the file is labelled real or fake, else None.
        score: calibrated probability of fake in [0, 1], also if undetermined; None if there is an error.
        threshold: score at and above which a file is labelled fake; chosen on validation data.
        offset: seconds by which the voice follows the lips where both agree best; None if the detector does
            not search for it.
        calibration: fitted on validation data; holds the error rates measured there.
        face: number of the speaking face with the highest score.
        faces: all that were scored. The file's score is computed from those that speak; see
            `avff_lib.inference.timeline.combine_faces`.
        segments: where faces are predicted fake; see `avff_lib.inference.timeline.find_fake_segments`.
        gaps: where there is no face or no sound for half a second or longer.
        windows: all windows, including those that could not be scored.
        coverage: share of the windows that were scored.
        ood_scores: distances of the features of ``face`` from those of the validation clips, by stream
            (``audio``, ``visual``) and on average (``joint``), as multiples of the limit; above 1 the file is
            out of distribution. See `avff_lib.models.ood`.
        warnings: one sentence each.
        model: its family and training data.
        facts: facts about the file that need no training and do not affect the score; None if it was not
            decoded here, as with prepared data, or if there is an error.
        error: one sentence, or None.
    """

    path: str
    label: Label | None = None
    reasons: tuple[Reason, ...] = ()
    prediction: float | None = None
    score: float | None = None
    threshold: float | None = None
    offset: float | None = None
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
    facts: FileFacts | None = None
    error: str | None = None

    @property
    def scored_windows(self) -> int:
        """Number of windows that were scored."""
        return sum(window.score is not None for window in self.windows)
