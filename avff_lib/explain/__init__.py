"""Why a window got its logit: which parts moved it, and where its streams disagree."""

from avff_lib.explain.attention import attention_map
from avff_lib.explain.attribution import Attribution, SaliencyMap, integrated_gradients, neutral_baseline
from avff_lib.explain.checks import DeletionCurves, deletion_curves, randomize_weights, rank_correlation
from avff_lib.explain.reconstruction_error import ReconstructionError, reconstruction_error

__all__ = [
    "Attribution",
    "DeletionCurves",
    "ReconstructionError",
    "SaliencyMap",
    "attention_map",
    "deletion_curves",
    "integrated_gradients",
    "neutral_baseline",
    "randomize_weights",
    "rank_correlation",
    "reconstruction_error",
]
