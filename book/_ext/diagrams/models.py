"""Diagrams of the chapters that build and train models, 6 to 14."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from drawing import Point, Sheet

from diagrams.panels import TALL, WIDE, Diagram, Paint, cells, chain

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
            ("changes", ("each channel minus its", "mean over the window"), centred),
            ("unit length", ("of one frame's vectors,", "channel by channel"), product),
            ("agreement", ("the products; their", "mean is the cosine"), result),
        ),
    )


def _detail(sheet: Sheet, wide: bool) -> None:
    size = (118.0, 74.0) if wide else (168.0, 74.0)
    rows = (
        ("visual", (
            ("frames", "every fourth", "of the 16"), ("high-pass", "minus the mean", "of 5 × 5 pixels"),
            ("convolutions", "64 maps"), ("pooling", "maximum; mean", "in 6 × 6 places"),
        )),
        ("sound", (
            ("spectrogram", "32 ms", "every 10 ms"), ("levelled", "minus the mean", "of the window"),
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


# Chapter 6: how much sound one step of the encoder sees.


def _receptive_field(sheet: Sheet, wide: bool) -> None:
    left, sample = (10.0, 700 / 720) if wide else (8.0, 344 / 720)
    wave = [math.sin(0.35 * i) * (0.4 + 0.6 * math.sin(0.02 * i) ** 2) for i in range(721)]
    sheet.curve([(left + sample * i, 178 - 16 * value) for i, value in enumerate(wave)], "sound-ink", thick=1)
    for start, kind in ((0, "visual"), (320, "joint")):
        x0, x1 = left + sample * start, left + sample * (start + 400)
        middle = (x0 + x1) / 2
        code = f"M{x0:.1f} 154L{middle - 9:.1f} 62H{middle + 9:.1f}L{x1:.1f} 154"
        sheet.path(code, f"{kind}-ink", thick=1.6)
        sheet.rect((middle - 13, 34), (26, 28), kind, f"{kind}-ink", round_by=4)
        sheet.text(middle, 24, f"step {start // 320}", "ink")
        sheet.path(f"M{x0:.1f} {206 + start / 320 * 26:g}H{x1:.1f}", f"{kind}-ink", thick=3)
    sheet.text(left + sample * 200, 226, "400 samples, 25 ms", "visual-ink")
    sheet.text(left + sample * 520, 252, "the next 400, 20 ms later", "joint-ink")
    words = "seven convolutions: kernels 10, 3, 3, 3, 3, 2, 2; strides 5, 2, 2, 2, 2, 2, 2"
    if wide:
        sheet.text(360, 278, words)
    else:
        for row, part in enumerate(words.split("; ")):
            sheet.text(180, 278 + 18 * row, part, size=12)


# Chapter 10: which head reads what.


def _two_heads(sheet: Sheet, wide: bool) -> None:
    size = (150.0, 60.0) if wide else (108.0, 64.0)
    parts = (("fusion", "D channels"), ("agreement", "D channels"), ("detail", "2 C channels"))
    steps = (6.0, 196.0, 386.0, 564.0) if wide else (30.0, 134.0, 238.0, 342.0)
    lanes = (24.0, 100.0, 176.0) if wide else (6.0, 126.0, 246.0)

    def turn(step: int, lane: int) -> Point:
        return (steps[step], lanes[lane]) if wide else (lanes[lane], steps[step])

    places = [turn(0, lane) for lane in range(3)]
    for place, words in zip(places, parts, strict=True):
        sheet.box(place, size, "joint", *words)
    decoder, mean = turn(1, 0), turn(1, 2 if wide else 1)
    sheet.box(decoder, size, "visual", "decoder", "each frame")
    sheet.join(places[0], size, decoder, size, lying=wide)
    target = turn(2, 0)
    sheet.box(target, size, "plain", "predicts", "both streams")
    sheet.join(decoder, size, target, size, lying=wide)
    sheet.box(mean, size, "sound", "mean", "over 16 frames")
    for place in places:
        sheet.join(place, size, mean, size, lying=wide)
    classifier = turn(2, 2 if wide else 1)
    sheet.box(classifier, size, "sound", "classifier", "two layers")
    sheet.join(mean, size, classifier, size, lying=wide)
    logit = turn(3, 2 if wide else 1)
    sheet.box(logit, size, "plain", "logit", "real or fake?")
    sheet.join(classifier, size, logit, size, lying=wide)
    if wide:
        sheet.text(645, 50, "stage one trains", "here", bold=True)
        sheet.text(645, 68, "this head,", "here", bold=True)
        sheet.text(645, 140, "stage two this one", "here", bold=True)
    else:
        sheet.text(60, 20, "stage one ↓", "here", bold=True)
        sheet.text(240, 20, "stage two ↓", "here", bold=True)


# Chapter 13: how fast each layer learns.


def _rates(sheet: Sheet, wide: bool) -> None:
    def bars(shares: Sequence[float]) -> Paint:
        def paint(sheet: Sheet, at: Point, size: Point) -> None:
            rows = len(shares)
            height = (size[1] - 8) / rows
            for row, share in enumerate(shares):
                y = at[1] + 4 + row * height
                kind = "joint" if row == 0 else "visual"
                sheet.rect((at[0] + 6, y + 2), (size[0] - 12, height - 4), "plain", "line", thick=1)
                if share:
                    length = (size[0] - 12) * share
                    sheet.rect((at[0] + 6, y + 2), (length, height - 4), kind, f"{kind}-ink", thick=1)

        return paint

    slow, decayed = (1, 0.12, 0.12, 0.12, 0.12), (1, 0.75, 0.56, 0.42, 0.32)
    chain(
        sheet,
        wide,
        (
            ("frozen", ("the head alone learns;", "the encoders stay"), bars((1, 0, 0, 0, 0))),
            ("one rate each", ("the encoders at a small", "part of the head's rate"), bars(slow)),
            ("decay by layer", ("each block slower than", "the block behind it"), bars(decayed)),
        ),
        arrows=False,
    )


# Chapter 11: complementary masks and what fills them.


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


# Chapter 12: what stage one minimises.


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


# Chapter 13: which windows of a partly fake clip count as fake.


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


DIAGRAMS = {
    "receptive-field": Diagram(
        "The receptive field of an audio step",
        "Two neighbouring steps of the audio encoder above a waveform. Each sees 400 samples, 25 "
        "milliseconds; the second sees those 20 milliseconds later, so the two overlap by 5.",
        (290, 308),
        _receptive_field,
    ),
    "two-heads": Diagram(
        "Decoder and classifier, side by side",
        "Fusion, agreement and detail stand side by side. The decoder reads the fusion alone and predicts "
        "both streams; stage one trains it. All three are averaged over the frames and read by the "
        "classifier, whose output is a logit; stage two trains it.",
        (250, 416),
        _two_heads,
    ),
    "rates": Diagram(
        "Three ways to go on from stage one",
        "Three stacks of bars, a head above four blocks of an encoder; the length of a bar is its learning "
        "rate. Frozen: the head alone. One rate each: the blocks at a small part of it. Decay by layer: "
        "each block slower than the block behind it.",
        (172, 362),
        _rates,
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
        "Four pictures in a row. Two sequences, the sound averaged down to the frames; both minus their mean "
        "over the window; the two vectors of a frame at unit length, channel by channel; their products, "
        "positive where both go the same way.",
        (172, 490),
        _agreement,
    ),
    "detail": Diagram(
        "The detail path",
        "Two rows of boxes. Every fourth frame, minus its local mean, goes through convolutions and is "
        "pooled to maxima and to means in 6 by 6 places. The spectrogram, minus its mean, goes through "
        "convolutions and is pooled over frequency. Both together are the detail features, which go to the "
        "classifier.",
        (182, 498),
        _detail,
    ),
    "masks": Diagram(
        "Complementary masks, translated, merged and decoded",
        "Eight slices of video features and of audio features; each moment is masked in exactly one of "
        "them. A2V predicts the masked video from the visible audio, V2A the masked audio from the visible "
        "video. The predictions are merged with the visible slices; a decoder for each stream gives all "
        "patches.",
        (218, 592),
        _masks,
    ),
    "losses": Diagram(
        "The losses of stage one",
        "Windows of real clips go through encoders, A2V and V2A, decoders and critics. The contrast is of "
        "the encoders' features, the reconstruction of the decoders' masked patches, the adversarial loss "
        "of the critics' scores. Their weighted sum trains all but the critics, which have a loss of their "
        "own.",
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
}
