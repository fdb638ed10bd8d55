"""Clip + InputSpec -> ModelInputs, and the documented functions that start from a file."""

from avff_lib.preprocess.audio import fbank, log_mel, normalize_waveform
from avff_lib.preprocess.frames import IMAGENET_MEAN, IMAGENET_STD, normalize_frames, resize_frames
from avff_lib.preprocess.prepare import collate, extract_audio, extract_frames, prepare, read_window

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "collate",
    "extract_audio",
    "extract_frames",
    "fbank",
    "log_mel",
    "normalize_frames",
    "normalize_waveform",
    "prepare",
    "read_window",
    "resize_frames",
]
