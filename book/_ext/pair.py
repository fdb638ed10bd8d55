"""The pair of clips on the front page: one genuine, and the same recording with its lips forged.

``{forged-pair}`` shows both as players, embedded in the page; its content is the caption. Both have the same
face and exactly the same voice, so only a comparison of the two streams distinguishes them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from avff_lib import synth
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.notebook import data_uri, voice_captions

# Chosen for a pause of the voice, in which the genuine mouth is closed and the forged one wide open.
CORPUS = {"clips": 400, "identities": 20, "seed": 3, "level": "easy"}
FORGED = "FVRA/other_lips/00197.mp4"
PAUSE = (0.76, 1.0)  # seconds
POSTER = 23  # a frame with a closed mouth in both, which reveals nothing


@cache
def plans() -> dict[str, synth.ClipPlan]:
    """Plans by the letter under the player; B is the genuine one."""
    forged = next(plan for plan in synth.plan_corpus(**CORPUS) if plan.path == FORGED)
    return {"A": forged, "B": synth.real_twin(forged)}


@cache
def clips() -> dict[str, Clip]:
    return {letter: synth.make_clip(plan) for letter, plan in plans().items()}


def _player(letter: str, clip: Clip) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(clip, path)
        video = data_uri("video/mp4", path.read_bytes())
    picture = clip.frames[POSTER][..., ::-1]
    poster = data_uri(
        "image/jpeg", cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    )
    captions = data_uri("text/vtt", voice_captions(clip).encode())
    return (
        f'<div class="avff-player"><video controls loop playsinline preload="auto" poster="{poster}" '
        f'aria-label="clip {letter}: a drawn face that speaks" src="{video}">'
        f'<track kind="captions" srclang="en" label="voice" src="{captions}"></video>'
        f'<p aria-hidden="true">{letter}</p></div>'
    )


def pair_html() -> str:
    """Both players as HTML for the page."""
    players = "\n".join(_player(letter, clip) for letter, clip in clips().items())
    return f'<div class="avff-pair">\n{players}\n</div>'


class ForgedPair(SphinxDirective):
    """``{forged-pair}``: the two players, with the content below them as an instruction."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        words, messages = self.state.inline_text("\n".join(self.content), self.lineno)
        caption = nodes.paragraph("", "", *words, classes=["avff-pair-caption"])
        return [nodes.raw("", pair_html(), format="html"), caption, *messages]


def setup(app: Sphinx) -> dict[str, bool | str]:
    app.add_directive("forged-pair", ForgedPair)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
