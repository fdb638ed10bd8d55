"""Lines and images of the page: SVG paths in a box of 100 x 100, and PNG in base64.

The browser stretches the box to the available width; text is outside the box, so that it stays legible on a
phone.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch

from avff_lib.inference.prediction import FaceScore, WindowPrediction
from avff_lib.inference.timeline import window_cells
from avff_lib.plots import hz_to_mel
from avff_lib.preprocess.audio import log_mel
from avff_lib.preprocess.spec import MelSpec

MAX_POINTS = 600  # of a line; a screen shows no more
TICKS = (0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)  # seconds
MAX_TICKS = 7
MEL = MelSpec(n_fft=512, hop_length=160, n_mels=80)  # finer in time than a model's input
DECIBELS = 70.0  # shown below the loudest point
FREQUENCY_MARKS = (250, 500, 1000, 2000, 4000)  # Hz


class Clock:
    """Seconds of a file -> per cent of the page's width."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, max(end, start + 1e-6)

    def at(self, time: float) -> float:
        """Per cent from the left, 0 to 100."""
        return round(100 * float(np.clip((time - self.start) / (self.end - self.start), 0, 1)), 3)

    def span(self, start: float, end: float) -> tuple[float, float]:
        """Left edge and width of a part, in per cent."""
        return self.at(start), round(self.at(end) - self.at(start), 3)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions in per cent, each with its label."""
        step = next((s for s in TICKS if (self.end - self.start) / s <= MAX_TICKS), TICKS[-1])
        times = step * np.arange(np.ceil(self.start / step - 1e-6), np.floor(self.end / step + 1e-6) + 1)
        return [(self.at(time), clock_time(time)) for time in times]


def clock_time(seconds: float) -> str:
    """``3.5 s``, ``12:05``, ``1:02:05``."""
    if seconds < 60:
        return f"{seconds:.3g} s" if seconds else "0 s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def up(share: float) -> float:
    """A value in [0, 1] -> per cent from below, with room for the width of a line at both ends."""
    return round(4 + 92 * share, 2)


def chance(value: float) -> str:
    """A probability with two digits, never shown as 0 or 1."""
    return f"{value:.2f}" if 0.005 <= value < 0.995 else ("above 0.99" if value > 0.5 else "below 0.01")


def face_line(
    windows: Sequence[WindowPrediction],
    number: int,
    clock: Clock,
    value: Callable[[FaceScore], float],
    low: float,
) -> str:
    """A value of a face over time as steps as wide as the windows' cells, with breaks where it is missing.

    Args:
        windows: all windows of the file.
        number: that of the face.
        clock: that of the file.
        value: of each window, from ``low`` to 1.
        low: value at the lower edge.
    """
    values = [next((value(f) for f in w.faces if f.face == number and f.speaks), None) for w in windows]
    group = -(-len(windows) // MAX_POINTS)  # in a long file, the highest of each group of neighbours
    cells, path, drawing = window_cells(windows), [], False
    for first in range(0, len(windows), group):
        heights = [height for height in values[first : first + group] if height is not None]
        if heights:
            left, right = cells[first][0], cells[min(first + group, len(windows)) - 1][1]
            y = round(100 - up((max(heights) - low) / (1 - low)), 2)
            path.append(f"{'L' if drawing else 'M'}{clock.at(left)} {y}H{clock.at(right)}")
        drawing = bool(heights)
    return "".join(path)


def waveform_outline(peaks: Sequence[float]) -> str:
    """Level of the audio as a band around the middle, scaled to its peak."""
    values = np.asarray(peaks, float)
    parts = np.array_split(values, min(len(values), MAX_POINTS))
    heights = np.array([part.max() for part in parts])
    heights = 48 * heights / max(heights.max(), 1e-9) + 0.5
    x = np.linspace(0, 100, len(heights)).round(2)
    upper = [f"{a} {50 - b:.2f}" for a, b in zip(x, heights, strict=True)]
    lower = [f"{a} {50 + b:.2f}" for a, b in zip(x[::-1], heights[::-1], strict=True)]
    return "M" + "L".join([*upper, *lower]) + "Z"


def spectrogram(waveform: np.ndarray, sample_rate: int) -> tuple[str, list[tuple[float, str]]]:
    """A log-mel spectrogram as PNG, low frequencies at the bottom; its labels with heights in per cent."""
    levels = log_mel(torch.from_numpy(waveform), sample_rate, MEL).numpy()  # (M, N)
    shade = np.clip(1 + (levels - levels.max()) / DECIBELS, 0, 1)
    from matplotlib import colormaps  # here, since Matplotlib takes a while to import

    colours = colormaps["magma"](shade[::-1])[..., :3]
    top = hz_to_mel(sample_rate / 2)
    marks = [
        (round(float(100 * hz_to_mel(hz) / top), 1), f"{hz} Hz")
        for hz in FREQUENCY_MARKS
        if hz < sample_rate / 2
    ]
    return png((255 * colours + 0.5).astype(np.uint8)), marks


def png(image: np.ndarray) -> str:
    """``(H, W, 3)`` uint8, RGB -> the bytes of a PNG in base64."""
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return base64.b64encode(data.tobytes()).decode("ascii")
