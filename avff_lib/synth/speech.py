"""A speech synthesiser: phones -> articulation track -> voice (and, in `avff_lib.synth.face`, lips).

A source–filter synthesiser after Klatt (1980, doi:10.1121/1.383940): a glottal pulse train and
noise are shaped by formant resonators whose targets are those of Peterson and Barney (1952,
doi:10.1121/1.1906875). Coarticulation is a weighted Gaussian smoothing of the phones' targets, a
simple form of the dominance functions of Cohen and Massaro (1993).

The same track holds mouth shapes and acoustic parameters, so lips and voice belong together until a forgery
separates them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter1d
from scipy.signal import resample_poly

from avff_lib.synth.phones import PHONES, Phone

SAMPLE_RATE = 16_000  # of the voice, in Hz
TRACK_RATE = 200  # of the articulation track, in Hz
HOP_LENGTH = SAMPLE_RATE // TRACK_RATE  # samples per step of the track

# Columns of `Articulation.acoustics`: formants of a vocal tract of average length in Hz; amplitudes of the
# three sources; center and spread of the frication noise in Hz; nasality in [0, 1]; pitch in Hz.
ACOUSTICS = (
    "f1",
    "f2",
    "f3",
    "voicing",
    "breath",
    "frication",
    "center",
    "spread",
    "nasality",
    "pitch",
)


@dataclass(frozen=True)
class Voice:
    """The parameters of one speaker's voice.

    Attributes:
        pitch: mean fundamental frequency, in Hz.
        pitch_range: size of pitch accents, in semitones.
        tract: vocal tract length relative to the average; a longer one lowers the formants.
        breath: amplitude of breath noise relative to the voice.
        tilt: corner frequency of the glottal source, in Hz; low is soft, high is pressed.
        rate: speaking rate relative to the average.
        effort: mouth opening relative to the average.
    """

    pitch: float
    pitch_range: float
    tract: float
    breath: float
    tilt: float
    rate: float
    effort: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Voice:
        """A random speaker: low or high voice, with a vocal tract to match."""
        high = rng.random() < 0.5
        return cls(
            pitch=(195 if high else 115) * np.exp(rng.normal(0, 0.12)),
            pitch_range=rng.uniform(1.5, 3.5),
            tract=(0.87 if high else 1.0) * np.exp(rng.normal(0, 0.04)),
            breath=rng.uniform(0.01, 0.06),
            tilt=rng.uniform(2000, 6000),
            rate=rng.uniform(0.88, 1.15),
            effort=rng.uniform(0.85, 1.15),
        )


@dataclass(frozen=True, eq=False)
class Articulation:
    """Mouth shapes and acoustic parameters over time, at `TRACK_RATE`.

    Attributes:
        mouth: ``(N, 5)`` float32 in [0, 1], columns `avff_lib.synth.phones.MOUTH`.
        acoustics: ``(N, 10)`` float32, columns `ACOUSTICS`.
    """

    mouth: np.ndarray
    acoustics: np.ndarray

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.mouth) / TRACK_RATE

    def mouth_at(self, times: np.ndarray) -> np.ndarray:
        """Mouth shape ``(T, 5)`` at ``times`` ``(T,)``, in seconds from the track's start."""
        track_times = np.arange(len(self.mouth)) / TRACK_RATE
        return np.stack([np.interp(times, track_times, column) for column in self.mouth.T], axis=1)

    def window(self, start: float, duration: float) -> Articulation:
        """The part in [start, start + duration), rounded to the track's steps of 5 ms.

        Raises:
            ValueError: the part reaches outside the track.
        """
        first, count = round(start * TRACK_RATE), round(duration * TRACK_RATE)
        if first < 0 or first + count > len(self.mouth):
            raise ValueError(
                f"window {start:.3f} + {duration:.3f} s is outside a {self.duration:.3f} s track"
            )
        return Articulation(self.mouth[first : first + count], self.acoustics[first : first + count])

    def splice(self, other: Articulation, weight: np.ndarray) -> Articulation:
        """A linear blend: this track where ``weight`` ``(N,)`` is 0, ``other`` where it is 1."""
        w = weight[:, None].astype(np.float32)
        return Articulation(
            (1 - w) * self.mouth + w * other.mouth,
            (1 - w) * self.acoustics + w * other.acoustics,
        )


