"""`Clip`: frames and waveform of a stretch of video, on one clock.

Times are seconds on the clock of the media file. This module imports nothing from the rest of the library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

MAX_EARLY = 0.05  # seconds by which a frame may stand for a moment before it is on the screen


def to_samples(seconds: float, sample_rate: int) -> int:
    """Samples in ``seconds``, half a sample counted as one.

    `round` would take halves to the even number, and so make the same stretch longer in one place than in
    another.
    """
    # A half is rarely exact in binary: what is short of it by less than that counts as well.
    return math.floor(seconds * sample_rate + 0.5 + 1e-6)


def frames_shown(times: np.ndarray, start: float, end: float, slack: float) -> slice:
    """The frames that stand for [start, end): those that begin there, and the one before them if needed.

    That is the case where the picture freezes: no frame begins inside, or the first more than `MAX_EARLY`
    after the start.

    Args:
        times: ``(T,)``, ascending, in seconds.
        slack: seconds, less than a frame, so that a frame on the edge does not flip with rounding.
    """
    first, last = np.searchsorted(times, [start - slack, end - slack])
    frozen = first == last or times[first] > start + MAX_EARLY
    return slice(max(0, first - 1) if frozen else first, last)


def nearest(frame_times: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Indices ``(N,)`` of the frames nearest to ``times`` ``(N,)``, see `Clip.nearest_frames`."""
    middles = (frame_times[1:] + frame_times[:-1]) / 2
    # A nanosecond less, so that rounding moves no middle at just ten frames a second.
    begins = np.maximum(middles, frame_times[1:] - MAX_EARLY - 1e-9)
    return np.searchsorted(begins, times)


@dataclass(frozen=True, eq=False)
class Clip:
    """A stretch of video with its audio, both streams on one clock.

    Attributes:
        frames: ``(T, H, W, 3)`` uint8, RGB, upright.
        times: ``(T,)`` float64, presentation time of each frame in seconds, ascending.
        waveform: ``(S,)`` float32, mono, in [-1, 1]; its first sample is at ``start``.
        sample_rate: samples of ``waveform`` a second.
        start: start of the window, in seconds.
        duration: length of the window, in seconds.
        warnings: one sentence for each piece that is missing or doubtful.
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
        """End of the window, in seconds."""
        return self.start + self.duration

    def nearest_frames(self, times: np.ndarray) -> np.ndarray:
        """Indices ``(N,)`` of the frames nearest to ``times`` ``(N,)``, in seconds.

        No frame is chosen more than `MAX_EARLY` before it is on the screen; with ten even frames a second or
        more it is never that far away.
        """
        return nearest(self.times, times)

    def window(self, start: float, duration: float) -> Clip:
        """The part of this clip in [start, start + duration), of both streams.

        Where the picture freezes, the frame on the screen at ``start`` is included, with its own, earlier
        time (see `frames_shown`).

        Raises:
            ValueError: the window reaches outside the clip by more than one sample.
        """
        first = to_samples(start - self.start, self.sample_rate)
        count = to_samples(duration, self.sample_rate)
        latest = len(self.waveform) - count  # at which a window of this length can begin
        if not -1 <= first <= latest + 1:
            raise ValueError(
                f"window {start:.3f}-{start + duration:.3f} s is outside the clip's "
                f"{self.start:.3f}-{self.end:.3f} s; ask for a part of it"
            )
        first = max(0, min(first, latest))  # both are rounded, so a sample may be missing
        shown = frames_shown(self.times, start, start + duration, 0.5 / self.sample_rate)
        return replace(
            self,
            frames=self.frames[shown],
            times=self.times[shown],
            waveform=self.waveform[first : first + count],
            start=start,
            duration=duration,
        )
