"""Forgeries of the voice."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import brentq

from avff_lib.synth.acoustics import compress, rms, vocode
from avff_lib.synth.speech import SAMPLE_RATE

MELS = (56, 80)  # number of mel bands of the vocoder
ITERATIONS = (16, 32)  # of its Griffin–Lim
ENVELOPE_SECONDS = 0.005  # sigma
ENVELOPE_ROUNDS = (
    8  # after which the vocoder's pauses are as long as the recording's, to a hundredth of a second
)
LOWEST_CREST = 1.5  # limit for lowered peaks; every voice is above it


def revoiced(waveform: np.ndarray, rng: np.random.Generator, *, like: np.ndarray) -> np.ndarray:
    """A voice that went through a vocoder, with the loudness of another recording.

    A vocoder raises peaks, since it changes phases, and lowers the noise in pauses. From either, a detector
    could recognise such voices without learning what a vocoder sounds like. So the voice keeps its envelope,
    and gets the level and peak of ``like``.

    Args:
        waveform: ``(S,)`` float32 at `SAMPLE_RATE`.
        rng: draws the vocoder's resolution and phases.
        like: ``(S,)`` float32.

    Returns:
        ``(S,)`` float32.
    """
    mels, iterations = (int(rng.integers(low, high + 1)) for low, high in (MELS, ITERATIONS))
    voice = vocode(waveform, int(rng.integers(2**31)), n_mels=mels, iterations=iterations)
    for _ in range(ENVELOPE_ROUNDS):
        voice = voice * (_envelope(waveform) / _envelope(voice))
    if not (voice.any() and like.any()):
        return np.zeros_like(like)
    crest = max(LOWEST_CREST, float(np.abs(like).max()) / rms(like))
    voice = _with_crest(voice / rms(voice), crest)
    return (voice * (rms(like) / rms(voice))).astype(np.float32)


def _envelope(waveform: np.ndarray) -> np.ndarray:
    power = gaussian_filter1d(waveform**2, ENVELOPE_SECONDS * SAMPLE_RATE)
    return np.sqrt(power + 1e-12)  # -120 dB, far below the noise of any recording


def _with_crest(waveform: np.ndarray, crest: float) -> np.ndarray:
    """``(S,)`` at RMS 1 with its peaks bent softly, up or down, to a crest factor; the rest is unchanged."""
    peak = np.abs(waveform).max()

    def raised(gain: float) -> np.ndarray:
        return waveform * (1 + gain * (waveform / peak) ** 2)

    def lack(gain: float) -> float:
        return crest - np.abs(raised(gain)).max() / rms(raised(gain))

    if peak > crest:
        return compress(waveform, crest)
    return raised(brentq(lack, 0, 10)) if lack(10) < 0 else raised(10)
