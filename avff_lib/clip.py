"""The types that travel through the library: file -> clip -> model inputs -> features.

What is said of a file in the end is in `avff_lib.verdict`. This module imports nothing from the rest of the
library; everything else may import it.
Conventions: times are seconds on the clock of the media file, labels are fake = 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
