"""The library's folders as one drawing: the row along which data flows, and the folders that serve it."""

from __future__ import annotations

from itertools import pairwise

from drawing import Point, Sheet

SIZE = WIDTH, HEIGHT = 112, 82  # of a box
ABOUT = (
    "The folders of the library. Along the top, in the order of data: media, preprocess, models, training, "
    "inference, evaluation, report. Below them the folders that serve them: faces, nn, synth and data, "
    "forge, explain, demo and cli."
)

# folder, step along the way, lane across it (0 the sentence, 1 what serves it), colour, details
FOLDERS = (
    ("media", 0, 0, "plain", ("file ↔ clip",)),
    ("preprocess", 1, 0, "visual", ("clip", "→ inputs")),
    ("models", 2, 0, "joint", ("inputs", "→ logits")),
    ("training", 3, 0, "sound", ("two stages",)),
    ("inference", 4, 0, "joint", ("file", "→ prediction")),
    ("evaluation", 5, 0, "sound", ("metrics",)),
    ("report", 6, 0, "plain", ("page", "and tables")),
    ("faces", 0.5, 1, "plain", ("detect,", "track, crop")),
    ("nn", 1.5, 1, "joint", ("layers", "and losses")),
    ("synth, data", 2.5, 1, "sound", ("datasets",)),
    ("forge", 3.5, 1, "sound", ("pseudo-fakes",)),
    ("explain", 4.5, 1, "joint", ("attributions",)),
    ("demo, cli", 5.5, 1, "plain", ("page and", "command")),
)
SENTENCE = [folder for folder, _, lane, *_ in FOLDERS if lane == 0]


def draw_architecture(theme: str, shape: str) -> str:
    """The figure as SVG text; ``shape`` is ``"wide"`` or ``"tall"``."""
    wide = shape == "wide"

    def place(step: float, lane: float) -> Point:
        if wide:
            return 6 + step * (WIDTH + 18), 10 + lane * (HEIGHT + 26)
        return 10 + lane * (WIDTH + 44), 10 + step * (HEIGHT + 26)

    where = {folder: place(step, lane) for folder, step, lane, *_ in FOLDERS}
    width, height = (max(at[axis] for at in where.values()) for axis in (0, 1))
    size = (width + WIDTH + 14, height + HEIGHT + 14)
    sheet = Sheet(theme, "The folders of avff_lib", ABOUT, size)
    for start, end in pairwise(SENTENCE):
        sheet.join(where[start], SIZE, where[end], SIZE, lying=wide)
    for folder, _, _, kind, details in FOLDERS:
        sheet.box(where[folder], SIZE, kind, folder, *details)
    return sheet.svg()
