"""Waveform -> the standardised waveform or log-mel spectrogram that an audio encoder expects."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.compliance import kaldi
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

from avff_lib.preprocess.spec import FbankSpec, MelSpec


def normalize_waveform(waveform: Float[Tensor, " s"]) -> Float[Tensor, " s"]:
    """Zero mean and unit variance, as in the training of wav2vec2-base.

    Equal to ``Wav2Vec2FeatureExtractor(do_normalize=True)``, including its 1e-7 under the root, which turns
    silence and any other constant into zeros instead of NaN.

    Args:
        waveform: ``(S,)`` float32, on any scale.

    Returns:
        ``(S,)`` float32.
    """
    wide = waveform.double()
    return ((wide - wide.mean()) / torch.sqrt(wide.var(unbiased=False) + 1e-7)).to(waveform.dtype)


def log_mel(
    waveform: Float[Tensor, " s"], sample_rate: int = 16_000, mel: MelSpec | None = None
) -> Float[Tensor, "m n"]:
    """Log-mel power spectrogram in decibels.

    Hann window, power, HTK mel scale from 0 Hz to half the sample rate; 0 dB is a power of 1. Powers
    below 1e-10 count as 1e-10 (-100 dB), and values more than 80 dB below the clip's maximum are raised to
    that floor. Column ``k`` is centred on ``k * hop_length / sample_rate`` seconds; for columns that reach
    beyond the ends, the waveform is reflected.

    Args:
        waveform: ``(S,)`` float32 in [-1, 1]; one clip at a time, as the 80 dB floor is the clip's own.
        sample_rate: in Hz.
        mel: window, hop and number of filters; by default 1024, 512 and 64.

    Returns:
        ``(n_mels, 1 + S // hop_length)`` float32, in dB.

    Raises:
        ValueError: ``waveform`` is not one-dimensional, or too short to reflect.
    """
    mel = mel or MelSpec()
    min_samples = mel.n_fft // 2 + 1
    if waveform.ndim != 1 or len(waveform) < min_samples:
        raise ValueError(
            f"waveform is {tuple(waveform.shape)}; expected one clip (S,) of {min_samples} samples or more"
        )
    to_mel, to_db = _transforms(sample_rate, mel)
    return to_db(to_mel(waveform))


def fbank(
    waveform: Float[Tensor, " s"], sample_rate: int = 16_000, spec: FbankSpec | None = None
) -> Float[Tensor, "m n"]:
    """Kaldi's log filterbank, as AudioMAE was trained on it.

    Hann windows, each minus its mean and with pre-emphasis of 0.97; mel filters by Kaldi's formula; the
    natural logarithm of the power, at least -15.9 (float32's epsilon). No column reaches beyond the waveform,
    and no floor depends on the rest of it.

    Args:
        waveform: ``(S,)`` float32 in [-1, 1]; at least one window long.
        sample_rate: in Hz.
        spec: window, hop and number of filters; by default AudioMAE's 25 ms, 10 ms and 128.

    Returns:
        ``(num_mel_bins, 1 + (S - window) // hop)`` float32. Source: AudioMAE (Huang et al. 2022), its
        released data loader.

    Raises:
        ValueError: ``waveform`` is not one-dimensional, or shorter than a window.
    """
    spec = spec or FbankSpec()
    if waveform.ndim != 1 or 1000 * len(waveform) < spec.frame_length * sample_rate:
        raise ValueError(
            f"waveform is {tuple(waveform.shape)}; expected one clip (S,) of {spec.frame_length:g} ms or more"
        )
    return kaldi.fbank(
        (waveform - waveform.mean())[None],
        htk_compat=True,
        sample_frequency=sample_rate,
        use_energy=False,
        window_type="hanning",
        dither=0.0,
        **asdict(spec),
    ).T


@cache
def _transforms(sample_rate: int, mel: MelSpec) -> tuple[MelSpectrogram, AmplitudeToDB]:
    # Building the window and the filter bank takes longer than applying them.
    to_mel = MelSpectrogram(sample_rate=sample_rate, **asdict(mel))
    return to_mel, AmplitudeToDB(stype="power", top_db=80.0)
