"""`Clip`: frames and waveform of a stretch of video, on one clock.

Times are seconds on the clock of the media file. This module imports nothing from the rest of the library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

MAX_EARLY = 0.05  # seconds by which a frame may represent a moment before it is shown


def to_samples(seconds: float, sample_rate: int) -> int:
    """Samples in ``seconds``, with halves rounded up.

    `round` would round halves to the even number, so that the same stretch would be longer in one place than
    in another.
    """
    # A half is rarely exact in binary, so values just below it also count.
    return math.floor(seconds * sample_rate + 0.5 + 1e-6)


def frames_shown(times: np.ndarray, start: float, end: float, slack: float) -> slice:
    """The frames that represent [start, end): those that begin there, and the one before them if needed.

    The earlier one is needed if the picture freezes: if no frame begins inside, or the first begins more than
    `MAX_EARLY` after the start.

    Args:
        times: ``(T,)``, ascending, in seconds.
        slack: seconds, less than a frame, so that rounding does not decide about a frame on the edge.
    """
    first, last = np.searchsorted(times, [start - slack, end - slack])
    frozen = first == last or times[first] > start + MAX_EARLY
    return slice(max(0, first - 1) if frozen else first, last)


def nearest(frame_times: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Indices ``(N,)`` of the frames nearest to ``times`` ``(N,)``, see `Clip.nearest_frames`."""
    middles = (frame_times[1:] + frame_times[:-1]) / 2
    # A nanosecond less, so that rounding moves no middle at exactly ten frames per second.
    begins = np.maximum(middles, frame_times[1:] - MAX_EARLY - 1e-9)
    return np.searchsorted(begins, times)


@dataclass(frozen=True, eq=False)
class Clip:
    """A stretch of video with its audio, both streams on one clock.

    Attributes:
        frames: ``(T, H, W, 3)`` uint8, RGB, upright.
        times: ``(T,)`` float64, presentation time of each frame in seconds, ascending.
        waveform: ``(S,)`` float32, mono, in [-1, 1]; its first sample is at ``start``.
        sample_rate: samples of ``waveform`` per second.
        start: start of the window, in seconds.
        duration: length of the window, in seconds.
        warnings: one sentence for each missing or doubtful piece.
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

        No frame is chosen more than `MAX_EARLY` before it is shown; with ten or more evenly spaced frames per
        second, the nearest frame is never that early.
        """
        return nearest(self.times, times)

    def window(self, start: float, duration: float) -> Clip:
        """The part of this clip in [start, start + duration), of both streams.

        If the picture freezes, the frame shown at ``start`` is included, with its own, earlier time (see
        `frames_shown`).

        Raises:
            ValueError: the window reaches outside the clip by more than one sample.
        """
        first = to_samples(start - self.start, self.sample_rate)
        count = to_samples(duration, self.sample_rate)
        latest = len(self.waveform) - count  # last possible start of a window of this length
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
