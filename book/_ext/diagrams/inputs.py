"""Diagrams of the chapters that read and prepare files, 2 to 5."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from drawing import Point, Sheet

from diagrams.panels import Diagram, Paint, cells, chain

# Chapter 2: splits.


def _splits(sheet: Sheet, wide: bool) -> None:
    splits = (("train", "visual"), ("val", "sound"), ("test", "joint"))
    by_clip = ((0, 0, 2), (0, 1, 0), (2, 0, 0), (0, 0, 1), (1, 2, 0), (0, 0, 0))
    by_people = ((0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (1, 1, 1), (2, 2, 2))
    width, half = (80, 360) if wide else (42, 180)
    for panel, (title, rows) in enumerate((("split by clip", by_clip), ("split by people", by_people))):
        left = panel * half + (74 if wide else 34)
        sheet.text(left + 1.5 * width, 20, title, "ink", 14, bold=True)
        for person, row in enumerate(rows):
            y = 34 + person * 32
            leaks = len(set(row)) > 1
            sheet.dot((left - 14, y + 7), "here" if leaks else "soft", 4)
            x = left - 14
            sheet.path(f"M{x - 7} {y + 23}c0-12 14-12 14 0", "here" if leaks else "soft")
            for clip, split in enumerate(row):
                words, kind = splits[split]
                sheet.rect((left + clip * width + 2, y), (width - 4, 24), kind, f"{kind}-ink", round_by=3)
                sheet.text(left + (clip + 0.5) * width, y + 16.5, words, "ink", 12)
        sheet.path(f"M{left - 24} 78c-9 0-9 32 0 32", "soft", thick=1.6)  # two people of one face swap


# Chapter 3: frames and sound on one clock, and where to cut the face.


def _clock(sheet: Sheet, wide: bool) -> None:
    left, width = (12.0, 696.0) if wide else (8.0, 344.0)
    per_frame = width / 25
    asked = [(j + 0.5) / 16 for j in range(16)]
    chosen = {min(range(25), key=lambda i: abs((i + 0.5) / 25 - time)) for time in asked}
    sheet.text(left, 18, "moments asked for: 16, evenly spaced", anchor="start")
    sheet.text(left, 112, "frames of the file: 25, the nearest are taken", anchor="start")
    for time in asked:
        frame = min(range(25), key=lambda i: abs((i + 0.5) / 25 - time))
        sheet.dot((left + width * time, 34), "here", 3.5)
        start, end = (left + width * time, 40), (left + (frame + 0.5) * per_frame, 64)
        sheet.path(f"M{start[0]:.1f} {start[1]}L{end[0]:.1f} {end[1]}", thick=1.4, tip=True)
    for frame in range(25):
        kind = "visual" if frame in chosen else "plain"
        sheet.rect((left + frame * per_frame + 1, 68), (per_frame - 2, 28), kind, f"{kind}-ink", thick=1)
    steps = range(int(width) + 1)
    loud = [math.sin(0.9 * i) * (0.3 + 0.7 * math.sin(0.013 * i * 700 / width) ** 2) for i in steps]
    sheet.curve([(left + i, 146 - 18 * value) for i, value in enumerate(loud)], "sound-ink", thick=1)
    sheet.text(left, 186, "samples of the sound: 16,000", anchor="start")
    sheet.path(f"M{left} 198H{left + width}", "soft", thick=1.4)
    for tick in range(3):
        x = left + width * tick / 2
        sheet.path(f"M{x:g} 198v5", "soft", thick=1.4)
        anchor = ("start", "middle", "end")[tick]
        sheet.text(x, 218, f"{tick / 2:g} s", anchor=anchor)


def _crop(sheet: Sheet, wide: bool) -> None:
    ways = (
        ("here", ("shrink the frame", "1280 × 720 to 224 × 126"), ("cut the face", "31 × 31 pixels"),
         ("enlarge", "224 × 224, blurred")),
        ("joint", ("cut the face", "180 × 180 pixels"), ("resize once", "224 × 224, antialiased"),
         ("to the model", "all detail that was there")),
    )  # fmt: skip
    size = (216.0, 62.0) if wide else (168.0, 74.0)
    for number, (kind, *boxes) in enumerate(ways):
        places = [
            (6 + step * 246.0, 10 + number * 88.0) if wide else (6 + number * 180.0, 10 + step * 104.0)
            for step in range(3)
        ]
        for place, (title, detail) in zip(places, boxes, strict=True):
            sheet.rect(place, size, kind, "here" if kind == "here" else f"{kind}-ink", round_by=10,
                       share=0.16 if kind == "here" else 1)  # fmt: skip
            middle = place[0] + size[0] / 2
            sheet.text(middle, place[1] + size[1] / 2 - 4, title, "ink", 14, bold=True)
            sheet.text(middle, place[1] + size[1] / 2 + 16, detail, size=12)
        for here, there in pairwise(places):
            sheet.join(here, size, there, size, lying=wide)


# Chapter 5: one curve slides along the other.


def _lag(sheet: Sheet, wide: bool) -> None:
    def opening(time: float) -> float:
        return 0.5 + 0.3 * math.sin(7 * time) + 0.2 * math.sin(17 * time + 1)

    def curves(shift: float) -> Paint:
        def paint(sheet: Sheet, at: Point, size: Point) -> None:
            (x, y), width = at, size[0]
            span = [i / 80 for i in range(81)]
            inside = [t for t in span if t + shift <= 1.0]
            sheet.curve([(x + 6 + (width - 12) * t, y + 40 - 30 * opening(t)) for t in span], "visual-ink")
            places = [(x + 6 + (width - 12) * t, y + 84 - 30 * opening(t - 0.24 + shift)) for t in inside]
            sheet.curve(places, "sound-ink")

        return paint

    def correlation(sheet: Sheet, at: Point, size: Point) -> None:
        (x, y), width = at, size[0]
        lags = [i / 40 - 1 for i in range(81)]
        heights = [math.exp(-(((lag - 0.4) / 0.16) ** 2)) + 0.12 * math.sin(9 * lag) for lag in lags]
        sheet.path(f"M{x + 6} {y + 72}h{width - 12}", thick=1)
        sheet.path(f"M{x + width / 2} {y + 6}v80", thick=1, dashed=True)
        places = [
            (x + 6 + (width - 12) * (lag + 1) / 2, y + 72 - 56 * h)
            for lag, h in zip(lags, heights, strict=True)
        ]
        sheet.curve(places, "joint-ink", thick=2.2)
        sheet.dot(max(places, key=lambda place: -place[1]), "here", 4.5)

    chain(
        sheet,
        wide,
        (
            ("two curves", ("opening of the mouth,", "loudness of the voice"), curves(0.0)),
            ("slide", ("move one by a lag until", "peaks meet peaks"), curves(0.24)),
            ("correlation", ("at every lag; the peak", "is how late the voice is"), correlation),
        ),
    )


# Chapter 4: from the waveform to the log-mel spectrogram.


def _mel(sheet: Sheet, wide: bool) -> None:
    def pieces(sheet: Sheet, at: Point, size: Point) -> None:
        (x, y), width = at, size[0]
        wave = [math.sin(0.55 * i) * (0.35 + 0.65 * math.sin(0.035 * i) ** 2) for i in range(int(width) - 11)]
        sheet.curve([(x + 6 + i, y + 66 - 18 * value) for i, value in enumerate(wave)], "sound-ink", thick=1)
        span = 0.5 * (width - 12)
        for number, colour in enumerate(("here", "visual-ink", "here")):
            steps = range(41)
            hill = [(1 - math.cos(math.pi * i / 20)) / 2 for i in steps]
            left = x + 6 + number * span / 2
            points = [(left + span * i / 40, y + 40 - 32 * hill[i]) for i in steps]
            sheet.curve(points, colour)

    def stripes(bands: int) -> Callable[[int, int], float]:
        def share(column: int, row: int) -> float:
            frequency = ((bands - row) / bands) ** 1.4
            loud = 0.45 + 0.55 * math.sin(0.8 * column + 0.6) ** 2
            return loud * (1.05 - frequency) * (0.45 + 0.5 * math.cos(34 * frequency + 0.25 * column))

        return share

    def power(sheet: Sheet, at: Point, size: Point) -> None:
        cells(sheet, at, size, (14, 23), "sound-ink", stripes(23))
        width = size[0] / 14
        sheet.rect((at[0] + 4 * width, at[1]), (width, size[1]), "plain", "here", thick=2, share=0)

    def filters(sheet: Sheet, at: Point, size: Point) -> None:
        (x, y), width = at, size[0]
        peaks = [10 ** (i / 10 * math.log10(1 + 8000 / 700)) - 1 for i in range(11)]
        places = [x + 6 + (width - 12) * peak / peaks[-1] for peak in peaks]
        for left, peak, right in zip(places, places[1:], places[2:], strict=False):
            sheet.curve([(left, y + 82), (peak, y + 14), (right, y + 82)], "sound-ink", thick=1.4)

    def log_mel(sheet: Sheet, at: Point, size: Point) -> None:
        cells(
            sheet, at, size, (14, 8), "sound-ink", lambda c, r: 0.2 + 0.75 * max(0.0, stripes(8)(c, r)) ** 0.5
        )

    chain(
        sheet,
        wide,
        (
            ("pieces", ("1024 samples each,", "one every 512"), pieces),
            ("power", ("Fourier transform:", "513 rows × 32 columns"), power),
            ("mel filters", ("64 triangles, wider", "at high frequencies"), filters),
            ("log-mel", ("64 bands × 32 columns", "in decibels"), log_mel),
        ),
    )


DIAGRAMS = {
    "clock": Diagram(
        "Frames and samples on one clock",
        "One second of a file. Above, 16 evenly spaced moments, each with an arrow to the nearest of 25 "
        "frames. Below, the waveform of 16,000 samples on the same axis of seconds.",
        (228, 228),
        _clock,
    ),
    "crop": Diagram(
        "Cut first, then resize",
        "Two ways from a frame of 1280 by 720 pixels to the model. Shrunk first, the face has 31 by 31 "
        "pixels and is enlarged again, blurred. Cut out first, 180 by 180 pixels are resized once.",
        (172, 306),
        _crop,
    ),
    "lag": Diagram(
        "From two curves to a lag",
        "Three pictures in a row. The opening of the mouth above the loudness of a late voice; the same "
        "with the voice moved until the peaks meet; the correlation at every lag, with its peak to the "
        "right of zero.",
        (172, 362),
        _lag,
    ),
    "splits": Diagram(
        "A split by clip and a split by people",
        "Six people with three clips each. Split by clip, five of them are in two or more of train, val and "
        "test; split by people, all clips of a person, and both people of a face swap, are in one.",
        (230, 230),
        _splits,
    ),
    "mel": Diagram(
        "From a waveform to a log-mel spectrogram",
        "Four pictures in a row. Overlapping pieces of the waveform, 1024 samples each; their power at 513 "
        "frequencies, one column a piece; 64 triangular filters that widen with the frequency; the log-mel "
        "spectrogram of 64 bands in decibels.",
        (172, 490),
        _mel,
    ),
}
