"""The pipeline figure: one drawing, in light and dark, wide for desktops and tall for phones.

``python book/_ext/pipeline.py`` writes the two files that README.md shows.
"""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

from drawing import PALETTES, Point, Sheet

ABOUT = (
    "A media file is read into frames and a waveform on one clock; each is prepared and encoded by its own "
    "network. Three branches follow: the fusion of the two sequences, their agreement, and the detail path, "
    "which sees the frames and the spectrogram directly. From all three a classifier gives the verdict; from "
    "the fusion a decoder rebuilds the encoders' output."
)

STAGES = {
    "media": "reading the file",
    "frames": "preparing the frames",
    "audio": "preparing the sound",
    "encoders": "the encoders",
    "fusion": "cross-modal fusion, agreement and detail",
    "decoder": "the decoder",
    "classifier": "the classifier",
    "verdict": "the verdict",
}

# name, stage, step along the way, lane across it (0 visual, 1 both, 2 sound), colour, title, detail
BOXES = (
    ("file", "media", 0, 1, "plain", "media file", "one clock"),
    ("frames", "frames", 1, 0, "visual", "frames", "16 × 224 × 224"),
    ("waveform", "audio", 1, 2, "sound", "waveform", "1 s, 16 kHz"),
    ("see", "encoders", 2, 0, "visual", "visual encoder", "ViT"),
    ("hear", "encoders", 2, 2, "sound", "audio encoder", "Wav2Vec2"),
    ("fusion", "fusion", 3, 0, "joint", "fusion", "cross-attention"),
    ("detail", "fusion", 3, 1, "joint", "detail path", "fine traces"),
    ("agreement", "fusion", 3, 2, "joint", "agreement", "changes alike"),
    ("decoder", "decoder", 4, 0, "joint", "decoder", "both streams"),
    ("classifier", "classifier", 4, 1, "joint", "classifier", "one logit"),
    ("verdict", "verdict", 5, 1, "plain", "verdict", "real or fake?"),
)
ARROWS = (
    ("frames", "see"), ("waveform", "hear"), ("see", "fusion"), ("hear", "fusion"), ("see", "agreement"),
    ("hear", "agreement"), ("fusion", "decoder"), ("fusion", "classifier"), ("detail", "classifier"),
    ("agreement", "classifier"), ("classifier", "verdict"),
)  # fmt: skip
SIZE = {"wide": (115, 82), "tall": (110, 82)}  # of a box
# Between the steps; both encoders' outputs cross between the third and the fourth.
GAPS = {"wide": (18, 16, 44, 30, 16), "tall": (34, 34, 60, 58, 34)}
LANE_GAP = {"wide": 34, "tall": 9}


def draw(theme: str, shape: str, here: str | None = None) -> str:
    """The figure as SVG text; ``shape`` is ``"wide"`` or ``"tall"``, ``here`` a key of `STAGES`."""
    wide, size = shape == "wide", SIZE[shape]
    length, breadth = size if wide else size[::-1]
    along = list(accumulate(GAPS[shape], lambda at, gap: at + length + gap, initial=6 if wide else 8))
    across = [6 + lane * (breadth + LANE_GAP[shape]) for lane in range(3)]

    def turn(step: float, lane: float) -> Point:
        return (step, lane) if wide else (lane, step)

    where = {name: turn(along[step], across[lane]) for name, _, step, lane, *_ in BOXES}
    pill = 30  # below a box
    total = turn(along[-1] + length + 6, across[-1] + breadth + 6)
    sheet = Sheet(theme, "From a media file to a verdict", ABOUT, (total[0], total[1] + pill))
    for start, end in ARROWS:
        sheet.join(where[start], size, where[end], size, lying=wide)
    middle = across[1] + breadth / 2
    for lane, side in ((0, 0), (2, breadth)):
        # The file to either stream, and either stream past its encoder to the detail path.
        start, corner = turn(along[0] + length / 2, across[1] + side), across[lane] + breadth / 2
        bend, end = turn(along[0] + length / 2, corner), turn(along[1] - 3, corner)
        sheet.arrow(start, bend, end)
        inner = across[lane] + breadth - side
        start, bend = turn(along[1] + length / 2, inner), turn(along[1] + length / 2, middle)
        sheet.arrow(start, bend, turn(along[3] - 3, middle))
    for name, stage, _, _, kind, title, detail in BOXES:
        x, y = where[name]
        edge, thick = ("here", 3) if stage == here else (f"{kind}-ink", 1.2)
        sheet.rect((x, y), size, kind, edge, thick=thick, round_by=11)
        ink = sheet.colour[f"{kind}-ink"]
        sheet.parts.append(
            f'<g transform="translate({x + size[0] / 2:g} {y + 21:g})" fill="none" stroke="{ink}" '
            f'stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round">{ICONS[name]}</g>'
        )
        sheet.text(x + size[0] / 2, y + 53, title, "ink", 13, bold=True)
        sheet.text(x + size[0] / 2, y + 71, detail, size=13)
    for name, stage, *_ in BOXES:
        if stage == here:
            x, y = where[name][0] + size[0] / 2, where[name][1] + size[1] + 6
            sheet.rect((x - 50, y), (100, 20), "here", round_by=10)
            sheet.text(x, y + 14.5, "you are here", "on-here", 13, bold=True)
    return sheet.svg()


# Each is drawn around (0, 0), at most 44 wide and 22 high.
ICONS = {
    "file": '<path d="M-9-12H4L10-6V12H-9zM4-12V-6H10M-3-2 4 3-3 8z"/>',
    "frames": '<path d="M-20-9h16V9h-16zM4-9h16V9H4zM-15 6h6M9 6h6"/>'
    '<circle cx="-12" cy="-1" r="4"/><circle cx="12" cy="-1" r="4"/>',
    "waveform": '<path d="M-20 0h3M-13-4V4M-9-9V9M-5-3V3M-1-11V11M3-6V6M7-9V9M11-3V3M15-5V5M19-1V1"/>',
    "see": '<path d="M-17 0Q0-16 17 0Q0 16-17 0z"/><circle r="4.5"/>',
    "hear": '<path d="M-7 4V-3A7 7 0 0 1 7-3C7 3 1 3 1 7A4 4 0 0 1-6 9"/>'
    '<path d="M-2-2A3 3 0 0 1 3-3M13-8A11 11 0 0 1 13 6"/>',
    "fusion": '<circle cx="-6" r="10"/><circle cx="6" r="10"/>',
    "detail": '<path d="M-18-9H-6V3H-18zM-14-9V3M-10-9V3M-18-5H-6M-18-1H-6"/>'
    '<circle cx="7" cy="-2" r="7"/><path d="M12 3 18 9"/>',
    "agreement": '<path d="M-19 0C-13-12-7-12-2 0S9 12 19 0"/><path d="M-19 6C-13-6-7-6-2 6S9 18 19 6"/>',
    "decoder": '<path d="M-16-9V9M-8-6V6M0-3V3M8-6V6M16-9V9"/>',
    "classifier": '<path d="M-18 9C-4 9 4-9 18-9M0-11V11"/><path d="M-18 11H18" stroke-dasharray="2 4"/>',
    "verdict": '<path d="M-18-4-13 3-5-8M7-7 17 3M17-7 7 3"/>',
}


if __name__ == "__main__":
    for name in PALETTES:
        target = Path(__file__).parents[1] / "_assets" / f"pipeline-{name}.svg"
        target.write_text(draw(name, "wide"), encoding="utf-8")
