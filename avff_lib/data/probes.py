"""Features of one clip for the simple probes of the audit.

Each probe is deliberately limited: to the file, the pauses, the loudness, one frame, the audio, or the video.
None of them can tell whether lips and voice belong together. If a probe still finds the fakes, a detector may
learn that shortcut instead of the forgery.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import kurtosis

from avff_lib.data.duplicates import Fingerprint, fingerprint
from avff_lib.errors import MediaError
from avff_lib.media.decode import probe, read_clip

PROBES = ("metadata", "silence", "loudness", "frame", "audio", "video")
LONG_SIDE = 320  # pixels; larger frames are shrunk to it
SAMPLE_RATE = 16_000
HOP = SAMPLE_RATE // 100  # 10 ms
BANDS = 24  # mel bands of the spectrum
CELLS = 3  # rows and columns of the grid that describes frames


@dataclass(frozen=True, eq=False)
class Measurements:
    """The probes' measurements of one clip.

    Attributes:
        features: for each of `PROBES` its features by name.
        codecs: names of the container and of both codecs.
        writer: the program that wrote the file, as far as its tags name it.
        fingerprint: for finding duplicates.
    """

    features: dict[str, dict[str, float]]
    codecs: str
    writer: str
    fingerprint: Fingerprint


def measure(path: Path) -> Measurements:
    """Decode a clip once and compute the features of every probe.

    Raises:
        MediaError: the file cannot be read, or has fewer than three frames.
    """
    info, clip = probe(path), read_clip(path, sample_rate=SAMPLE_RATE, max_side=LONG_SIDE)
    if len(clip.frames) < 3:
        raise MediaError(
            f"{path} has {len(clip.frames)} frames; the audit needs at least 3 to measure motion"
        )
    size = path.stat().st_size
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip.frames]).astype(np.float32)
    features = {
        "metadata": {
            "file size (kB)": size / 1000,
            "bit rate (kbit/s)": size * 8 / 1000 / max(clip.duration, 1e-3),
            "duration (s)": info.duration,
            "frames": len(clip.frames),
            "frame rate": info.frame_rate,
            "width": info.width,
            "height": info.height,
            "sample rate": info.sample_rate,
            "channels": info.channels,
        },
        "silence": silence(clip.waveform),
        "loudness": loudness(clip.waveform),
        "frame": frame_statistics(clip.frames[len(grey) // 2], grey[len(grey) // 2]),
        "audio": audio_statistics(clip.waveform),
        "video": video_statistics(grey),
    }
    codecs = f"{path.suffix} {info.video_codec} {info.audio_codec}"
    return Measurements(features, codecs, info.writer, fingerprint(clip))


def silence(waveform: np.ndarray) -> dict[str, float]:
    """Silence: parts 35 dB below the loud ones or near the noise floor, and samples that are exactly zero."""
    level = _envelope_db(waveform)
    floor, loud = np.percentile(level, (5, 95))
    loud_steps = np.flatnonzero(level > max(loud - 35, min(floor + 6, loud - 12)))
    nonzero = np.flatnonzero(waveform)
    first, last = (loud_steps[0], loud_steps[-1]) if len(loud_steps) else (len(level), -1)
    pauses = np.diff(loud_steps) - 1
    return {
        "leading silence (s)": float(first) / 100,
        "trailing silence (s)": float(len(level) - 1 - last) / 100,
        "share of pauses": 1 - len(loud_steps) / len(level),
        "longest pause (s)": float(pauses.max(initial=0)) / 100,
        "leading zeros (s)": float(nonzero[0] if len(nonzero) else len(waveform)) / SAMPLE_RATE,
        "share of zeros": 1 - len(nonzero) / max(len(waveform), 1),
    }


def loudness(waveform: np.ndarray) -> dict[str, float]:
    """Level, peak and crest factor of the clip, in dB of full scale."""
    rms = 10 * np.log10(np.mean(waveform**2) + 1e-10)
    peak = 20 * np.log10(np.abs(waveform).max(initial=0) + 1e-5)
    return {"level (dB)": float(rms), "peak (dB)": float(peak), "crest (dB)": float(peak - rms)}


def frame_statistics(frame: np.ndarray, grey: np.ndarray) -> dict[str, float]:
    """One frame: its colours, and the sharpness and grain of each part.

    Args:
        frame: ``(H, W, 3)`` uint8.
        grey: ``(H, W)`` float32, the same frame.
    """
    residual = grey - cv2.GaussianBlur(grey, (0, 0), 1.0)
    named = {}
    for channel, name in enumerate(("red", "green", "blue")):
        named[f"mean of {name}"] = float(frame[..., channel].mean())
        named[f"contrast of {name}"] = float(frame[..., channel].std())
    named["sharpness"] = float(np.log(cv2.Laplacian(grey, cv2.CV_32F).var() + 1))
    named["peakedness of the residual"] = (
        float(np.log(kurtosis(residual, axis=None) + 4)) if residual.std() > 0 else 0.0
    )
    return named | _by_cell("residual", np.log(_cells(np.abs(residual)) + 0.1))


def audio_statistics(waveform: np.ndarray) -> dict[str, float]:
    """The audio alone: mean, spread, and rate of change of its log spectrum in `BANDS` mel bands."""
    import torch
    from torchaudio.transforms import MelSpectrogram

    mel = MelSpectrogram(SAMPLE_RATE, n_fft=512, hop_length=HOP, n_mels=BANDS, center=True)
    power = mel(torch.from_numpy(np.pad(waveform, (0, max(0, 2 * HOP - len(waveform)))))).numpy()
    log = np.log(power + 1e-6)  # (BANDS, N)
    log -= log.mean()  # loudness has a probe of its own
    named = {}
    for band in range(BANDS):
        named[f"mean of band {band}"] = float(log[band].mean())
        named[f"spread of band {band}"] = float(log[band].std())
        named[f"change of band {band}"] = float(np.abs(np.diff(log[band])).mean())
    return named


def video_statistics(grey: np.ndarray) -> dict[str, float]:
    """The video alone, over time: the amount of motion, jitter and flicker in each part of the frame.

    Args:
        grey: ``(T, H, W)`` float32.
    """
    small = np.stack([cv2.GaussianBlur(frame, (0, 0), 2.0) for frame in grey])
    residual = grey - small
    motion = np.stack([_cells(step) for step in np.abs(np.diff(small, axis=0))])  # (T - 1, cells)
    tremble = np.stack([_cells(step) for step in np.abs(np.diff(residual, n=2, axis=0))])
    grain = np.stack([_cells(frame) for frame in np.abs(residual)])
    brightness = grey.mean((1, 2))
    return {
        "flicker": float(np.abs(np.diff(brightness, n=2)).mean()),
        **_by_cell("motion", np.log(motion.mean(0) + 0.1)),
        **_by_cell("unsteadiness of motion", np.log(motion.std(0) + 0.1)),
        **_by_cell("tremble", np.log(tremble.mean(0) + 0.1)),
        **_by_cell("grain", np.log(grain.mean(0) + 0.1)),
        **_by_cell("change of grain", np.log(grain.std(0) + 0.01)),
    }


def _envelope_db(waveform: np.ndarray) -> np.ndarray:
    """Level ``(N,)`` in dB for each 10 ms."""
    whole = max(len(waveform) // HOP, 1)
    blocks = np.pad(waveform, (0, max(0, HOP - len(waveform))))[: whole * HOP].reshape(whole, HOP)
    return 10 * np.log10(np.mean(blocks**2, axis=1) + 1e-10)


def _cells(image: np.ndarray) -> np.ndarray:
    """Mean of each cell of a `CELLS` x `CELLS` grid: ``(CELLS**2,)``."""
    return cv2.resize(image, (CELLS, CELLS), interpolation=cv2.INTER_AREA).ravel()


def _by_cell(name: str, values: np.ndarray) -> dict[str, float]:
    rows, columns = ("upper", "middle", "lower"), ("left", "centre", "right")
    places = [f"{row} {column}" for row in rows for column in columns]
    return {f"{name}, {place}": float(value) for place, value in zip(places, values, strict=True)}
