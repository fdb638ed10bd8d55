"""The inputs that a model expects (`InputSpec`), and a batch of them (`ModelInputs`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:  # torch takes seconds to import, and the command line's help does not need it
    import torch
    from jaxtyping import Float
    from torch import Tensor

    from avff_lib.faces.tracked import Region


@dataclass(frozen=True)
class MelSpec:
    """Settings of a mel spectrogram; the defaults are those of the documented system.

    Attributes:
        n_fft: samples of the transform, so bins are ``sample_rate / n_fft`` apart.
        hop_length: samples from one column to the next.
        n_mels: number of filters.
        win_length: samples in the window of a column, at most ``n_fft``; by default ``n_fft``.
    """

    n_fft: int = 1024
    hop_length: int = 512
    n_mels: int = 64
    win_length: int | None = None


@dataclass(frozen=True)
class FbankSpec:
    """Settings of Kaldi's filterbank, by the names of ``torchaudio.compliance.kaldi.fbank``.

    The defaults are AudioMAE's.

    Attributes:
        num_mel_bins: number of filters, between 20 Hz and half the sample rate.
        frame_length: milliseconds in the window of a column.
        frame_shift: milliseconds from one column to the next.
    """

    num_mel_bins: int = 128
    frame_length: float = 25.0
    frame_shift: float = 10.0


@dataclass(frozen=True)
class InputSpec:
    """The inputs that a model expects, as `avff_lib.preprocess.prepare` prepares them.

    Attributes:
        duration: seconds of both streams in one sample.
        frame_count: frames per sample, evenly spaced over ``duration``.
        image_size: height and width of a frame in pixels.
        region: part of the face that a frame shows: all of it, or the mouth, from below the nose to the chin,
            placed by the face's landmarks.
        mean, std: per RGB channel, applied to values in [0, 1].
        sample_rate: of the audio, in Hz.
        audio: ``"waveform"``, with zero mean and unit variance; ``"mel"``, log-mel in dB; or ``"fbank"``,
            Kaldi's filterbank in natural logarithms.
        mel: settings used when ``audio == "mel"``.
        fbank: settings used when ``audio == "fbank"``.
    """

    duration: float = 1.0
    frame_count: int = 16
    image_size: int = 224
    region: Region = "face"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    sample_rate: int = 16_000
    audio: Literal["waveform", "mel", "fbank"] = "waveform"
    mel: MelSpec = MelSpec()
    fbank: FbankSpec = FbankSpec()

    @property
    def frame_times(self) -> np.ndarray:
        """``(frame_count,)`` times in seconds from the window's start, in the middle of equal parts."""
        return (np.arange(self.frame_count) + 0.5) * self.duration / self.frame_count


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """A batch of prepared samples.

    Attributes:
        frames: ``(B, T, 3, H, W)`` float32, normalised RGB.
        audio: ``(B, S)`` float32 waveform, or ``(B, bands, N)`` float32 spectrogram.
    """

    frames: Float[Tensor, "b t 3 h w"]
    audio: Float[Tensor, "b ..."]

    def to(self, device: torch.device | str) -> ModelInputs:
        """The same batch on a device."""
        return ModelInputs(self.frames.to(device), self.audio.to(device))
