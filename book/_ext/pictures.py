"""The drawings in the chapters, and their pictures for JupyterLab in ``notebooks/drawings``.

``python book/_ext/pictures.py`` writes the pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from diagrams import DIAGRAMS, draw_diagram
from pipeline import ABOUT, STAGES
from pipeline import draw as draw_pipeline

FOLDER = Path(__file__).parents[2] / "notebooks" / "drawings"


@dataclass(frozen=True)
class Drawing:
    """Description of a drawing, and the function of theme and shape that draws it."""

    about: str
    draw: Callable[[str, str], str]


def _pipeline(here: str | None) -> Drawing:
    about = f"{ABOUT} You are here: {STAGES[here]}." if here else ABOUT
    return Drawing(about, lambda theme, shape: draw_pipeline(theme, shape, here))


def _diagram(name: str) -> Drawing:
    return Drawing(DIAGRAMS[name].about, lambda theme, shape: draw_diagram(name, theme, shape))


DRAWINGS = {
    "pipeline": _pipeline(None),
    **{f"pipeline-{here}": _pipeline(here) for here in STAGES},
    **{f"diagram-{name}": _diagram(name) for name in DIAGRAMS},
}


def drawing_of(uri: str) -> Drawing | None:
    """The drawing whose picture is at ``uri``, or None for any other picture."""
    path = PurePosixPath(uri)
    return DRAWINGS.get(path.stem) if path.parent.name == FOLDER.name else None


def picture(name: str) -> str:
    """A drawing as SVG text for JupyterLab, on white, since JupyterLab does not tell a picture its theme."""
    code = DRAWINGS[name].draw("light", "wide")
    return code.replace("</desc>", '</desc>\n<rect width="100%" height="100%" fill="#ffffff"/>', 1)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in DRAWINGS:
        (FOLDER / f"{name}.svg").write_text(picture(name), encoding="utf-8")
