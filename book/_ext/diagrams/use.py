"""Diagrams of the chapters that use and evaluate a detector, 15 to 19."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from drawing import Point, Sheet

from diagrams.panels import Diagram, Paint, cells, chain

# Chapter 15: from windows to a label.


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
            ("raw output", ("mean of the windows'", "raw probabilities"), raw),
            ("calibrated score", ("logit divided by τ,", "plus b, and back"), scaled),
            ("label", ("none in the unsure range", "around the threshold"), label),
        ),
    )


# Chapter 16: from scores to a point of the ROC curve.

REALS = (0.06, 0.12, 0.18, 0.3, 0.36, 0.58, 0.74)
FAKES = (0.25, 0.48, 0.66, 0.8, 0.88, 0.94)
LIMIT = 0.52


def _counts(sheet: Sheet, wide: bool) -> None:
    def scores(sheet: Sheet, at: Point, size: Point) -> None:
        (x, y), width = at, size[0] - 16
        for values, colour, row in ((REALS, "visual-ink", 30), (FAKES, "here", 62)):
            for value in values:
                sheet.dot((x + 8 + width * value, y + row), colour, 4)
        sheet.path(f"M{x + 8 + width * LIMIT:.1f} {y + 6}v80", "soft", dashed=True)

    def table(sheet: Sheet, at: Point, size: Point) -> None:
        counts = [[sum((v >= LIMIT) == called for v in values) for called in (False, True)]
                  for values in (REALS, FAKES)]  # fmt: skip
        width, height = size[0] / 2, size[1] / 2
        for row, kind in enumerate(("visual", "here")):
            for column in range(2):
                right = row == column
                corner = (at[0] + column * width, at[1] + row * height)
                sheet.rect(corner, (width, height), kind, "line", thick=1, share=0.35 if right else 0.08)
                sheet.text(
                    corner[0] + width / 2, corner[1] + 29, str(counts[row][column]), "ink", 16, bold=right
                )

    def roc(sheet: Sheet, at: Point, size: Point) -> None:
        side = size[1] - 14
        left, bottom = at[0] + (size[0] - side) / 2, at[1] + size[1] - 7

        def point(limit: float) -> Point:
            fpr, tpr = (sum(v >= limit for v in values) / len(values) for values in (REALS, FAKES))
            return left + side * fpr, bottom - side * tpr

        sheet.path(f"M{left:.1f} {bottom}l{side} {-side}", thick=1, dashed=True)
        limits = sorted({*REALS, *FAKES, 0.0, 1.0}, reverse=True)
        sheet.curve([point(limit) for limit in limits], "joint-ink", thick=2.2)
        sheet.dot(point(LIMIT), "here", 4.5)

    chain(
        sheet,
        wide,
        (
            ("scores", ("7 real clips, 6 fake;", "dashed: a threshold"), scores),
            ("four counts", ("rows real, fake; columns", "labelled real, fake"), table),
            ("one point", ("of the ROC curve; each", "threshold gives another"), roc),
        ),
    )


# Chapter 17: integrated gradients.


def _path(sheet: Sheet, wide: bool) -> None:
    def face(share: float) -> Callable[[int, int], float]:
        def cell(column: int, row: int) -> float:
            mouth = row == 5 and 2 <= column <= 5
            eye = row == 2 and column in (2, 5)
            return share * (0.9 if mouth or eye else 0.25)

        return cell

    def line(sheet: Sheet, at: Point, size: Point) -> None:
        width = (size[0] - 26) / 3
        for number, share in enumerate((0.0, 0.5, 1.0)):
            corner = (at[0] + 5 + number * (width + 8), at[1] + 46 - width / 2)
            cells(sheet, corner, (width, width), (8, 8), "visual-ink", face(share))
            sheet.rect(corner, (width, width), "plain", "line", thick=1, share=0)

    def slopes(sheet: Sheet, at: Point, size: Point) -> None:
        heights = [0.08, 0.14, 0.3, 0.7, 0.95, 0.6, 0.3, 0.16, 0.1, 0.06]
        width = (size[0] - 16) / len(heights)
        for number, height in enumerate(heights):
            corner = (at[0] + 8 + number * width, at[1] + 84 - 72 * height)
            sheet.rect((corner[0] + 1, corner[1]), (width - 2, 72 * height), "sound", "sound-ink", thick=1)

    def map_of(sheet: Sheet, at: Point, size: Point) -> None:
        side = size[1] - 12
        corner = (at[0] + (size[0] - side) / 2, at[1] + 6)
        cells(sheet, corner, (side, side), (8, 8), "here",
              lambda c, r: 0.9 if r == 5 and 2 <= c <= 5 else 0.05)  # fmt: skip
        sheet.rect(corner, (side, side), "plain", "line", thick=1, share=0)

    chain(
        sheet,
        wide,
        (
            ("a straight line", ("from the baseline", "to the input"), line),
            ("slopes along it", ("of the logit, for each", "pixel at each step"), slopes),
            ("attribution", ("their mean, times input", "minus baseline"), map_of),
        ),
    )


# Chapter 18: shards, and a batch from several of them.


def _shards(sheet: Sheet, wide: bool) -> None:
    def stack(kinds: Sequence[str]) -> Paint:
        def paint(sheet: Sheet, at: Point, size: Point) -> None:
            height = (size[1] - 12) / len(kinds)
            for row, kind in enumerate(kinds):
                corner = (at[0] + 10, at[1] + 6 + row * height)
                sheet.rect(
                    (corner[0], corner[1] + 1.5), (size[0] - 20, height - 3), kind, f"{kind}-ink", thick=1
                )

        return paint

    def shards(sheet: Sheet, at: Point, size: Point) -> None:
        width = (size[0] - 32) / 3
        for number, kind in enumerate(kinds):
            corner = (at[0] + 8 + number * (width + 8), at[1] + 10)
            sheet.rect(corner, (width, 72), kind, f"{kind}-ink", round_by=4)
            for line in range(1, 6):
                sheet.path(f"M{corner[0]:.1f} {corner[1] + 12 * line}h{width:.1f}", f"{kind}-ink", thick=0.8)

    kinds = ("visual", "sound", "joint")
    chain(
        sheet,
        wide,
        (
            ("videos", ("hundreds of thousands", "of small files"), stack(("plain",) * 9)),
            (
                "prepared once",
                ("decoded, tracked,", "faces cut out"),
                stack(("visual", "sound", "joint") * 2),
            ),
            ("shards", ("tar files of a thousand", "clips, and an index"), shards),
            (
                "a batch",
                ("step and row decide", "which windows"),
                stack(("sound", "visual", "joint", "visual")),
            ),
        ),
    )


# Chapter 19: the four steps of the detector of synchrony.


def _mouth(sheet: Sheet, wide: bool) -> None:
    def crop(sheet: Sheet, at: Point, size: Point) -> None:
        x, y = at[0] + size[0] / 2, at[1] + 46
        sheet.parts.append(f'<ellipse cx="{x:g}" cy="{y:g}" rx="30" ry="38" fill="{sheet.colour["visual"]}" '
                           f'stroke="{sheet.colour["visual-ink"]}"/>')  # fmt: skip
        sheet.dot((x - 11, y - 10), "visual-ink")
        sheet.dot((x + 11, y - 10), "visual-ink")
        sheet.path(f"M{x - 11} {y + 17}q11 9 22 0", "visual-ink")
        sheet.rect((x - 20, y + 4), (40, 28), "here", "here", thick=2, share=0.08)

    def moving(sheet: Sheet, at: Point, size: Point) -> None:
        x, y = at[0] + size[0] / 2, at[1] + 46
        sheet.rect((x - 44, y - 30), (88, 60), "plain", "line", thick=1)
        for bend in (4, 14, 24):
            sheet.path(f"M{x - 30} {y - 6}q30 {bend} 60 0", "visual-ink", thick=1.4)
        sheet.path(f"M{x - 30} {y - 6}q30 14 60 0", "here", dashed=True)

    def lags(sheet: Sheet, at: Point, size: Point) -> None:
        side = 80.0
        corner = (at[0] + (size[0] - side) / 2, at[1] + 6)

        def share(column: int, row: int) -> float:
            return 0.9 if column - row == 2 else 0.28 if column == row else 0.08

        cells(sheet, corner, (side, side), (10, 10), "joint-ink", share)

    def margin(sheet: Sheet, at: Point, size: Point) -> None:
        heights = [0.2, 0.24, 0.18, 0.26, 0.3, 0.5, 0.86, 0.48, 0.28, 0.22, 0.25]
        width = (size[0] - 16) / len(heights)
        for number, height in enumerate(heights):
            near = 5 <= number <= 7
            kind = "joint" if near else "plain"
            corner = (at[0] + 8 + number * width + 1, at[1] + 86 - 76 * height)
            sheet.rect(corner, (width - 2, 76 * height), kind, f"{kind}-ink", thick=1)

    chain(
        sheet,
        wide,
        (
            ("mouth", ("cut out by landmarks,", "steadied over time"), crop),
            ("what moves", ("the picture minus its", "mean over the window"), moving),
            ("every lag", ("each frame against", "each moment of sound"), lags),
            ("margin", ("best lag near zero", "against the rest"), margin),
        ),
    )


DIAGRAMS = {
    "counts": Diagram(
        "From scores to a point of the ROC curve",
        "Three pictures in a row. Scores of real and fake clips as dots on a line, with a threshold; the "
        "table of the four counts; the ROC curve with the point that belongs to the threshold.",
        (172, 362),
        _counts,
    ),
    "path": Diagram(
        "Integrated gradients, step by step",
        "Three pictures in a row. A straight line of pictures from an empty baseline to a face; the slopes "
        "of the logit along it; the attribution, which marks the mouth.",
        (172, 362),
        _path,
    ),
    "shards": Diagram(
        "From videos to a batch",
        "Four pictures in a row. Many small files; clips prepared once; shards, tar files with an index; a "
        "batch, whose rows come from several shards.",
        (172, 490),
        _shards,
    ),
    "mouth": Diagram(
        "Synchrony in four steps",
        "Four pictures in a row. A face with a box around the mouth; the mouth minus its mean over the "
        "window; a table of frames against moments of sound with one bright diagonal; the agreement at each "
        "lag, whose best value stands out from the rest.",
        (172, 490),
        _mouth,
    ),
    "pieces": Diagram(
        "Pieces and windows of a file",
        "A file of 6.7 s in a piece of 4 s and the rest, and 13 windows of one second, one every half "
        "second and a last one that ends with the file. Windows 0 to 6 end in piece 0, all others in piece "
        "1.",
        (174, 174),
        _pieces,
    ),
    "calibration": Diagram(
        "From a raw output to a label",
        "Three pictures in a row. The raw probabilities of the windows and their mean; a curve from the raw "
        "to the calibrated score; the ranges of the calibrated score for real, undetermined and fake.",
        (172, 362),
        _calibration,
    ),
}
