"""The diagrams of the chapters, each in a wide shape for desktops, 720 pixels, and a tall one for phones."""

from __future__ import annotations

from drawing import Sheet

from diagrams import inputs, models, use
from diagrams.panels import TALL, WIDE

DIAGRAMS = {**inputs.DIAGRAMS, **models.DIAGRAMS, **use.DIAGRAMS}


def draw_diagram(name: str, theme: str, shape: str) -> str:
    """A diagram as SVG text; ``shape`` is ``"wide"`` or ``"tall"``."""
    diagram, wide = DIAGRAMS[name], shape == "wide"
    size = (WIDE, diagram.heights[0]) if wide else (TALL, diagram.heights[1])
    sheet = Sheet(theme, diagram.title, diagram.about, size)
    diagram.paint(sheet, wide)
    return sheet.svg()
