"""Why a window got its logit: which parts moved it, and where the streams surprise each other."""

from avff_lib.explain.maps import (
    Attribution,
    Deletion,
    blank,
    deletion_curves,
    integrated_gradients,
    likeness,
    randomised,
)
from avff_lib.explain.surprise import Surprise, agreement_over_time, surprise

__all__ = [
    "Attribution",
    "Deletion",
    "Surprise",
    "agreement_over_time",
    "blank",
    "deletion_curves",
    "integrated_gradients",
    "likeness",
    "randomised",
    "surprise",
]
