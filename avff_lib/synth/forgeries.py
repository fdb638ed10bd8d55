"""The forgeries: which part of a recording each method replaces, and how hard it is to detect.

The four categories are those of FakeAVCeleb (Khalid et al., 2021, arXiv 2108.05080). The two families differ
in their traces: *desynchronised* forgeries have clean streams, but lips and voice do not belong together;
*artefact* forgeries are in sync, but a stream went through a generator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter1d

from avff_lib.errors import AVFFError
from avff_lib.synth.speech import HOP_LENGTH, TRACK_RATE, Articulation

FADE_SECONDS = 0.06  # over which a fake segment is faded in and out


@dataclass(frozen=True)
class Method:
    """One way to fake a recording, as a choice for each of its parts.

    Attributes:
        category: of FakeAVCeleb, real or fake video (RV, FV) and audio (RA, FA).
        family: the kind of trace that it leaves.
        voice: the speaker's ``own``; the same ``shifted`` in time; ``other`` words of the same speaker; or
            the voice of a ``foreign`` identity.
        lips: driven by the speaker's ``own`` words, by ``other`` words, or by ``loudness`` alone.
        face: ``drawn`` as a whole; with the mouth ``blended`` in; ``swapped`` for another identity's; or
            ``self_blended`` with itself, which needs a recording (`avff_lib.forge`).
        vocoded: whether the audio is resynthesised from its mel spectrogram.
        partial: whether a clip may be fake in only one segment.
    """

    category: Literal["RVRA", "RVFA", "FVRA", "FVFA"]
    family: Literal["real", "desynchronised", "artefact"]
    voice: Literal["own", "shifted", "other", "foreign"] = "own"
    lips: Literal["own", "other", "loudness"] = "own"
    face: Literal["drawn", "blended", "swapped", "self_blended"] = "drawn"
    vocoded: bool = False
    partial: bool = True

    @property
    def needs_donor(self) -> bool:
        """Whether the method uses the voice or the face of another identity."""
        return self.voice == "foreign" or self.face == "swapped"


METHODS: dict[str, Method] = {
    "real": Method("RVRA", "real"),
    "shifted_voice": Method("RVFA", "desynchronised", voice="shifted"),
    # A change of speaker within a clip is detectable from audio alone, so the whole clip is foreign.
    "foreign_voice": Method("RVFA", "desynchronised", voice="foreign", partial=False),
    "revoiced": Method("RVFA", "artefact", vocoded=True),
    "other_lips": Method("FVRA", "desynchronised", lips="other"),
    "loudness_lips": Method("FVRA", "desynchronised", lips="loudness"),
    "blended_mouth": Method("FVRA", "artefact", face="blended"),
    "swapped_face": Method("FVRA", "artefact", face="swapped"),
    "dubbed": Method("FVFA", "artefact", voice="other", lips="other", face="blended", vocoded=True),
    "swapped_revoiced": Method("FVFA", "artefact", face="swapped", vocoded=True),
    "other_lips_revoiced": Method("FVFA", "desynchronised", lips="other", vocoded=True),
}
FAKES = tuple(name for name in METHODS if name != "real")


@dataclass(frozen=True)
class Level:
    """Difficulty of a corpus; each pair is a range to draw from, the same for real and fake clips.

    Attributes:
        jitter: largest natural lag of lips and voice, in seconds.
        shift: of a shifted voice, in seconds, in either direction.
        snr_db: of the speech over the background noise.
        reverberation: reverberation time of the rooms, in seconds.
        channel_db: of the recording over the hiss that is added last.
        mels: number of mel bands of the vocoder.
        iterations: of the vocoder's Griffin–Lim.
        quality: of blended mouths and swapped faces, 0 to 1.
        occlusion: probability of a microphone in front of the mouth.
        crf: H.264's constant rate factor; higher is coarser.
    """

    jitter: float
    shift: tuple[float, float]
    snr_db: tuple[float, float]
    reverberation: tuple[float, float]
    channel_db: tuple[float, float]
    mels: tuple[int, int]
    iterations: int
    quality: tuple[float, float]
    occlusion: float
    crf: tuple[int, int]


LEVELS = {
    "easy": Level(
        jitter=0.0,
        shift=(0.28, 0.50),
        snr_db=(25, 35),
        reverberation=(0.10, 0.20),
        channel_db=(35, 45),
        mels=(40, 48),
        iterations=8,
        quality=(0.0, 0.3),
        occlusion=0.0,
        crf=(18, 20),
    ),
    "medium": Level(
        jitter=0.04,
        shift=(0.20, 0.40),
        snr_db=(15, 30),
        reverberation=(0.10, 0.35),
        channel_db=(18, 28),
        mels=(56, 64),
        iterations=16,
        quality=(0.3, 0.6),
        occlusion=0.15,
        crf=(20, 24),
    ),
    "hard": Level(
        jitter=0.06,
        shift=(0.14, 0.28),
        snr_db=(10, 22),
        reverberation=(0.15, 0.50),
        channel_db=(8, 16),
        mels=(72, 80),
        iterations=24,
        quality=(0.6, 0.85),
        occlusion=0.35,
        crf=(23, 28),
    ),
}


def get_level(name: str) -> Level:
    """The level called ``name``.

    Raises:
        AVFFError: the level does not exist.
    """
    if name not in LEVELS:
        raise AVFFError(f"the level {name!r} does not exist; choose one of {', '.join(LEVELS)}")
    return LEVELS[name]


def segment_weight(times: np.ndarray, segment: tuple[float, float], duration: float) -> np.ndarray:
    """Weight ``(N,)`` of the fake at ``times`` ``(N,)``: 1 in the segment, 0 outside, with soft ends.

    An end that coincides with an end of the clip (0 or ``duration``) has no fade.
    """
    start, end = segment
    rise = np.clip((times - start) / FADE_SECONDS, 0, 1) if start > 0 else 1.0
    fall = np.clip((end - times) / FADE_SECONDS, 0, 1) if end < duration else 1.0
    return np.minimum(rise, fall) * np.ones(len(times))


def natural_lag(rng: np.random.Generator, times: np.ndarray, jitter: float) -> np.ndarray:
    """Natural lag of lips and voice in seconds, ``(N,)``: one offset per clip, and a slow drift.

    It stays within ±``jitter``.
    """
    offset, speed, phase = rng.uniform(-0.7, 0.7), rng.uniform(0.3, 1.0), rng.uniform(0, 2 * np.pi)
    return jitter * (offset + 0.3 * np.sin(2 * np.pi * speed * times + phase))


def lips_from_loudness(own: Articulation, other: Articulation, waveform: np.ndarray) -> Articulation:
    """``other`` with a mouth that opens only by the loudness of ``own``.

    The openings have the distribution of the speaker's own openings and are ordered by loudness; the other
    columns come from ``other``.

    Args:
        own, other: two utterances of one speaker, of equal length.
        waveform: ``(N * HOP_LENGTH,)`` the dry voice of ``own``.
    """
    power = np.square(waveform).reshape(-1, HOP_LENGTH).mean(axis=1)
    loudness = gaussian_filter1d(np.sqrt(power), 0.03 * TRACK_RATE)
    mouth = other.mouth.copy()
    mouth[np.argsort(loudness, kind="stable"), 0] = np.sort(own.mouth[:, 0])
    mouth[:, 0] = gaussian_filter1d(mouth[:, 0], 0.02 * TRACK_RATE)
    return replace(other, mouth=mouth)
