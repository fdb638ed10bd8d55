"""One window of a file or clip -> model inputs: both streams always come from the same time."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avff_lib.errors import AVFFError
from avff_lib.media.clip import Clip, to_samples
from avff_lib.media.decode import read_clip
from avff_lib.preprocess.audio import fbank, log_mel, normalize_waveform
from avff_lib.preprocess.frames import normalize_frames, resize_frames
from avff_lib.preprocess.spec import InputSpec, MelSpec, ModelInputs


def prepare(clip: Clip, spec: InputSpec) -> ModelInputs:
    """The first ``spec.duration`` seconds of a clip as model inputs.

    Uses the frames nearest to ``clip.start + spec.frame_times``; nothing is padded.

    Args:
        clip: at least ``spec.duration`` long and at ``spec.sample_rate``.
        spec: the inputs that the model expects.

    Returns:
        A batch of one: frames ``(1, T, 3, H, W)``; audio ``(1, S)`` or ``(1, bands, N)``.

    Raises:
        AVFFError: the clip is too short, has no frame, or has another sample rate.
    """
    if clip.sample_rate != spec.sample_rate:
        raise AVFFError(
            f"the clip's audio is at {clip.sample_rate} Hz and the model expects {spec.sample_rate}; "
            f"read it with read_clip(..., sample_rate={spec.sample_rate})"
        )
    count = to_samples(spec.duration, spec.sample_rate)
    if len(clip.waveform) < count or not len(clip.frames):
        raise AVFFError(
            f"the clip holds {len(clip.waveform) / clip.sample_rate:.3f} s of sound and {len(clip.frames)} "
            f"frames; the model expects {spec.duration:g} s of both, so give it a longer window"
        )
    indices = clip.nearest_frames(clip.start + spec.frame_times)  # (T,)
    pixels = resize_frames(clip.frames[indices], spec.image_size)  # (T, 3, H, W)
    waveform = torch.from_numpy(clip.waveform[:count])  # (S,)
    if spec.audio == "waveform":
        audio = normalize_waveform(waveform)
    elif spec.audio == "mel":
        audio = log_mel(waveform, spec.sample_rate, spec.mel)  # (n_mels, N)
    else:
        audio = fbank(waveform, spec.sample_rate, spec.fbank)  # (num_mel_bins, N)
    return ModelInputs(normalize_frames(pixels, spec.mean, spec.std)[None], audio[None])


def collate(samples: Sequence[ModelInputs]) -> ModelInputs:
    """Concatenate samples along the batch axis; all must come from the same `InputSpec`."""
    return ModelInputs(
        frames=torch.cat([sample.frames for sample in samples]),
        audio=torch.cat([sample.audio for sample in samples]),
    )


def read_window(
    video_path: str | Path,
    *,
    start: float | None = None,
    duration: float = 1.0,
    sample_rate: int = 16_000,
) -> Clip:
    """Read one window of a file; the clip's warnings are issued as Python warnings.

    Args:
        video_path: the media file.
        start: start of the window in seconds. By default the window lies in the middle of the file, since
            beginnings and ends often hold silence, black frames and titles.
        duration: length of the window in seconds.
        sample_rate: rate that the audio is resampled to, in Hz.

    Raises:
        MediaError: the file cannot be decoded, or the window reaches outside it (nothing is padded).
    """
    return _read_window(video_path, start, duration, sample_rate, None)


def _read_window(
    video_path: str | Path,
    start: float | None,
    duration: float,
    sample_rate: int,
    frame_times: np.ndarray | None,
) -> Clip:
    """`read_window`, with only the frames nearest to ``frame_times``, in seconds from the window's start."""
    clip = read_clip(video_path, start, duration, sample_rate=sample_rate, frame_times=frame_times)
    for sentence in clip.warnings:
        warnings.warn(f"{video_path}: {sentence}", stacklevel=3)
    return clip


def extract_frames(
    video_path: str | Path,
    frame_count: int = 16,
    *,
    start: float | None = None,
    duration: float = 1.0,
    spec: InputSpec | None = None,
) -> Float[Tensor, "t 3 h w"]:
    """Frames of one window of a file, evenly spaced in time, ready for an image encoder.

    Whole frames are used; for a face crop see `avff_lib.faces.crop`. With the same ``start`` and
    ``duration`` as `extract_audio`, whose defaults are the same, frames and audio come from the same time.
    If the file has fewer frames in the window than ``frame_count``, the nearest ones are repeated, with a
    Python warning.

    Args:
        video_path: the media file.
        frame_count: number of frames.
        start, duration: the window in seconds; by default one second in the middle of the file.
        spec: image size, mean and std; by default 224 pixels and 0.5, as timm's ``vit_base_patch16_224``
            expects (not the ImageNet statistics: ask the model).

    Returns:
        ``(frame_count, 3, image_size, image_size)`` float32, in [-1, 1] with the default spec.

    Raises:
        MediaError: the file cannot be decoded, or the window reaches outside it.
    """
    spec = replace(spec or InputSpec(), duration=duration, frame_count=frame_count)
    clip = _read_window(video_path, start, duration, spec.sample_rate, spec.frame_times)
    available = len(clip.frames)
    if available < frame_count:
        warnings.warn(
            f"{video_path} shows {available} frames in this window; some of the {frame_count} are repeated",
            stacklevel=2,
        )
    return prepare(clip, spec).frames[0]


def extract_audio(
    video_path: str | Path,
    sample_rate: int = 16_000,
    duration: float = 1.0,
    *,
    start: float | None = None,
    mel: MelSpec | None = None,
) -> tuple[Float[Tensor, " s"], Float[Tensor, "m n"]]:
    """Audio of one window of a file: the waveform and its log-mel spectrogram.

    Wav2Vec2 expects the waveform after `normalize_waveform`, which `prepare` applies itself. The video is not
    decoded; only its times are read, so that the window is the same as in `extract_frames`.

    Args:
        video_path: the media file.
        sample_rate: rate that the audio is resampled to, in Hz.
        duration: length of the window in seconds.
        start: start of the window in seconds; by default the window lies in the middle of the file.
        mel: settings of the spectrogram; by default 64 mels, n_fft 1024, hop 512.

    Returns:
        The waveform ``(S,)`` float32 in [-1, 1], and its log-mel ``(n_mels, 1 + S // hop_length)`` in dB.

    Raises:
        MediaError: the file cannot be decoded, or the window reaches outside it.
    """
    clip = _read_window(video_path, start, duration, sample_rate, np.zeros(0))
    waveform = torch.from_numpy(clip.waveform)  # (S,)
    return waveform, log_mel(waveform, sample_rate, mel)


def prepare_batch(clips: Iterable[Clip], spec: InputSpec) -> ModelInputs:
    """Clips of at least ``spec.duration`` seconds -> one batch of model inputs."""
    return collate([prepare(clip, spec) for clip in clips])