def articulate(phones: list[str], voice: Voice, duration: float, rng: np.random.Generator) -> Articulation:
    """The articulation track of phones, cropped to ``duration`` seconds at a random position.

    The crop never starts or ends with the sentence, so no clip starts with silence.

    Raises:
        ValueError: the phones last less than ``duration`` + 0.6 s.
    """
    gestures = _gestures(phones, voice, rng)
    lengths = np.array([max(round(gesture.seconds * TRACK_RATE), 1) for gesture in gestures])

    def steps(*names: str) -> np.ndarray:
        """The gestures' targets as a staircase ``(N, columns)``."""
        targets = [np.hstack([getattr(gesture, name) for name in names]) for gesture in gestures]
        return np.repeat(np.array(targets, dtype=np.float32), lengths, axis=0)

    mouth = np.clip(_coarticulate(steps("mouth"), steps("lips"), seconds=0.027), 0, 1)
    formants = _coarticulate(steps("formants"), steps("tract"), seconds=0.022)
    sources = _smooth(steps("voicing", "breath", "frication"), seconds=0.005)
    noise = steps(
        "center", "spread"
    )  # not smoothed: a burst keeps the spectrum of its own place of articulation
    nasality = _smooth(steps("nasality"), seconds=0.012)
    pitch = _melody(gestures, lengths, voice, rng)
    acoustics = np.column_stack([formants, sources, noise, nasality, pitch])
    track = Articulation(mouth.astype(np.float32), acoustics.astype(np.float32))

    slack = track.duration - duration - 0.6
    if slack < 0:
        raise ValueError(
            f"{len(phones)} phones last {track.duration:.2f} s; {duration + 0.6:.2f} s are needed, add words"
        )
    return track.window(0.3 + rng.uniform(0, slack), duration)


def _gestures(names: list[str], voice: Voice, rng: np.random.Generator) -> list[Phone]:
    """The phones with random durations and stresses; plosives become closure, burst and release."""
    gestures = []
    for name in names:
        phone = PHONES[name]
        seconds = phone.seconds / voice.rate * np.exp(rng.normal(0, 0.18))
        if phone.kind == "vowel":
            stress = np.exp(rng.normal(0, 0.2))
            mouth = (phone.mouth[0] * voice.effort * stress**0.5, *phone.mouth[1:])
            gestures.append(replace(phone, seconds=seconds * stress, mouth=mouth, voicing=stress))
        elif phone.kind == "plosive":
            voiced = phone.voicing > 0
            closure = replace(phone, seconds=seconds * 0.65, frication=0.0)
            burst = replace(phone, seconds=0.01, voicing=0.0)
            release = replace(
                phone,
                seconds=seconds * (0.1 if voiced else 0.3),
                lips=0.3,
                voicing=0.6 if voiced else 0.0,
                breath=0.05 if voiced else 0.3,
                frication=0.0,
            )
            gestures += [closure, burst, release]
        else:
            gestures.append(replace(phone, seconds=seconds))
    return gestures


def _smooth(steps: np.ndarray, seconds: float) -> np.ndarray:
    return gaussian_filter1d(steps, seconds * TRACK_RATE, axis=0, mode="nearest")


def _coarticulate(targets: np.ndarray, firmness: np.ndarray, seconds: float) -> np.ndarray:
    """Smooth ``targets`` ``(N, C)`` in time, weighted by each phone's firmness ``(N, 1)``."""
    return _smooth(targets * firmness, seconds) / _smooth(firmness, seconds)


