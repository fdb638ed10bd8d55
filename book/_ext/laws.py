"""Laws of cost as one drawing: a panel each, size across and seconds up, both in logarithms."""

from __future__ import annotations

import math
from typing import Any

from pipeline import PALETTES, head

PANEL, PLOT = (250, 205), (56, 44, 176, 116)  # width and height; left, top, width and height of the axes
COLUMNS = {"wide": 3, "tall": 1}


def draw_laws(theme: str, shape: str, tables: dict[str, Any]) -> str:
    """The figure as SVG text.

    Args:
        theme, shape: ``"light"`` or ``"dark"``, ``"wide"`` or ``"tall"``.
        tables: of ``benchmarks/cost.py``: ``exponents``, and one of the same name for each law.
    """
    columns = COLUMNS[shape]
    rows = -(-len(tables["exponents"]) // columns)
    colour = PALETTES[theme]
    parts = head("Laws of cost", (columns * PANEL[0], rows * PANEL[1]), colour["line"])
    for number, (law, fitted) in enumerate(tables["exponents"].items()):
        down, across = divmod(number, columns)
        parts.append(f'<g transform="translate({across * PANEL[0]} {down * PANEL[1]})">')
        parts += _panel(law, tables[law], fitted["exponent"]["median"], colour)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _panel(law: str, table: dict[str, Any], power: float, colour: dict[str, str]) -> list[str]:
    sizes = [float(name.split()[0]) for name in table]
    seconds = [row["seconds"] for row in table.values()]
    left, top, width, height = PLOT
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
    line = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in ends)
    middle = left + width / 2
    parts = [
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="{colour["plain"]}" '
        f'stroke="{colour["line"]}"/>',
        _label(middle, 18, colour["ink"], law, 'font-weight="600"'),
        _label(middle, 36, colour["soft"], f'time ∝ size<tspan dy="-5" font-size="11">{power:.2f}</tspan>'),
        f'<polyline points="{line}" stroke="{colour["visual-ink"]}" stroke-width="1.6"/>',
    ]
    for size, cell in zip(sizes, seconds, strict=True):
        across = x(size)
        parts += [
            f'<path d="M{across:.1f} {y(cell["low"]):.1f}V{y(cell["high"]):.1f}" stroke="{colour["here"]}"/>',
            f'<circle cx="{across:.1f}" cy="{y(cell["median"]):.1f}" r="3.2" fill="{colour["here"]}"/>',
            _label(across, top + height + 17, colour["soft"], f"{size:g}"),
        ]
    for cell in (seconds[0], seconds[-1]):
        at, value = y(cell["median"]) + 4, f"{cell['median']:.2g} s"
        parts.append(_label(left - 6, at, colour["soft"], value, 'text-anchor="end"'))
    return parts


def _label(x: float, y: float, colour: str, words: str, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="12.5" fill="{colour}" {extra}>{words}</text>'
