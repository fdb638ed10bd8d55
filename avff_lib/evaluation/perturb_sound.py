"""What happens to a voice on its way to a listener: four perturbations, each worse with its value.

Each takes a clip, a value, and a random generator that only noise needs, and gives a clip with another
waveform of the same length, in [-1, 1], and on the same clock; the picture is untouched. Their names and
values are those of the field (see `avff_lib.evaluation.perturb`).
"""

from __future__ import annotations

import io
import math
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import torch
from scipy.signal import lfilter
from torchaudio import functional as AF

from avff_lib.clip import Clip

MP3_RATE = 48_000  # Hz; at 16 kHz MP3 ends at 160 kbit/s, and the field's rates go to 320
WINDOW, HOP = 0.064, 0.016  # seconds, of the phase vocoder; long enough to tell a voice's partials apart
# Of SoX's reverb, after Freeverb: delays in samples at 44.1 kHz, at a room scale of 100 %.
COMBS = (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)
ALLPASSES = (225, 341, 441, 556)
DAMPING = 0.35  # of high frequencies in the echoes, 50 %
WET = 0.015  # gain of the echoes


def noise(clip: Clip, snr: float, rng: np.random.Generator) -> Clip:
    """White Gaussian noise, ``snr`` dB below the mean power of this clip's sound; silence stays silent."""
    white = torch.from_numpy(rng.standard_normal(len(clip.waveform), dtype=np.float32))
    sound = torch.from_numpy(np.ascontiguousarray(clip.waveform))
    return _sounding(clip, AF.add_noise(sound, white, torch.tensor(snr, dtype=torch.float32)).numpy())


def pitch(clip: Clip, semitones: float, rng: np.random.Generator) -> Clip:
    """Raise the voice by ``semitones``; what is said keeps its time.

    A phase vocoder (Flanagan and Golden 1966) stretches the sound, and resampling plays it faster. The
    ratio is the fraction nearest to the interval with a denominator up to 100, less than a cent off.
    The vocoder lets partials drift apart, which loses up to 4 dB and moves rises and falls by up to 4 ms;
    the mean power is set to what it was.
    """
    ratio = Fraction(2 ** (semitones / 12)).limit_denominator(100)
    n_fft, hop = (round(seconds * clip.sample_rate) for seconds in (WINDOW, HOP))
    window = torch.hann_window(n_fft)
    sound = torch.from_numpy(np.ascontiguousarray(clip.waveform))
    spectrum = torch.stft(sound, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
    advance = torch.linspace(0, math.pi * hop, n_fft // 2 + 1)[:, None]
    slow = AF.phase_vocoder(spectrum, float(1 / ratio), advance)
    length = math.ceil(len(sound) * ratio)
    stretched = torch.istft(slow, n_fft, hop, window=window, length=length)
    raised = AF.resample(stretched, ratio.numerator, ratio.denominator)[: len(sound)]
    gain = sound.norm() / raised.norm().clamp_min(1e-9)
    return _sounding(clip, (gain * raised).numpy())


def reverberation(clip: Clip, percent: float, rng: np.random.Generator) -> Clip:
    """Echoes of a room, of ``percent`` of SoX's reverberance; the direct sound stays where it was.

    Eight comb filters side by side and four allpass filters in a row (Schroeder 1962) with Freeverb's
    delays; all other settings are SoX's defaults, in one channel. At 20 % low echoes fall by 60 dB in
    about half a second, at 100 % in ten.
    """
    scale = clip.sample_rate / 44_100
    lowest, highest = math.log(1 - 0.3), math.log(1 - 0.98)  # a feedback of 0.3 at 0 %, 0.98 at 100 %
    feedback = 1 - math.exp(lowest + (highest - lowest) * percent / 100)
    dry = clip.waveform.astype(np.float64)
    wet = sum(_echo(dry, round(delay * scale), feedback, DAMPING) for delay in COMBS)
    for delay in ALLPASSES:
        wet = _echo(wet, round(delay * scale), 0.5, 0.0) - wet
    return _sounding(clip, dry + WET * wet)


def mp3(clip: Clip, kilobits: float, rng: np.random.Generator) -> Clip:
    """The sound compressed as mono MP3 of ``kilobits`` a second at 48 kHz and decoded, without its delay.

    One channel has all the bits that two share in most files, so a rate is milder here than there.
    """
    sound = AF.resample(torch.from_numpy(np.ascontiguousarray(clip.waveform)), clip.sample_rate, MP3_RATE)
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=MP3_RATE, layout="mono")
        stream.bit_rate = int(kilobits * 1000)
        frame = av.AudioFrame.from_ndarray(sound.clamp(-1, 1).numpy()[None], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = MP3_RATE, Fraction(1, MP3_RATE), 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    file.seek(0)
    with av.open(file) as container:  # the file's header says how many samples the encoder put before
        decoded = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    back = AF.resample(torch.from_numpy(decoded), MP3_RATE, clip.sample_rate)
    return _sounding(clip, back.numpy())


def _echo(sound: np.ndarray, delay: int, feedback: float, damping: float) -> np.ndarray:
    """What comes out of a delay line of ``delay`` samples into which its own output, damped, is fed back."""
    heard, held, state = np.empty_like(sound), np.zeros(delay), np.zeros(1)
    for first in range(0, len(sound), delay):
        block = sound[first : first + delay]
        heard[first : first + delay] = held[: len(block)]
        damped, state = lfilter([1 - damping], [1, -damping], held[: len(block)], zi=state)
        held = block + feedback * damped
    return heard


def _sounding(clip: Clip, waveform: np.ndarray) -> Clip:
    """The clip with another sound, cut or filled up with silence to the length of the old one."""
    count = len(clip.waveform)
    fitted = np.pad(waveform[:count], (0, max(0, count - len(waveform))))
    return replace(clip, waveform=np.clip(fitted, -1, 1).astype(np.float32))
