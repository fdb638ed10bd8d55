"""The types that travel through the library: file -> clip -> model inputs -> features -> report.

This module imports nothing from the rest of the library; everything else may import it.
Conventions: times are seconds on the clock of the media file, labels are fake = 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:  # torch takes seconds to import, and a clip does not need it
    from jaxtyping import Float
    from torch import Tensor


class AVFFError(Exception):
    """An error made for people: one sentence with what was found, what was expected, what to do."""


class MediaError(AVFFError):
    """A media file that cannot be answered for, and why."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A stretch of video with its sound, both streams on one clock.

    Attributes:
        frames: ``(T, H, W, 3)`` uint8, RGB, upright.
        times: ``(T,)`` float64, presentation time of each frame in seconds, ascending.
        waveform: ``(S,)`` float32, mono, in [-1, 1]; sample 0 sounds at ``start``.
        sample_rate: samples of ``waveform`` a second.
        start: time of the window's beginning, in seconds.
        duration: length of the window, in seconds.
        warnings: one sentence for each thing that was lost or is doubtful.
    """

    frames: np.ndarray
    times: np.ndarray
    waveform: np.ndarray
    sample_rate: int
    start: float
    duration: float
    warnings: tuple[str, ...] = ()

    @property
    def end(self) -> float:
        """Time of the window's end, in seconds."""
        return self.start + self.duration

    def nearest_frames(self, at: np.ndarray) -> np.ndarray:
        """Indices ``(N,)`` of the frames shown nearest to the times ``at`` ``(N,)``, in seconds."""
        middles = (self.times[1:] + self.times[:-1]) / 2
        return np.searchsorted(middles, at)

    def window(self, start: float, duration: float) -> Clip:
        """The part of this clip that lies in [start, start + duration), both streams cut alike.

        Raises:
            ValueError: the window reaches outside the clip by more than one sample.
        """
        first = round((start - self.start) * self.sample_rate)
        count = round(duration * self.sample_rate)
        if first < 0 or first + count > len(self.waveform) + 1:
            raise ValueError(
                f"window {start:.3f}-{start + duration:.3f} s is outside the clip's "
                f"{self.start:.3f}-{self.end:.3f} s; ask for a part of it"
            )
        # Half a sample of slack, so that a frame on the edge does not flip with rounding.
        slack = 0.5 / self.sample_rate
        inside = (self.times >= start - slack) & (self.times < start + duration - slack)
        return replace(
            self,
            frames=self.frames[inside],
            times=self.times[inside],
            waveform=self.waveform[first : first + count],
            start=start,
            duration=duration,
        )


@dataclass(frozen=True)
class MelSpec:
    """Settings of a mel spectrogram; the defaults are those of the documented system.

    Attributes:
        n_fft: samples of the transform, so bins are ``sample_rate / n_fft`` apart.
        hop_length: samples from one column to the next.
        n_mels: number of filters.
        win_length: samples that a column looks at, at most ``n_fft``; by default ``n_fft``.
    """

    n_fft: int = 1024
    hop_length: int = 512
    n_mels: int = 64
    win_length: int | None = None


@dataclass(frozen=True)
class InputSpec:
    """What a model wants to be fed; the model states it and `avff_lib.preprocess.prepare` obeys.

    Attributes:
        duration: seconds of both streams in one sample.
        frame_count: frames a sample, evenly spaced over ``duration``.
        image_size: height and width of a frame in pixels.
        mean, std: per RGB channel, applied to values in [0, 1].
        sample_rate: of the audio, in Hz.
        audio: ``"waveform"``, zero mean and unit variance, or ``"mel"``, log-mel in dB.
        mel: settings used when ``audio == "mel"``.
    """

    duration: float = 1.0
    frame_count: int = 16
    image_size: int = 224
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    sample_rate: int = 16_000
    audio: Literal["waveform", "mel"] = "waveform"
    mel: MelSpec = MelSpec()

    @property
    def frame_times(self) -> np.ndarray:
        """``(frame_count,)`` times in seconds from the window's start, at the middle of equal parts."""
        return (np.arange(self.frame_count) + 0.5) * self.duration / self.frame_count


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """A batch of prepared samples.

    Attributes:
        frames: ``(B, T, 3, H, W)`` float32, normalised RGB.
        audio: ``(B, S)`` float32 waveform, or ``(B, n_mels, N)`` float32 log-mel in dB.
    """

    frames: Float[Tensor, "b t 3 h w"]
    audio: Float[Tensor, "b ..."]


@dataclass(frozen=True, eq=False)
class Features:
    """What the encoders say, still as sequences over time.

    Attributes:
        audio: ``(B, Na, D)`` float32.
        visual: ``(B, Nv, D)`` float32.
        detail: ``(B, N, C)`` float32, what the path for fine detail says; None where there is none.
    """

    audio: Float[Tensor, "b na d"]
    visual: Float[Tensor, "b nv d"]
    detail: Float[Tensor, "b n c"] | None = None


@dataclass(frozen=True)
class Calibration:
    """What makes a probability of a score, and where it is no ground for a verdict.

    Fitted on validation clips. The defaults change nothing: scores are reported as they are, and none is
    unsure.

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
        if not self.temperature > 0:
            raise AVFFError(f"the temperature is {self.temperature}; expected a number above 0")
        if self.unsure is not None and not 0 <= self.unsure[0] <= self.unsure[1] <= 1:
            raise AVFFError(f"the unsure range is {self.unsure}; expected two probabilities in order")

    def is_unsure(self, score: float) -> bool:
        """Whether a file's probability of fake lies in the unsure range."""
        return self.unsure is not None and self.unsure[0] <= score <= self.unsure[1]


Missing = Literal["face", "sound", "cut"]


@dataclass(frozen=True)
class FaceScore:
    """What is said of one face in one window.

    Attributes:
        face: its number in the file.
        score: probability of fake in [0, 1].
        agreement: of lips and voice, in [-1, 1]; see `avff_lib.models.base.Detector.agreement`.
        speaks: whether its mouth moves at least half as much as the liveliest one in the window.
        box: left, top, right, bottom in the window's middle, as shares of the picture's width and height.
    """

    face: int
    score: float
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
        score: its mean score in these, None if it never speaks.
    """

    number: int
    start: float
    end: float
    windows: int
    score: float | None


@dataclass(frozen=True)
class Segment:
    """A part of a file in which a face is judged fake: its times in seconds, and its mean score there."""

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
        prediction: probability of fake in [0, 1], that of ``face``; None where there is an error.
        label: ``"fake"`` or ``"real"`` by ``threshold``; None where there is an error.
        threshold: chosen on validation data when the model was trained.
        face: number of the face whose score is the file's; see `avff_lib.timeline.decisive`.
        faces: all that were judged.
        segments: where faces are judged fake; see `avff_lib.timeline.forged_segments`.
        gaps: where there is no face or no sound for half a second or longer.
        windows: all windows, also those that could not be judged.
        judged: share of the windows that were.
        warnings: one sentence each.
        model: family and what it was trained on.
        error: one sentence, or None.
    """

    path: str
    prediction: float | None = None
    label: str | None = None
    threshold: float | None = None
    face: int | None = None
    faces: tuple[Face, ...] = ()
    segments: tuple[Segment, ...] = ()
    gaps: tuple[Gap, ...] = ()
    windows: tuple[Window, ...] = ()
    judged: float = 0.0
    warnings: tuple[str, ...] = ()
    model: dict[str, str] = field(default_factory=dict)
    error: str | None = None
