"""The forgeries that any recording of a face and a voice allows."""

from __future__ import annotations

from avff_lib.synth import METHODS as DRAWN
from avff_lib.synth.forgeries import Method

# Those of the embedded corpus that need no drawn face, and two that need a recorded one. No voice is cloned
# and no face swapped: words and lips are the person's own, from elsewhere in this recording or from another,
# or the voice is a foreign recording as a whole.
METHODS: dict[str, Method] = {
    **{name: DRAWN[name] for name in ("real", "shifted_voice", "foreign_voice", "revoiced")},
    **{name: DRAWN[name] for name in ("other_lips", "blended_mouth")},
    "self_blended": Method("FVRA", "artefact", face="self_blended"),
    **{name: DRAWN[name] for name in ("dubbed", "other_lips_revoiced")},
    "self_blended_revoiced": Method("FVFA", "artefact", face="self_blended", vocoded=True),
}
FAKES = tuple(name for name in METHODS if name != "real")


def needs_take(method: Method) -> bool:
    """Whether a method uses another recording of the same person."""
    return "other" in (method.voice, method.lips)
