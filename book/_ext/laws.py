"""Laws of cost as one drawing: a panel each, with size across and seconds up, both on logarithmic scales."""

from __future__ import annotations

import math
from typing import Any

from drawing import Point, Sheet

PANEL, PLOT = (250, 205), (56, 44, 176, 116)  # width and height; left, top, width and height of the axes
COLUMNS = {"wide": 3, "tall": 1}


def draw_laws(theme: str, shape: str, tables: dict[str, Any], alt: str) -> str:
    """The figure as SVG text.

    Args:
        theme, shape: ``"light"`` or ``"dark"``, ``"wide"`` or ``"tall"``.
        tables: of ``benchmarks/cost.py``: ``exponents``, and one of the same name for each law.
        alt: description of the drawing.
    """
    columns = COLUMNS[shape]
    rows = -(-len(tables["exponents"]) // columns)
    sheet = Sheet(theme, "Laws of cost", alt, (columns * PANEL[0], rows * PANEL[1]))
    for number, (law, fitted) in enumerate(tables["exponents"].items()):
        down, across = divmod(number, columns)
        corner = (across * PANEL[0], down * PANEL[1])
        _panel(sheet, corner, law, tables[law], fitted["exponent"]["median"])
    return sheet.svg()


def _panel(sheet: Sheet, corner: Point, law: str, table: dict[str, Any], power: float) -> None:
    sizes = [float(name.split()[0]) for name in table]
    seconds = [row["seconds"] for row in table.values()]
    left, top, width, height = corner[0] + PLOT[0], corner[1] + PLOT[1], *PLOT[2:]
    lowest, highest = min(cell["low"] for cell in seconds) / 1.3, max(cell["high"] for cell in seconds) * 1.3

    def x(size: float) -> float:
        return left + 14 + (width - 28) * math.log(size / min(sizes)) / math.log(max(sizes) / min(sizes))

    def y(value: float) -> float:
        return top + height * (1 - math.log(value / lowest) / math.log(highest / lowest))

    # The line of the fitted power goes through the mean of the points.
    constant = math.exp(
        sum(
            math.log(cell["median"]) - power * math.log(size)
            for size, cell in zip(sizes, seconds, strict=True)
        )
        / len(sizes)
    )
    ends = [(size, constant * size**power) for size in (min(sizes), max(sizes))]
    middle = left + width / 2
    sheet.rect((left, top), (width, height), "plain", "line", thick=1)
    sheet.text(middle, top - 26, law, "ink", bold=True)
    exponent = f'time ∝ size<tspan dy="-5" font-size="11">{power:.2f}</tspan>'
    sheet.text(middle, top - 8, exponent)
    sheet.curve([(x(size), y(value)) for size, value in ends], "visual-ink")
    for size, cell in zip(sizes, seconds, strict=True):
        across = x(size)
        sheet.path(f"M{across:.1f} {y(cell['low']):.1f}V{y(cell['high']):.1f}", "here", thick=1)
        sheet.dot((across, y(cell["median"])), "here")
        sheet.text(across, top + height + 17, f"{size:g}")
    for cell in (seconds[0], seconds[-1]):
        sheet.text(left - 6, y(cell["median"]) + 4, f"{cell['median']:.2g} s", anchor="end")
