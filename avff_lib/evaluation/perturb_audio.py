"""Four perturbations of the audio.

Each takes a clip, a value, and a random generator that only `noise` uses, and returns a clip with another
waveform of the same length, in [-1, 1], and on the same clock; the video is unchanged. Their names and
values are those of the field (see `avff_lib.evaluation.perturbations`).
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

from avff_lib.media.clip import Clip

MP3_RATE = 48_000  # Hz; at 16 kHz MP3 ends at 160 kbit/s, and the field's rates go to 320
WINDOW, HOP = 0.064, 0.016  # seconds, of the phase vocoder; long enough to resolve the partials of a voice
# Of SoX's reverb, after Freeverb: delays in samples at 44.1 kHz, at a room scale of 100 %.
COMBS = (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)
ALLPASSES = (225, 341, 441, 556)
DAMPING = 0.35  # of high frequencies in the echoes, 50 %
WET = 0.015  # gain of the echoes


def noise(clip: Clip, snr: float, rng: np.random.Generator) -> Clip:
    """White Gaussian noise, ``snr`` dB below the mean power of the clip's audio; silence stays silent."""
    white = torch.from_numpy(rng.standard_normal(len(clip.waveform), dtype=np.float32))
    waveform = torch.from_numpy(np.ascontiguousarray(clip.waveform))
    return _with_waveform(clip, AF.add_noise(waveform, white, torch.tensor(snr, dtype=torch.float32)).numpy())


def pitch(clip: Clip, semitones: float, rng: np.random.Generator) -> Clip:
    """Raise the voice by ``semitones`` without changing the tempo.

    A phase vocoder (Flanagan and Golden 1966) stretches the audio, and resampling plays it faster. The
    ratio is the nearest fraction with a denominator of up to 100, less than a cent off. The vocoder loses
    phase coherence between partials, which costs up to 4 dB and moves onsets by up to 4 ms; the mean power
    is restored.
    """
    ratio = Fraction(2 ** (semitones / 12)).limit_denominator(100)
    n_fft, hop = (round(seconds * clip.sample_rate) for seconds in (WINDOW, HOP))
    window = torch.hann_window(n_fft)
    waveform = torch.from_numpy(np.ascontiguousarray(clip.waveform))
    spectrum = torch.stft(waveform, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
    advance = torch.linspace(0, math.pi * hop, n_fft // 2 + 1)[:, None]
    slow = AF.phase_vocoder(spectrum, float(1 / ratio), advance)
    length = math.ceil(len(waveform) * ratio)
    stretched = torch.istft(slow, n_fft, hop, window=window, length=length)
    raised = AF.resample(stretched, ratio.numerator, ratio.denominator)[: len(waveform)]
    gain = waveform.norm() / raised.norm().clamp_min(1e-9)
    return _with_waveform(clip, (gain * raised).numpy())


def reverberation(clip: Clip, percent: float, rng: np.random.Generator) -> Clip:
    """Echoes of a room, at ``percent`` of SoX's reverberance; the direct sound keeps its time and level.

    Eight comb filters side by side and four allpass filters in a row (Schroeder 1962) with Freeverb's
    delays; all other settings are SoX's defaults, in one channel. At 20 % low echoes fall by 60 dB in
    about half a second, at 100 % in ten.
    """
    scale = clip.sample_rate / 44_100
    lowest, highest = math.log(1 - 0.3), math.log(1 - 0.98)  # a feedback of 0.3 at 0 %, 0.98 at 100 %
    feedback = 1 - math.exp(lowest + (highest - lowest) * percent / 100)
    dry = clip.waveform.astype(np.float64)
    wet = np.sum([_echo(dry, round(delay * scale), feedback, DAMPING) for delay in COMBS], axis=0)
    for delay in ALLPASSES:
        wet = _echo(wet, round(delay * scale), 0.5, 0.0) - wet
    return _with_waveform(clip, dry + WET * wet)


def mp3(clip: Clip, kilobits: float, rng: np.random.Generator) -> Clip:
    """Compress the audio as mono MP3 of ``kilobits`` per second at 48 kHz, and decode it, without its delay.

    One channel gets all the bits, which two share in most files, so a given rate is milder here.
    """
    waveform = torch.from_numpy(np.ascontiguousarray(clip.waveform))
    resampled = AF.resample(waveform, clip.sample_rate, MP3_RATE).clamp(-1, 1)
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=MP3_RATE, layout="mono")
        stream.bit_rate = int(kilobits * 1000)
        frame = av.AudioFrame.from_ndarray(resampled.numpy()[None], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = MP3_RATE, Fraction(1, MP3_RATE), 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    file.seek(0)
    with av.open(file, "r") as container:  # the header holds the encoder's delay, which the decoder removes
        decoded = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    back = AF.resample(torch.from_numpy(decoded), MP3_RATE, clip.sample_rate)
    return _with_waveform(clip, back.numpy())


def _echo(signal: np.ndarray, delay: int, feedback: float, damping: float) -> np.ndarray:
    """Output of a delay line of ``delay`` samples with damped feedback."""
    output, buffer, state = np.empty_like(signal), np.zeros(delay), np.zeros(1)
    for first in range(0, len(signal), delay):
        block = signal[first : first + delay]
        output[first : first + delay] = buffer[: len(block)]
        damped, state = lfilter([1 - damping], [1, -damping], buffer[: len(block)], zi=state)
        buffer = block + feedback * damped
    return output


def _with_waveform(clip: Clip, waveform: np.ndarray) -> Clip:
    """The clip with another waveform, cut or padded with silence to the length of the old one."""
    count = len(clip.waveform)
    fitted = np.pad(waveform[:count], (0, max(0, count - len(waveform))))
    return replace(clip, waveform=np.clip(fitted, -1, 1).astype(np.float32))
