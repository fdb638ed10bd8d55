"""What the diagrams of the chapters share: a row of panels, a grid of cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drawing import Point, Sheet

WIDE, TALL = 720, 360  # pixels across, for desktops and for phones
Paint = Callable[[Sheet, Point, Point], None]  # sheet, upper left corner, width and height


@dataclass(frozen=True)
class Diagram:
    """Description of a diagram, its height in both shapes, and the function that draws it."""

    title: str
    about: str
    heights: Point  # lying, standing
    paint: Callable[[Sheet, bool], None]


PICTURE = 92  # height of a panel's picture


def chain(
    sheet: Sheet, wide: bool, panels: Sequence[tuple[str, Sequence[str], Paint]], *, arrows: bool = True
) -> None:
    """Panels of a title, lines of words and a picture; arrows lead from each to the next."""
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
        if arrows and number < len(panels) - 1:
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
    """A grid of (columns, rows); ``share(column, row)``, from 0 to 1, is the darkness of a cell."""
    columns, rows = shape
    width, height = size[0] / columns, size[1] / rows
    for column in range(columns):
        for row in range(rows):
            corner = (at[0] + column * width, at[1] + row * height)
            sheet.rect(corner, (width, height), colour, share=max(0.0, min(1.0, share(column, row))))
