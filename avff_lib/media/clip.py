"""`Clip`: frames and waveform of a stretch of video, on one clock.

Times are seconds on the clock of the media file. This module imports nothing from the rest of the library.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


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
        """Indices ``(N,)`` of the frames nearest to ``times`` ``(N,)``, in seconds."""
        middles = (self.times[1:] + self.times[:-1]) / 2
        return np.searchsorted(middles, times)

    def window(self, start: float, duration: float) -> Clip:
        """The part of this clip in [start, start + duration), of both streams.

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
