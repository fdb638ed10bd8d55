"""The pipeline figure: one drawing, in light and dark, lying for a desk and standing for a phone.

``python book/_ext/pipeline.py`` writes the two files that README.md shows.
"""

from __future__ import annotations

from pathlib import Path

STAGES = {
    "media": "reading the file",
    "frames": "preparing the frames",
    "audio": "preparing the sound",
    "encoders": "the encoders",
    "fusion": "cross-modal fusion",
    "decoder": "the decoder",
    "classifier": "the classifier",
    "verdict": "the verdict",
}

PALETTES = {
    "light": {
        "ink": "#1f2933", "soft": "#52606d", "line": "#9aa5b1", "here": "#b42318", "on-here": "#ffffff",
        "plain": "#f5f7fa", "visual": "#dbeafe", "sound": "#fef0c7", "joint": "#e3f5e1",
        "visual-ink": "#1d4ed8", "sound-ink": "#a15c07", "joint-ink": "#1c7c3c",
    },
    "dark": {
        "ink": "#f1f5f9", "soft": "#b8c4d0", "line": "#7b8794", "here": "#ff8a7a", "on-here": "#1f2933",
        "plain": "#27313b", "visual": "#1c3358", "sound": "#46340f", "joint": "#17402a",
        "visual-ink": "#8ab4ff", "sound-ink": "#f5c451", "joint-ink": "#6fd492",
    },
}  # fmt: skip

# name, stage, step along the way, lane across it (0 visual, 1 sound, 0.5 both), colour, title, detail
BOXES = (
    ("file", "media", 0, 0.5, "plain", "media file", "one clock"),
    ("frames", "frames", 1, 0, "visual", "frames", "16 × 224 × 224"),
    ("waveform", "audio", 1, 1, "sound", "waveform", "1 s, 16 kHz"),
    ("see", "encoders", 2, 0, "visual", "visual encoder", "ViT"),
    ("hear", "encoders", 2, 1, "sound", "audio encoder", "Wav2Vec2"),
    ("fusion", "fusion", 3, 0.5, "joint", "fusion", "cross-attention"),
    ("decoder", "decoder", 4, 0, "joint", "decoder", "rebuilds features"),
    ("classifier", "classifier", 4, 1, "joint", "classifier", "one logit"),
    ("verdict", "verdict", 5, 1, "plain", "verdict", "real or fake?"),
)
ARROWS = (
    ("file", "frames"), ("file", "waveform"), ("frames", "see"), ("waveform", "hear"), ("see", "fusion"),
    ("hear", "fusion"), ("fusion", "decoder"), ("fusion", "classifier"), ("classifier", "verdict"),
)  # fmt: skip
WIDTH, HEIGHT = 132, 82  # of a box


def draw(theme: str, shape: str, here: str | None = None) -> str:
    """The figure as SVG text; ``shape`` is ``"wide"`` or ``"tall"``, ``here`` a key of `STAGES`."""
    colour = PALETTES[theme]
    wide = shape == "wide"

    def place(step: float, lane: float) -> tuple[float, float]:
        if wide:
            return 6 + step * (WIDTH + 30), 30 + lane * (HEIGHT + 34)
        return 14 + lane * (WIDTH + 68), 30 + step * (HEIGHT + 34)

    width, height = place(5, 1)
    if not wide:
        width = place(0, 1)[0]
    where = {name: place(step, lane) for name, _, step, lane, *_ in BOXES}
    size = (width + WIDTH + 14, height + HEIGHT + 26)
    parts = [
        *head("From a media file to a verdict", size, colour["line"]),
        *(arrow(where[start], where[end], wide, colour["line"]) for start, end in ARROWS),
    ]
    for name, stage, _, _, kind, title, detail in BOXES:
        x, y = where[name]
        ink = colour.get(f"{kind}-ink", colour["soft"])
        edge, thick = (colour["here"], 3) if stage == here else (ink, 1.2)
        parts += [
            f'<g transform="translate({x:g} {y:g})">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="11" fill="{colour[kind]}" stroke="{edge}" '
            f'stroke-width="{thick}"/>',
            f'<g transform="translate({WIDTH / 2:g} 21)" fill="none" stroke="{ink}" stroke-width="1.6" '
            f'stroke-linecap="round" stroke-linejoin="round">{ICONS[name]}</g>',
            text(53, 15, colour["ink"], title, 'font-weight="600"'),
            text(71, 13, colour["soft"], detail),
            "</g>",
        ]
    for name, stage, *_ in BOXES:
        if stage != here:
            continue
        x, y = where[name]
        parts.append(
            f'<g transform="translate({x + WIDTH / 2:g} {y + HEIGHT + 6:g})">'
            f'<rect x="-54" y="-10" width="108" height="20" rx="10" fill="{colour["here"]}"/>'
            f'<text y="4.5" font-size="13" font-weight="700" fill="{colour["on-here"]}">you are here</text>'
            "</g>"
        )
    return "\n".join([*parts, "</svg>", ""])