def _melody(gestures: list[Phone], lengths: np.ndarray, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Pitch ``(N,)`` in Hz: declining over each phrase, raised on accented vowels, fluctuating at random."""
    total, ends = int(lengths.sum()), np.cumsum(lengths)
    semitones = 4 * _smooth(rng.standard_normal(total), seconds=0.05)
    accents = np.zeros(total)
    phrase = 0
    for gesture, length, end in zip(gestures, lengths, ends, strict=True):
        if gesture.kind == "pause":
            semitones[phrase:end] += np.linspace(1.5, -2.5, end - phrase)
            phrase = end
        elif gesture.kind == "vowel" and rng.random() < 0.4:
            accents[end - length // 2] = rng.normal(1.0, 0.4)
    width = 0.07
    semitones += voice.pitch_range * _smooth(accents, width) * width * TRACK_RATE * np.sqrt(2 * np.pi)
    return voice.pitch * 2 ** (semitones / 12)


def speak(articulation: Articulation, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """The voice of a track: sources through formant filters, overlap-add of 25 ms windows every 5 ms.

    Returns:
        ``(N * HOP_LENGTH,)`` float32 at `SAMPLE_RATE`, dry, with an RMS of 0.1.
    """
    acoustics = dict(zip(ACOUSTICS, articulation.acoustics.T, strict=True))
    count = len(articulation.acoustics) * HOP_LENGTH
    at = np.arange(count) / HOP_LENGTH

    def samples(name: str) -> np.ndarray:
        return np.interp(at, np.arange(len(acoustics[name])), acoustics[name]).astype(np.float32)

    noise = rng.standard_normal((2, count), dtype=np.float32)
    voicing = samples("voicing")
    breath = samples("breath") + voice.breath * voicing
    throat = voicing * _glottis(acoustics["pitch"], count, voice) + 0.3 * breath * noise[0]
    tongue = samples("frication") * noise[1]
    voiced = _spectra(throat) * _tract_response(acoustics, voice)
    frication = _spectra(tongue) * _noise_response(acoustics)
    waveform = _overlap_add(voiced + frication, count)
    return waveform * (0.1 / (np.sqrt(np.mean(waveform**2)) + 1e-6))


def _glottis(pitch: np.ndarray, count: int, voice: Voice) -> np.ndarray:
    """Derivative of the glottal flow (KLGLOTT88), at twice the sample rate against aliasing."""
    at = np.arange(2 * count) / (2 * HOP_LENGTH)
    phase = np.cumsum(np.interp(at, np.arange(len(pitch)), pitch) / (2 * SAMPLE_RATE)) % 1.0
    open_part = 0.6
    x = phase / open_part
    flow = np.where(x < 1, 2 * x - 3 * x**2, 0.0)
    return resample_poly(flow, 1, 2).astype(np.float32)


WINDOW_LENGTH = 5 * HOP_LENGTH  # samples, 25 ms
N_FFT = 1024  # a window, and the ringing of the formants after it


def _spectra(source: np.ndarray) -> np.ndarray:
    """Spectra ``(N, N_FFT // 2 + 1)`` of the windows centred on each step of the track."""
    padded = np.pad(source, (WINDOW_LENGTH // 2, WINDOW_LENGTH // 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_LENGTH)[: len(source) : HOP_LENGTH]
    hann = np.hanning(WINDOW_LENGTH + 1)[:-1].astype(np.float32) * (
        2 * HOP_LENGTH / WINDOW_LENGTH
    )  # the windows add up to 1
    return scipy.fft.rfft(windows * hann, N_FFT)


def _overlap_add(spectra: np.ndarray, count: int) -> np.ndarray:
    """The waveform ``(count,)`` whose windows have these spectra."""
    parts = N_FFT // HOP_LENGTH + 1
    pieces = np.zeros((len(spectra), parts * HOP_LENGTH), dtype=np.float32)
    pieces[:, :N_FFT] = scipy.fft.irfft(spectra, N_FFT)
    total = np.zeros((len(spectra) + parts, HOP_LENGTH), dtype=np.float32)
    for part in range(parts):
        total[part : part + len(spectra)] += pieces[:, part * HOP_LENGTH : (part + 1) * HOP_LENGTH]
    return total.ravel()[WINDOW_LENGTH // 2 :][:count]


def _tract_response(acoustics: dict[str, np.ndarray], voice: Voice) -> np.ndarray:
    """Response of the vocal tract ``(N, bins)``: five resonators in cascade, and a nasal pole and zero."""
    f1, f2, f3 = (acoustics[name] / voice.tract for name in ("f1", "f2", "f3"))
    nasality = acoustics["nasality"]
    steady = np.ones_like(f1)
    denominator = (
        _resonance(f1, 60 + 80 * nasality)
        * _resonance(f2, 90 + 60 * nasality)
        * _resonance(f3, 140 * steady)
        * _resonance(3500 / voice.tract * steady, 220 * steady)
        * _resonance(4500 / voice.tract * steady, 300 * steady)
    )
    # Without nasality the zero cancels the pole.
    nasal = _resonance(270 + 650 * nasality, 100 * steady) / _resonance(270 * steady, 100 * steady)
    tilt = 1 / (1 + 1j * _frequencies() / voice.tilt)
    return (tilt * nasal / denominator).astype(np.complex64)


def _resonance(frequency: np.ndarray, bandwidth: np.ndarray) -> np.ndarray:
    """``1 / H`` ``(N, bins)`` of Klatt's digital resonator, unity gain at 0 Hz."""
    radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE).astype(np.float32)
    b = 2 * radius * np.cos(2 * np.pi * frequency / SAMPLE_RATE)
    c = -(radius**2)
    delay = np.exp(-2j * np.pi * _frequencies() / SAMPLE_RATE).astype(np.complex64)
    return (1 - b[:, None] * delay - c[:, None] * delay**2) / (1 - b - c)[:, None]


def _noise_response(acoustics: dict[str, np.ndarray]) -> np.ndarray:
    """Response to frication noise ``(N, bins)``: a Gaussian around the phone's center, of equal power."""
    center, spread = acoustics["center"][:, None], acoustics["spread"][:, None]
    bump = np.exp(-0.5 * ((_frequencies() - center) / spread) ** 2) + np.float32(0.03)
    return bump * np.sqrt(1000 / spread)


@functools.cache
def _frequencies() -> np.ndarray:
    return np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1, dtype=np.float32)
