"""Clip + InputSpec -> ModelInputs, and the documented functions that start from a file."""

from avff_lib.preprocess.audio import log_mel, standardise
from avff_lib.preprocess.frames import IMAGENET_MEAN, IMAGENET_STD, normalise_frames, resize_frames
from avff_lib.preprocess.prepare import collate, extract_audio, extract_frames, prepare, read_window

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "collate",
    "extract_audio",
    "extract_frames",
    "log_mel",
    "normalise_frames",
    "prepare",
    "read_window",
    "resize_frames",
    "standardise",
]
