"""The diagrams of the chapters, each lying for a desk, 720 pixels wide, and standing for a phone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from drawing import Point, Sheet

WIDE, TALL = 720, 360
Paint = Callable[[Sheet, Point, Point], None]  # sheet, upper left corner, width and height


@dataclass(frozen=True)
class Diagram:
    """What a diagram shows in words, its height in either shape, and the function that draws it."""

    title: str
    about: str
    heights: Point  # lying, standing
    paint: Callable[[Sheet, bool], None]


def draw_diagram(name: str, theme: str, shape: str) -> str:
    """A diagram as SVG text; ``shape`` is ``"wide"`` or ``"tall"``."""
    diagram, wide = DIAGRAMS[name], shape == "wide"
    size = (WIDE, diagram.heights[0]) if wide else (TALL, diagram.heights[1])
    sheet = Sheet(theme, diagram.title, diagram.about, size)
    diagram.paint(sheet, wide)
    return sheet.svg()


PICTURE = 92  # height of a panel's picture


def chain(sheet: Sheet, wide: bool, panels: Sequence[tuple[str, Sequence[str], Paint]]) -> None:
    """Panels of a title, lines of words and a picture, with arrows from each to the next."""
    gap = 36
    width = (WIDE - 12 - gap * (len(panels) - 1)) / len(panels) if wide else 150
    for number, (title, lines, paint) in enumerate(panels):
        if wide:
            at = (6 + number * (width + gap), 28.0)
            x, rows = at[0] + width / 2, [18, 140, 157]
            start, end = (
                (at[0] + width + 5, at[1] + PICTURE / 2),
                (at[0] + width + gap - 5, at[1] + PICTURE / 2),
            )
        else:
            at = (8.0, 8 + number * (PICTURE + gap))
            x, rows = at[0] + width + 12, [at[1] + down for down in (32, 53, 70)]
            start, end = (
                (at[0] + width / 2, at[1] + PICTURE + 5),
                (at[0] + width / 2, at[1] + PICTURE + gap - 5),
            )
        if number < len(panels) - 1:
            sheet.arrow(start, end)
        sheet.rect(at, (width, PICTURE), "plain", "line", thick=1, round_by=4)
        paint(sheet, at, (width, PICTURE))
        anchor = "middle" if wide else "start"
        sheet.text(x, rows[0], title, "ink", 14, anchor=anchor, bold=True)
        for y, words in zip(rows[1:], lines, strict=True):
            sheet.text(x, y, words, anchor=anchor)


def cells(
    sheet: Sheet,
    at: Point,
    size: Point,
    shape: tuple[int, int],
    colour: str,
    share: Callable[[int, int], float],
) -> None:
    """A grid of (columns, rows); ``share(column, row)`` from 0 to 1 is how dark a cell is."""
    columns, rows = shape
    width, height = size[0] / columns, size[1] / rows
    for column in range(columns):
        for row in range(rows):
            corner = (at[0] + column * width, at[1] + row * height)
            sheet.rect(corner, (width, height), colour, share=max(0.0, min(1.0, share(column, row))))


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


# Chapter 7: patches, tubelets, and their order.


def _tubelets(sheet: Sheet, wide: bool) -> None:
    side = 76

    step = side / 14

    def frame(sheet: Sheet, x: float, y: float) -> None:
        sheet.rect((x, y), (side, side), "visual", "visual-ink", thick=1)
        for line in range(1, 14):
            code = f"M{x + line * step:.1f} {y:g}v{side}M{x:g} {y + line * step:.1f}h{side}"
            sheet.path(code, "visual-ink", thick=0.35)

    def mark(sheet: Sheet, x: float, y: float, share: float = 1) -> None:
        sheet.rect((x + 5 * step, y + 8 * step), (step, step), "here", "here", share=share)

    def patch(sheet: Sheet, at: Point, size: Point) -> None:
        x, y = at[0] + (size[0] - side) / 2, at[1] + 8
        frame(sheet, x, y)
        mark(sheet, x, y)

    def tubelet(sheet: Sheet, at: Point, size: Point) -> None:
        x, y = at[0] + (size[0] - side - 20) / 2, at[1] + 12
        frame(sheet, x + 20, y - 8)
        frame(sheet, x, y)
        mark(sheet, x + 20, y - 8, 0.5)
        for across, down in ((5, 8), (6, 8), (6, 9)):
            sheet.path(f"M{x + across * step:.1f} {y + down * step:.1f}l20-8", "here", thick=1.2)
        mark(sheet, x, y)

    def order(sheet: Sheet, at: Point, size: Point) -> None:
        (x, y), width = at, (size[0] - 12) / 8
        for moment in range(8):
            left = x + 6 + moment * width
            sheet.rect((left, y + 24), (width, 34), "visual", "visual-ink", thick=1)
            sheet.text(left + width / 2, y + 46, str(moment + 1), "ink")
        sheet.arrow((x + 8, y + 76), (x + size[0] - 8, y + 76))
        sheet.text(x + size[0] / 2, y + 16, "196 each")

    chain(
        sheet,
        wide,
        (
            ("patch", ("16 × 16 pixels,", "14 × 14 in a frame"), patch),
            ("tubelet", ("the same place in", "two successive frames"), tubelet),
            ("time-major order", ("16 frames: 8 moments,", "8 × 196 = 1568 tokens"), order),
        ),
    )


# Chapter 8: attention.


def _time_band(columns: int, rows: int, width: float) -> Callable[[int, int], float]:
    """Weights that are largest where the frame (row) and the step (column) are of the same time."""

    def share(column: int, row: int) -> float:
        apart = (column + 0.5) / columns - (row + 0.5) / rows
        return math.exp(-((apart / width) ** 2))

    return share


def _attention(sheet: Sheet, wide: bool) -> None:
    cell = (6.0, 8.0) if wide else (5.2, 7.0)
    width, height = 49 * cell[0], 16 * cell[1]
    left, top = (158.0, 82.0) if wide else (84.0, 82.0)
    side = 58

    def frames(x: float, y: float, name: str, colour: str) -> None:
        sheet.rect((x, y), (side, height), colour, f"{colour}-ink")
        sheet.rect((x, y + 7 * cell[1]), (side, cell[1]), "here")
        sheet.text(x + side / 2, y - 8, f"{name}: 16 × d", "ink")

    frames(left - side - 14, top, "Q", "visual")
    sheet.rect((left, top - 56), (width, 38), "sound", "sound-ink")
    sheet.text(left + width / 2, top - 32, "K: one key for each of 49 steps, 49 × d", "ink")
    cells(sheet, (left, top), (width, height), (49, 16), "joint-ink", _time_band(49, 16, 0.09))
    sheet.rect((left, top), (width, height), "plain", "joint-ink", share=0)
    sheet.rect((left, top + 7 * cell[1]), (width, cell[1]), "plain", "here", thick=2, share=0)
    sheet.text(left + width / 2, top + height + 20, "A: the softmax makes each row sum to 1", "ink")
    if wide:
        x, y, tall = left + width + 44, top, height + 32
        sheet.text(x - 22, y + height / 2 + 6, "×", "ink", 18)
    else:
        x, y, tall = 118.0, top + height + 58, 140.0
        sheet.text(x - 46, y + 62, "A", "ink", 16)
        sheet.text(x - 20, y + 62, "×", "ink", 18)
    sheet.rect((x, y - (16 if wide else 0)), (side, tall), "sound", "sound-ink")
    sheet.text(x + side / 2, y + height / 2 - 2, "V", "ink")
    sheet.text(x + side / 2, y + height / 2 + 16, "49 × d", "ink")
    sheet.text(x + side + 22, y + (height / 2 if wide else 56) + 6, "=", "ink", 18)
    frames(x + side + 44, y + (0 if wide else 12), "Y", "joint")


def _heads(sheet: Sheet, wide: bool) -> None:
    width = WIDE if wide else TALL
    part = (width - 24) / 8
    gap = 10 if wide else 5
    sheet.text(width / 2, 20, "Q, K and V: 128 channels, in 8 parts of 16", "ink")
    for head in range(8):
        x = 12 + head * part
        middle = x + part / 2
        sheet.rect((x, 30), (part, 28), "plain", "plain-ink")
        sheet.text(middle, 49, str(head + 1), "ink", 13)
        sheet.arrow((middle, 60), (middle, 84))
        at, size = (x + gap / 2, 88), (part - gap, 44)
        cells(sheet, at, size, (16, 11), "joint-ink", _time_band(16, 11, 0.07 + 0.012 * head**2))
        sheet.rect(at, size, "plain", "joint-ink", thick=1, share=0)
        sheet.arrow((middle, 134), (middle, 176))
        sheet.rect((x, 180), (part, 28), "joint", "joint-ink")
        sheet.text(middle, 199, str(head + 1), "ink", 13)
    # On a patch of background, so that the arrows do not cross the words.
    words = (
        "each its own weights, 16 × 49" if not wide else "each head has its own weights, 16 frames × 49 steps"
    )
    sheet.rect((width / 2 - 3.6 * len(words), 142), (7.2 * len(words), 20), "plain", round_by=4)
    sheet.text(width / 2, 156, words, "ink")
    sheet.text(width / 2, 226, "side by side, 128 channels again", "ink")
    sheet.arrow((width / 2, 234), (width / 2, 256))
    sheet.box((width / 2 - 90, 260), (180, 50), "plain", "last matrix", "Y: 16 × 128")


def _agreement(sheet: Sheet, wide: bool) -> None:
    def changes(i: float) -> tuple[float, float]:
        visual = math.sin(0.13 * i) + 0.4 * math.sin(0.31 * i + 1)
        return visual, 0.9 * math.sin(0.13 * i - 0.2) + 0.45 * math.sin(0.29 * i + 1.3)

    def curves(sheet: Sheet, at: Point, size: Point, middles: Point) -> None:
        steps = [i * (size[0] - 12) / 100 for i in range(101)]
        for stream, colour in enumerate(("visual-ink", "sound-ink")):
            points = [
                (at[0] + 6 + x, at[1] + middles[stream] - 13 * changes(i)[stream])
                for i, x in enumerate(steps)
            ]
            sheet.curve(points, colour, thick=2)

    def sequences(sheet: Sheet, at: Point, size: Point) -> None:
        curves(sheet, at, size, (26, 68))

    def centred(sheet: Sheet, at: Point, size: Point) -> None:
        sheet.path(f"M{at[0] + 6:g} {at[1] + 46:g}h{size[0] - 12:g}", thick=1, dashed=True)
        curves(sheet, at, size, (46, 46))

    values = ((0.8, 0.7), (-0.5, -0.8), (0.6, -0.4), (0.3, 0.6), (-0.7, -0.5), (-0.3, 0.4))

    def bars(sheet: Sheet, at: Point, size: Point, which: Sequence[tuple[float, str]], place: float) -> None:
        wide_by = (size[0] - 24) / 6
        for channel, (value, colour) in enumerate(which):
            x = at[0] + 12 + (channel + place) * wide_by
            top = at[1] + 46 - 40 * max(value, 0)
            sheet.rect((x, top), (wide_by * 0.36, 40 * abs(value)), colour)

    def product(sheet: Sheet, at: Point, size: Point) -> None:
        bars(sheet, at, size, [(visual, "visual-ink") for visual, _ in values], 0.1)
        bars(sheet, at, size, [(sound, "sound-ink") for _, sound in values], 0.5)
        sheet.path(f"M{at[0] + 6:g} {at[1] + 46:g}h{size[0] - 12:g}", thick=1)

    def result(sheet: Sheet, at: Point, size: Point) -> None:
        products = [1.4 * visual * sound for visual, sound in values]
        bars(sheet, at, size, [(p, "joint-ink" if p > 0 else "here") for p in products], 0.3)
        sheet.path(f"M{at[0] + 6:g} {at[1] + 46:g}h{size[0] - 12:g}", thick=1)

    chain(
        sheet,
        wide,
        (
            ("two sequences", ("sound averaged from", "49 steps to 16 frames"), sequences),
            ("changes", ("each channel less its", "mean over the window"), centred),
            ("unit length", ("of one frame's vectors,", "channel by channel"), product),
            ("agreement", ("the products; their", "mean is the cosine"), result),
        ),
    )


def _detail(sheet: Sheet, wide: bool) -> None:
    size = (118.0, 74.0) if wide else (168.0, 74.0)
    rows = (
        ("visual", (
            ("frames", "every fourth", "of the 16"), ("high-pass", "less the mean", "of 5 × 5 pixels"),
            ("convolutions", "64 maps"), ("pooling", "maximum; mean", "in 6 × 6 places"),
        )),
        ("sound", (
            ("spectrogram", "32 ms", "every 10 ms"), ("levelled", "less the mean", "of the window"),
            ("convolutions", "32 maps"), ("pooling", "mean, maximum", "over frequency"),
        )),
    )  # fmt: skip
    end = (590.0, 54.0) if wide else (96.0, 4 * 100 + 14.0)
    for lane, (kind, stages) in enumerate(rows):
        places = [
            (6 + step * 140, 10 + lane * 88) if wide else (8 + lane * 176, 10 + step * 100)
            for step in range(4)
        ]
        for place, (title, *details) in zip(places, stages, strict=True):
            sheet.box(place, size, kind, title, *details)
        for here, there in pairwise(places):
            sheet.join(here, size, there, size, lying=wide)
        sheet.join(places[-1], size, end, size, lying=wide)
    sheet.box(end, size, "joint", "detail", "4 quarters × 2 C,", "to the classifier")


# Chapter 9: complementary masks and what fills them.


def _masks(sheet: Sheet, wide: bool) -> None:
    visible = {1, 3, 4, 7}  # in the video; the others in the audio
    cell, breadth = (23, 40) if wide else (19, 74)
    # Along the way of the data, and across it: the video's lane and the audio's.
    lanes = (54, 150) if wide else (90, 270)

    def turn(along: float, across: float) -> Point:
        return (along, across) if wide else (across, along)

    def slices(start: float, lane: int, filled: bool) -> None:
        stream = ("visual", "sound")[lane]
        for number in range(1, 9):
            at = turn(start + (number - 1) * cell, lanes[lane] - breadth / 2)
            if (number in visible) == (lane == 0):
                sheet.rect(at, turn(cell, breadth), stream, f"{stream}-ink")
                continue
            kind = "joint" if filled else "plain"
            sheet.rect(at, turn(cell, breadth), kind, f"{kind}-ink", dashed=not filled)

    def boxes(along: float, size: Point, kind: str, names: Sequence[tuple[str, ...]]) -> None:
        for lane, words in zip(lanes, names, strict=True):
            x, y = turn(along, lane)
            sheet.box((x - size[0] / 2, y - size[1] / 2), size, kind, *words)

    block = 8 * cell
    if wide:
        first, between, second, last, depth, deep = 58, 304, 366, 646, (72, 44), (128, 58)
        half, last_half = 36, 64
    else:
        first, between, second, last, depth, deep = 32, 264, 336, 556, (110, 40), (150, 56)
        half, last_half = 20, 28
    for lane in (0, 1):
        slices(first, lane, filled=False)
        slices(second, lane, filled=True)
        other = lanes[1 - lane]
        start, end = turn(first + block + 2, lanes[lane]), turn(between - half - 3, other)
        sheet.link(start, end, lying=wide)
        sheet.arrow(turn(between + half, other), turn(second - 4, other))
        sheet.arrow(turn(second + block + 2, other), turn(last - last_half - 3, other))
    boxes(between, depth, "joint", (("A2V",), ("V2A",)))
    boxes(last, deep, "plain", (("decoder", "all tubelets"), ("decoder", "all audio patches")))
    if wide:
        for lane, words in zip(lanes, ("video", "audio"), strict=True):
            sheet.text(6, lane + 4, words, "ink", anchor="start")
        sheet.text(first + block / 2, 20, "features, half masked", "ink")
        sheet.text(second + block / 2, 20, "merged", "ink")
        sheet.arrow((first, 190), (first + block, 190))
        sheet.text(first + block / 2, 208, "time, 8 slices")
    else:
        for lane, words in zip(lanes, ("video", "audio"), strict=True):
            sheet.text(lane, 20, words, "ink")
        for y, words in ((first, ("half", "masked")), (second, ("merged",))):
            for row, word in enumerate(words):
                sheet.text(180, y + block / 2 + 17 * row - 4, word, "ink")


# Chapter 10: what stage one minimises.


def _losses(sheet: Sheet, wide: bool) -> None:
    networks = (
        ("plain", "windows", "of real clips"), ("visual", "encoders", "audio and video"),
        ("joint", "A2V, V2A", "fill the masked"), ("joint", "decoders", "to patches"),
        ("sound", "critics", "real patches?"),
    )  # fmt: skip
    losses = ((1, "contrast", "of the features"), (3, "reconstruction", "of masked patches"),
              (4, "adversarial", "fool the critics"))  # fmt: skip
    size = (126.0, 58.0) if wide else (154.0, 58.0)
    places = [(6 + step * 145.5, 96.0) if wide else (8.0, 10 + step * 92.0) for step in range(5)]
    for place, words in zip(places, networks, strict=True):
        sheet.box(place, size, *words)
    for here, there in pairwise(places):
        sheet.join(here, size, there, size, lying=wide)
    sides = {step: (places[step][0], 190.0) if wide else (184.0, places[step][1]) for step, *_ in losses}
    for step, title, detail in losses:
        x, y = sides[step]
        sheet.join(places[step], size, sides[step], size, lying=not wide)
        sheet.box((x, y), size, "plain", title, detail)
        if wide:
            sheet.arrow((x + size[0] / 2, y + size[1]), (x + size[0] / 2, 281))
        else:
            bus, end = 354, 10 + 5 * 92 - 3
            sheet.path(f"M{x + size[0]:g} {y + size[1] / 2:g}H{bus}V{end - 10}")
            if step == 4:
                sheet.arrow((bus, y + size[1] / 2), (bus, end + 28), (341, end + 28))
    words = ("weighted sum", "trains encoders, A2V, V2A and decoders")
    if wide:
        sheet.box((sides[1][0], 284), (sides[4][0] + size[0] - sides[1][0], 50), "joint", *words)
        critic = (places[4][0], 8.0)
        sheet.arrow((critic[0] + size[0] / 2, 96), (critic[0] + size[0] / 2, critic[1] + size[1] + 3))
    else:
        sheet.box((184, 470), (154, 78), "joint", words[0], "trains encoders,", "A2V, V2A, decoders")
        critic = (8.0, 480.0)
        sheet.join(places[4], size, critic, size, lying=False)
    sheet.box(critic, size, "plain", "critic loss", "critics alone")


# Chapter 11: which windows of a partly fake clip count as fake.


def _window_labels(sheet: Sheet, wide: bool) -> None:
    left, second = (20, 210) if wide else (10, 106)
    fake, bottom = (1.0, 2.4), 226

    def x(time: float) -> float:
        return left + time * second

    sheet.rect((x(fake[0]), 26), (x(fake[1]) - x(fake[0]), bottom - 26), "here", share=0.13)
    sheet.text(x(1.7), 18, "fake part", "here", bold=True)
    windows = (
        (0.0, "nothing fake: label 0", "visual"), (0.2, "0.2 s fake: none", "plain"),
        (0.6, "0.4 s fake: label 1", "here"), (1.2, "all fake: label 1", "here"),
        (2.2, "0.2 s fake: none", "plain"),
    )  # fmt: skip
    for row, (start, words, colour) in enumerate(windows):
        y = 38 + row * 38
        edge = colour if colour == "here" else f"{colour}-ink"
        sheet.rect((x(start), y), (second, 24), "plain", edge, thick=2, dashed=colour == "plain", round_by=3)
        inside = max(start, fake[0]), min(start + 1, fake[1])
        if inside[1] > inside[0]:
            sheet.rect((x(inside[0]), y), (x(inside[1]) - x(inside[0]), 24), "here", share=0.45, round_by=3)
        after = start < 1
        place = x(start + 1) + 8 if after else x(start) - 8
        sheet.text(place, y + 16.5, words, "ink", anchor="start" if after else "end")
    sheet.path(f"M{x(0):g} {bottom}H{x(3.2):g}", "soft", thick=1.4)
    for tick in range(4):
        sheet.path(f"M{x(tick):g} {bottom}v5", "soft", thick=1.4)
        sheet.text(x(tick) + (4 if tick == 0 else 0), bottom + 20, f"{tick} s" if tick else "0")


# Chapter 12: from windows to a label.


def _pieces(sheet: Sheet, wide: bool) -> None:
    left, second = (12, 103) if wide else (8, 51)
    total, seconds = 6.7, 4.0

    def x(time: float) -> float:
        return left + time * second

    for number, (start, end, colour) in enumerate(((0.0, seconds, "visual"), (seconds, total, "sound"))):
        sheet.rect((x(start), 8), (x(end) - x(start), 30), colour, f"{colour}-ink")
        sheet.text(x((start + end) / 2), 28, f"piece {number}", "ink")
    for time, words, anchor in ((seconds, "end of piece 0", "middle"), (total, "end of file", "end")):
        sheet.path(f"M{x(time):g} 38V150", "here", thick=2, dashed=True)
        sheet.text(x(time), 166, words, "here", anchor=anchor)
    starts = [0.5 * k for k in range(12)] + [total - 1]
    for k, start in enumerate(starts):
        colour = "visual" if start + 1 <= seconds else "sound"
        y = 56 + (k % 3) * 26
        sheet.rect((x(start) + 1, y), (second - 2, 20), colour, f"{colour}-ink", thick=1.4, round_by=3)
        sheet.text(x(start + 0.5), y + 14.5, str(k), "ink")


def _calibration(sheet: Sheet, wide: bool) -> None:
    def raw(sheet: Sheet, at: Point, size: Point) -> None:
        values = (0.82, 0.55, 0.9, 0.2, 0.68, 0.75)
        width = (size[0] - 24) / len(values)
        for number, value in enumerate(values):
            corner = (at[0] + 12 + number * width + 3, at[1] + 86 - 76 * value)
            sheet.rect(corner, (width - 6, 76 * value), "visual", "visual-ink", thick=1)
        mean = at[1] + 86 - 76 * sum(values) / len(values)
        sheet.path(f"M{at[0] + 6:g} {mean:g}h{size[0] - 12:g}", "here", dashed=True)

    def scaled(sheet: Sheet, at: Point, size: Point) -> None:
        def point(r: float, p: float) -> Point:
            return at[0] + 8 + (size[0] - 16) * r, at[1] + 84 - 76 * p

        sheet.path("M{:g} {:g}L{:g} {:g}".format(*point(0, 0), *point(1, 1)), thick=1.4, dashed=True)
        raws = [0.002 + 0.996 * i / 100 for i in range(101)]
        odds = [math.log(r / (1 - r)) / 0.5 + 1.5 for r in raws]
        sheet.curve(
            [point(r, 1 / (1 + math.exp(-z))) for r, z in zip(raws, odds, strict=True)],
            "joint-ink",
            thick=2.4,
        )

    def label(sheet: Sheet, at: Point, size: Point) -> None:
        for top, height, colour, words in (
            (0, 34, "here", "fake"), (34, 32, "plain", "undetermined"), (66, 26, "visual", "real"),
        ):  # fmt: skip
            share = 0.2 if colour == "here" else 1
            sheet.rect((at[0], at[1] + top), (size[0], height), colour, "line", thick=1, share=share)
            sheet.text(at[0] + size[0] / 2, at[1] + top + height / 2 + 5, words, "ink", 13)

    chain(
        sheet,
        wide,
        (
            ("raw score", ("mean of the windows'", "raw probabilities"), raw),
            ("calibrated score", ("logit divided by τ,", "plus b, and back"), scaled),
            ("label", ("none in the unsure range", "around the threshold"), label),
        ),
    )


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


DIAGRAMS = {
    "mel": Diagram(
        "From a waveform to a log-mel spectrogram",
        "Four pictures in a row. Overlapping pieces of the waveform, 1024 samples each; their power at 513 "
        "frequencies, one column a piece; 64 triangular filters that widen with the frequency; the log-mel "
        "spectrogram of 64 bands in decibels.",
        (172, 490),
        _mel,
    ),
    "tubelets": Diagram(
        "Patches and tubelets",
        "A frame is cut into 14 by 14 patches of 16 by 16 pixels. A tubelet is the same place in two "
        "successive frames. 16 frames make 8 moments of 196 tubelets each, in the order of time.",
        (172, 362),
        _tubelets,
    ),
    "attention": Diagram(
        "Cross-attention of 16 frames to 49 steps of sound",
        "The queries Q, 16 by d, and the keys K, 49 by d, give a table of weights A with 16 rows and 49 "
        "columns; each row sums to 1. A times the values V, 49 by d, is the output Y, 16 by d. One row, of "
        "frame 8, is marked in Q, A and Y.",
        (240, 424),
        _attention,
    ),
    "heads": Diagram(
        "Eight attention heads",
        "The 128 channels of queries, keys and values are split into 8 parts of 16. Each head has its own "
        "weights, 16 frames by 49 steps. The outputs are put side by side and mixed by a matrix.",
        (318, 318),
        _heads,
    ),
    "agreement": Diagram(
        "The agreement of the two streams",
        "Four pictures in a row. Two sequences, the sound averaged down to the frames; both less their mean "
        "over the window; the two vectors of a frame at unit length, channel by channel; their products, "
        "positive where both go the same way.",
        (172, 490),
        _agreement,
    ),
    "detail": Diagram(
        "The detail path",
        "Two rows of boxes. Every fourth frame, less its local mean, goes through convolutions and is pooled "
        "to maxima and to means in 6 by 6 places. The spectrogram, less its mean, goes through convolutions "
        "and is pooled over frequency. Both together are the detail features, which go to the classifier.",
        (182, 498),
        _detail,
    ),
    "masks": Diagram(
        "Complementary masks, translated, merged and decoded",
        "Eight slices of video features and of audio features; each moment is masked in exactly one of them. "
        "A2V predicts the masked video from the visible audio, V2A the masked audio from the visible video. "
        "The predictions are merged with the visible slices; a decoder for each stream gives all patches.",
        (218, 592),
        _masks,
    ),
    "losses": Diagram(
        "The losses of stage one",
        "Windows of real clips go through encoders, A2V and V2A, decoders and critics. The contrast is of "
        "the encoders' features, the reconstruction of the decoders' masked patches, the adversarial loss of "
        "the critics' scores. Their weighted sum trains all but the critics, which have a loss of their own.",
        (342, 556),
        _losses,
    ),
    "window-labels": Diagram(
        "Labels of the windows of a partly fake clip",
        "A clip that is fake from 1.0 to 2.4 s, and five windows of one second. The one with nothing fake "
        "has the label 0, those with 0.4 s or more the label 1, and two with only 0.2 s have none.",
        (254, 254),
        _window_labels,
    ),
    "pieces": Diagram(
        "Pieces and windows of a file",
        "A file of 6.7 s in a piece of 4 s and the rest, and 13 windows of one second, one every half second "
        "and a last one that ends with the file. Windows 0 to 6 end in piece 0, all others in piece 1.",
        (174, 174),
        _pieces,
    ),
    "calibration": Diagram(
        "From a raw score to a label",
        "Three pictures in a row. The raw probabilities of the windows and their mean; a curve from the raw "
        "to the calibrated score; the ranges of the calibrated score for real, undetermined and fake.",
        (172, 362),
        _calibration,
    ),
    "splits": Diagram(
        "A split by clip and a split by people",
        "Six people with three clips each. Split by clip, five of them are in two or more of train, val and "
        "test; split by people, all clips of a person, and both people of a face swap, are in one.",
        (230, 230),
        _splits,
    ),
}
