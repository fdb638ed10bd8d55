"""Shared by all drawings of the book: palettes for light and dark, and a sheet to draw on as SVG."""

from __future__ import annotations

from collections.abc import Sequence

PALETTES = {
    "light": {
        "ink": "#1f2933", "soft": "#52606d", "line": "#9aa5b1", "here": "#b42318", "on-here": "#ffffff",
        "plain": "#f5f7fa", "visual": "#dbeafe", "sound": "#fef0c7", "joint": "#e3f5e1",
        "plain-ink": "#52606d", "visual-ink": "#1d4ed8", "sound-ink": "#a15c07", "joint-ink": "#1c7c3c",
    },
    "dark": {
        "ink": "#f1f5f9", "soft": "#b8c4d0", "line": "#7b8794", "here": "#ff8a7a", "on-here": "#1f2933",
        "plain": "#27313b", "visual": "#1c3358", "sound": "#46340f", "joint": "#17402a",
        "plain-ink": "#b8c4d0", "visual-ink": "#8ab4ff", "sound-ink": "#f5c451", "joint-ink": "#6fd492",
    },
}  # fmt: skip

TIP = ' marker-end="url(#tip)"'
DASHES = ' stroke-dasharray="4 3"'

Point = tuple[float, float]


class Sheet:
    """An unfinished drawing; colours are named as in `PALETTES`, sizes are in its own pixels."""

    def __init__(self, theme: str, title: str, about: str, size: Point) -> None:
        """``title`` and ``about`` describe the drawing; ``size`` is width and height."""
        self.colour = PALETTES[theme]
        self.size = size
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]:g} {size[1]:g}" role="img" '
            'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif">',
            f"<title>{title}</title>",
            f"<desc>{about}</desc>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0 8 4 0 8z" fill="{self.colour["line"]}"/></marker></defs>',
        ]

    def svg(self) -> str:
        return "\n".join([*self.parts, "</svg>", ""])

    def text(
        self,
        x: float,
        y: float,
        words: str,
        colour: str = "soft",
        size: float = 12.5,
        *,
        anchor: str = "middle",
        bold: bool = False,
    ) -> None:
        """A line of text on the baseline ``y``; ``anchor``: whether ``x`` is its start, middle or end."""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}"{weight} '
            f'fill="{self.colour[colour]}">{words}</text>'
        )

    def rect(
        self,
        at: Point,
        size: Point,
        fill: str,
        edge: str | None = None,
        *,
        thick: float = 1.2,
        round_by: float = 0,
        share: float = 1,
        dashed: bool = False,
    ) -> None:
        """A rectangle from its upper left corner; ``share`` is the opacity of its fill."""
        stroke = f' stroke="{self.colour[edge]}" stroke-width="{thick:g}"' if edge else ""
        self.parts.append(
            f'<rect x="{at[0]:g}" y="{at[1]:g}" width="{size[0]:g}" height="{size[1]:g}" rx="{round_by:g}" '
            f'fill="{self.colour[fill]}" fill-opacity="{share:.2g}"{stroke}{DASHES * dashed}/>'
        )

    def box(self, at: Point, size: Point, kind: str, title: str, *details: str) -> None:
        """A rounded box in the colour ``kind``, with a title and lines of detail below it."""
        self.rect(at, size, kind, f"{kind}-ink", round_by=10)
        x, y = at[0] + size[0] / 2, at[1] + size[1] / 2 + 5 - 8 * len(details)
        self.text(x, y, title, "ink", 14, bold=True)
        for number, words in enumerate(details):
            self.text(x, y + 17 + 16 * number, words)

    def path(
        self,
        code: str,
        colour: str = "line",
        *,
        thick: float = 2,
        tip: bool = False,
        dashed: bool = False,
    ) -> None:
        """A line along ``code``, with an arrowhead if requested."""
        self.parts.append(
            f'<path d="{code}" fill="none" stroke="{self.colour[colour]}" stroke-width="{thick:g}"'
            f"{TIP * tip}{DASHES * dashed}/>"
        )

    def dot(self, at: Point, colour: str, radius: float = 3.2) -> None:
        self.parts.append(
            f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:g}" fill="{self.colour[colour]}"/>'
        )

    def curve(self, points: Sequence[Point], colour: str, *, thick: float = 1.6) -> None:
        """A line through ``points``."""
        self.path("M" + " ".join(f"{x:.1f} {y:.1f}" for x, y in points), colour, thick=thick)

    def arrow(self, *points: Point) -> None:
        """An arrow along straight lines."""
        self.path("M" + "L".join(f"{x:g} {y:g}" for x, y in points), tip=True)

    def link(self, start: Point, end: Point, *, lying: bool) -> None:
        """An arrow with straight ends and a bend between them; ``lying``: from left to right."""
        (x0, y0), (x1, y1) = start, end
        if lying:
            bend = f"{(x0 + x1) / 2:g} {y0:g} {(x0 + x1) / 2:g} {y1:g}"
        else:
            bend = f"{x0:g} {(y0 + y1) / 2:g} {x1:g} {(y0 + y1) / 2:g}"
        self.path(f"M{x0:g} {y0:g}C{bend} {x1:g} {y1:g}", tip=True)

    def join(self, start: Point, size: Point, end: Point, next_size: Point, *, lying: bool) -> None:
        """A `link` from a box to the next, each given by its upper left corner and its size."""
        if lying:
            begin = (start[0] + size[0], start[1] + size[1] / 2)
            self.link(begin, (end[0] - 3, end[1] + next_size[1] / 2), lying=True)
        else:
            begin = (start[0] + size[0] / 2, start[1] + size[1])
            self.link(begin, (end[0] + next_size[0] / 2, end[1] - 3), lying=False)
