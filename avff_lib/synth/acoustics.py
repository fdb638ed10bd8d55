"""Room acoustics, a vocoder, and the recording channel of the embedded corpus."""

from __future__ import annotations

import functools

import numpy as np
import scipy.fft
import torch
from scipy.optimize import brentq
from scipy.signal import fftconvolve
from torchaudio.functional import griffinlim, melscale_fbanks

from avff_lib.synth.speech import SAMPLE_RATE


def room_and_noise(
    waveform: np.ndarray, rng: np.random.Generator, *, snr_db: float, reverberation: float
) -> np.ndarray:
    """Add a room to a dry voice: reverberation, then coloured noise.

    Args:
        waveform: ``(S,)`` float32 at `SAMPLE_RATE`.
        rng: draws echoes and noise.
        snr_db: signal-to-noise ratio.
        reverberation: reverberation time in seconds, until the echoes have fallen by 60 dB.

    Returns:
        ``(S,)`` float32, of the same length and without delay.
    """
    tail = np.arange(int(reverberation * SAMPLE_RATE)) / SAMPLE_RATE
    echoes = rng.standard_normal(len(tail)) * 10 ** (-3 * tail / reverberation)
    echoes[: int(0.003 * SAMPLE_RATE)] = 0  # no wall is closer than half a metre
    echoes *= rng.uniform(0.3, 0.7) / np.sqrt(np.sum(echoes**2))
    echoes[0] = 1
    wet = fftconvolve(waveform, echoes)[: len(waveform)]

    colour = rng.uniform(0, 1)  # 0 is white, 1 is close to pink
    spectrum = scipy.fft.rfft(rng.standard_normal(len(waveform)))
    noise = scipy.fft.irfft(spectrum / (1 + np.arange(len(spectrum))) ** (colour / 2), len(waveform))
    noise *= np.sqrt(np.mean(wet**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    return (wet + noise).astype(np.float32)


def channel(waveform: np.ndarray, rng: np.random.Generator, *, snr_db: float, level: float) -> np.ndarray:
    """The channel of a finished recording, real or fake: hiss, a compressor, and a level.

    A vocoder changes the phases and so raises the peaks: without the compressor, the peaks alone would
    distinguish its voices from real ones.

    Args:
        waveform: ``(S,)`` float32.
        rng: draws the hiss and the compression.
        snr_db: of the recording over the hiss.
        level: RMS of the result.

    Returns:
        ``(S,)`` float32 in [-1, 1].
    """
    waveform = waveform / rms(waveform)
    waveform = waveform + 10 ** (-snr_db / 20) * rng.standard_normal(len(waveform), dtype=np.float32)
    waveform = compress(waveform / rms(waveform), crest=10 ** (rng.uniform(10, 12) / 20))
    return np.clip(waveform * (level / rms(waveform)), -1, 1).astype(np.float32)


def compress(waveform: np.ndarray, crest: float) -> np.ndarray:
    """Compress the peaks of ``(S,)`` at RMS 1 softly to the crest factor ``crest``; lower peaks stay."""

    def bend(ceiling: float) -> np.ndarray:
        return np.tanh(waveform / ceiling)

    def excess(ceiling: float) -> float:
        return np.abs(bend(ceiling)).max() / rms(bend(ceiling)) - crest

    return bend(brentq(excess, 0.05, 50, xtol=1e-3)) if excess(50) > 0 else waveform


def rms(waveform: np.ndarray) -> float:
    """Root of the mean square of ``(S,)``."""
    return float(np.sqrt(np.mean(waveform**2)))


def vocode(waveform: np.ndarray, seed: int, *, n_mels: int = 64, iterations: int = 16) -> np.ndarray:
    """Resynthesise a recording from its mel spectrogram, as neural vocoders do.

    The mel spectrogram is mapped to a linear one by the pseudo-inverse of the filters, and the phases are
    estimated with the algorithm of Griffin and Lim (1984, doi:10.1109/TASSP.1984.1164317). The loss of fine
    harmonics and true phases is the trace of the fake.

    Args:
        waveform: ``(S,)`` float32 at `SAMPLE_RATE`.
        seed: of the initial phases.
        n_mels: number of mel bands; fewer lose more.
        iterations: of Griffin–Lim; fewer leave stronger artefacts.

    Returns:
        ``(S,)`` float32, at the level of the input.
    """
    n_fft, hop = 512, 128
    window = torch.hann_window(n_fft)
    spectrum = torch.stft(torch.from_numpy(waveform), n_fft, hop, window=window, return_complex=True)
    filters, inverse = _mel_filters(n_fft, n_mels)
    power = (inverse @ (filters @ spectrum.abs().square())).clamp_min(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        result = griffinlim(
            power,
            window,
            n_fft,
            hop,
            n_fft,
            power=2.0,
            n_iter=iterations,
            momentum=0.99,
            length=len(waveform),
            rand_init=True,
        ).numpy()
    return result * np.sqrt(np.mean(waveform**2) / (np.mean(result**2) + 1e-12))


@functools.cache
def _mel_filters(n_fft: int, n_mels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mel filters ``(n_mels, bins)`` and their pseudo-inverse ``(bins, n_mels)``."""
    filters = melscale_fbanks(n_fft // 2 + 1, 0.0, SAMPLE_RATE / 2, n_mels, SAMPLE_RATE).T.contiguous()
    return filters, torch.linalg.pinv(filters)