def head(title: str, size: tuple[float, float], line: str) -> list[str]:
    """The beginning of a drawing of ``size``, with a tip for arrows of the colour ``line``."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]:.0f} {size[1]:.0f}" '
        'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif" '
        'text-anchor="middle">',
        f"<title>{title}</title>",
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0 8 4 0 8z" fill="{line}"/></marker></defs>',
    ]


def text(y: int, size: int, colour: str, words: str, extra: str = "") -> str:
    """A line of words, centred in a box at height ``y``."""
    return f'<text x="{WIDTH / 2:g}" y="{y}" font-size="{size}" fill="{colour}" {extra}>{words}</text>'


def arrow(start: tuple[float, float], end: tuple[float, float], wide: bool, colour: str) -> str:
    """A line that leaves one box on the side of the next step and bends into it."""
    if wide:
        x0, y0, x1, y1 = start[0] + WIDTH, start[1] + HEIGHT / 2, end[0] - 3, end[1] + HEIGHT / 2
        middle = (x0 + x1) / 2
        path = f"M{x0:g} {y0:g}C{middle:g} {y0:g} {middle:g} {y1:g} {x1:g} {y1:g}"
    else:
        x0, y0, x1, y1 = start[0] + WIDTH / 2, start[1] + HEIGHT, end[0] + WIDTH / 2, end[1] - 3
        middle = (y0 + y1) / 2
        path = f"M{x0:g} {y0:g}C{x0:g} {middle:g} {x1:g} {middle:g} {x1:g} {y1:g}"
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2" marker-end="url(#tip)"/>'


# Each is drawn about (0, 0), at most 44 wide and 22 high.
ICONS = {
    "file": '<path d="M-9-12H4L10-6V12H-9zM4-12V-6H10M-3-2 4 3-3 8z"/>',
    "frames": '<path d="M-20-9h16V9h-16zM4-9h16V9H4zM-15 6h6M9 6h6"/>'
    '<circle cx="-12" cy="-1" r="4"/><circle cx="12" cy="-1" r="4"/>',
    "waveform": '<path d="M-20 0h3M-13-4V4M-9-9V9M-5-3V3M-1-11V11M3-6V6M7-9V9M11-3V3M15-5V5M19-1V1"/>',
    "see": '<path d="M-17 0Q0-16 17 0Q0 16-17 0z"/><circle r="4.5"/>',
    "hear": '<path d="M-7 4V-3A7 7 0 0 1 7-3C7 3 1 3 1 7A4 4 0 0 1-6 9"/>'
    '<path d="M-2-2A3 3 0 0 1 3-3M13-8A11 11 0 0 1 13 6"/>',
    "fusion": '<circle cx="-6" r="10"/><circle cx="6" r="10"/>',
    "decoder": '<path d="M-16-9V9M-8-6V6M0-3V3M8-6V6M16-9V9"/>',
    "classifier": '<path d="M-18 9C-4 9 4-9 18-9M0-11V11" /><path d="M-18 11H18" stroke-dasharray="2 4"/>',
    "verdict": '<path d="M-18-4-13 3-5-8M7-7 17 3M17-7 7 3"/>',
}


if __name__ == "__main__":
    for name in PALETTES:
        target = Path(__file__).parents[1] / "_assets" / f"pipeline-{name}.svg"
        target.write_text(draw(name, "wide"), encoding="utf-8")
