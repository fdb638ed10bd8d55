"""The embedded corpus: talking heads drawn and synthesised from one articulation track, and forged."""

from avff_lib.synth.corpus import plan_corpus, write_corpus
from avff_lib.synth.forgeries import FAKES, LEVELS, METHODS
from avff_lib.synth.recording import ClipPlan, genuine_twin, make_clip, perform

__all__ = [
    "FAKES",
    "LEVELS",
    "METHODS",
    "ClipPlan",
    "genuine_twin",
    "make_clip",
    "perform",
    "plan_corpus",
    "write_corpus",
]
