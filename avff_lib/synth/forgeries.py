"""The forgeries: which part of a recording each method replaces, and how hard it is to notice.

The four categories are those of FakeAVCeleb (Khalid et al., 2021, arXiv 2108.05080). Two families are
kept apart, since they leave different traces: *desynchronised* forgeries are clean to see and hear, but
lips and voice do not belong together; *artefact* forgeries are in time, but one of the streams went
through a generator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter1d

from avff_lib.clip import AVFFError
from avff_lib.synth.speech import HOP, TRACK_RATE, Articulation

FADE = 0.06  # seconds over which a forged part comes and goes


@dataclass(frozen=True)
class Method:
    """One way to forge a recording, as a choice for each of its parts.

    Attributes:
        category: FakeAVCeleb's quadrant.
        family: the kind of trace that is left.
        voice: whose words are heard: the speaker's ``own``; the same ``shifted`` in time; ``other``
            words of the same speaker; or a ``foreign`` person's.
        lips: what drives them: the speaker's ``own`` words, ``other`` words, or ``loudness`` alone.
        picture: all of it genuinely ``drawn``; the mouth ``blended`` in; or the face ``swapped``.
        vocoded: whether the sound is re-synthesised from its mel spectrogram.
        partial: whether a clip may be forged in one part only.
    """

    category: Literal["RVRA", "RVFA", "FVRA", "FVFA"]
    family: Literal["genuine", "desynchronised", "artefact"]
    voice: Literal["own", "shifted", "other", "foreign"] = "own"
    lips: Literal["own", "other", "loudness"] = "own"
    picture: Literal["drawn", "blended", "swapped"] = "drawn"
    vocoded: bool = False
    partial: bool = True

    @property
    def needs_donor(self) -> bool:
        """Whether another person lends a voice or a face."""
        return self.voice == "foreign" or self.picture == "swapped"


METHODS = {
    "real": Method("RVRA", "genuine"),
    "shifted_voice": Method("RVFA", "desynchronised", voice="shifted"),
    # A change of speaker in mid-clip could be heard without looking, so the whole clip is foreign.
    "foreign_voice": Method("RVFA", "desynchronised", voice="foreign", partial=False),
    "revoiced": Method("RVFA", "artefact", vocoded=True),
    "other_lips": Method("FVRA", "desynchronised", lips="other"),
    "loudness_lips": Method("FVRA", "desynchronised", lips="loudness"),
    "blended_mouth": Method("FVRA", "artefact", picture="blended"),
    "swapped_face": Method("FVRA", "artefact", picture="swapped"),
    "dubbed": Method("FVFA", "artefact", voice="other", lips="other", picture="blended", vocoded=True),
    "swapped_revoiced": Method("FVFA", "artefact", picture="swapped", vocoded=True),
    "other_lips_revoiced": Method("FVFA", "desynchronised", lips="other", vocoded=True),
}
FAKES = tuple(name for name in METHODS if name != "real")


@dataclass(frozen=True)
class Level:
    """How hard a corpus is; each pair is a range to draw from, the same for genuine and forged clips.

    Attributes:
        jitter: how far genuine lips and voice may be apart, in seconds.
        shift: how far a shifted voice is moved, in seconds, to either side.
        snr_db: speech over the background's noise.
        reverberation: of the rooms, in seconds.
        channel_db: the finished recording over the hiss that is added last.
        mels: bands of the vocoder.
        iterations: of the vocoder's Griffin–Lim.
        quality: of the blended and swapped pictures, 0 to 1.
        occlusion: probability that a microphone passes before the face.
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
        AVFFError: there is none.
    """
    if name not in LEVELS:
        raise AVFFError(f"the level {name!r} does not exist; choose one of {', '.join(LEVELS)}")
    return LEVELS[name]


def segment_weight(times: np.ndarray, segment: tuple[float, float], duration: float) -> np.ndarray:
    """How much of the forgery is present at ``times`` ``(N,)``: 1 in the segment, 0 outside, with soft ends.

    An end that coincides with an end of the clip (0 or ``duration``) has no fade.
    """
    start, end = segment
    rise = np.clip((times - start) / FADE, 0, 1) if start > 0 else 1.0
    fall = np.clip((end - times) / FADE, 0, 1) if end < duration else 1.0
    return np.minimum(rise, fall) * np.ones(len(times))


def natural_lag(rng: np.random.Generator, times: np.ndarray, jitter: float) -> np.ndarray:
    """Seconds ``(N,)`` by which lips lead or trail the voice: an offset a clip, and a slow drift.

    It stays within ±``jitter``.
    """
    offset, speed, phase = rng.uniform(-0.7, 0.7), rng.uniform(0.3, 1.0), rng.uniform(0, 2 * np.pi)
    return jitter * (offset + 0.3 * np.sin(2 * np.pi * speed * times + phase))


def lips_from_loudness(own: Articulation, other: Articulation, waveform: np.ndarray) -> Articulation:
    """``other`` with a mouth that opens as the voice of ``own`` is loud, and knows nothing else of it.

    The openings are as wide as often as the speaker's own ones, only ordered by loudness; the other
    columns come from another utterance.

    Args:
        own, other: two utterances of one speaker, equally long.
        waveform: ``(N * HOP,)`` the dry voice of ``own``.
    """
    power = np.square(waveform).reshape(-1, HOP).mean(axis=1)
    loudness = gaussian_filter1d(np.sqrt(power), 0.03 * TRACK_RATE)
    mouth = other.mouth.copy()
    mouth[np.argsort(loudness, kind="stable"), 0] = np.sort(own.mouth[:, 0])
    mouth[:, 0] = gaussian_filter1d(mouth[:, 0], 0.02 * TRACK_RATE)
    return replace(other, mouth=mouth)
