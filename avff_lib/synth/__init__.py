"""The embedded corpus: drawn talking heads with synthesised voices, and ten forgeries of them."""

from avff_lib.synth.corpus import plan_corpus, write_corpus
from avff_lib.synth.forgeries import FAKES, LEVELS, METHODS
from avff_lib.synth.recording import ClipPlan, make_clip, perform, real_twin

__all__ = [
    "FAKES",
    "LEVELS",
    "METHODS",
    "ClipPlan",
    "make_clip",
    "perform",
    "plan_corpus",
    "real_twin",
    "write_corpus",
]
