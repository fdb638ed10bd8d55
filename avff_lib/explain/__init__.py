"""Why a window got its logit: which parts moved it, and where the streams surprise each other."""

from avff_lib.explain.attention import attention_map
from avff_lib.explain.checks import Deletion, deletion_curves, likeness, randomised
from avff_lib.explain.maps import Attribution, Map, blank, integrated_gradients
from avff_lib.explain.surprise import Surprise, surprise

__all__ = [
    "Attribution",
    "Deletion",
    "Map",
    "Surprise",
    "attention_map",
    "blank",
    "deletion_curves",
    "integrated_gradients",
    "likeness",
    "randomised",
    "surprise",
]
