"""Synchrony of lips and voice without training: mouth opening against loudness.

Both rise and fall together, and the lag with the highest correlation estimates the offset of the two streams.
This is a baseline, not a detector: it uses neither words nor traces of a forgery.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from avff_lib.errors import AVFFError, MediaError
from avff_lib.faces.crop import crop_face
from avff_lib.faces.mouth import MOUTH_CROP_SIZE, mouth_opening_of_crops, speaker_face
from avff_lib.media.clip import Clip
from avff_lib.media.decode import iter_clips

CURVE_STEP = 0.04  # seconds between two values of a curve, as in video at 25 frames per second
MAX_LAG = 0.6  # seconds; as in SyncNet's search, 15 frames to either side
LAGS = CURVE_STEP * np.arange(-round(MAX_LAG / CURVE_STEP), round(MAX_LAG / CURVE_STEP) + 1)
MIN_DURATION = 1.6  # seconds of a clip; at the largest lag, one second overlaps
CHUNK_SECONDS = 5.0  # of a file in memory at once
MAX_FRAME_INTERVAL = 0.1  # seconds from one frame to the next; at lower rates syllables are missed
SILENCE_POWER = 1e-6  # -60 dB; a clip whose loudest moment is softer is silent
LOUDNESS_WINDOW = 0.06  # seconds over which power is averaged
LOUDNESS_RANGE = 40.0  # dB below the loudest moment; softer sound is background noise
DRIFT_SECONDS = 0.5  # of the high-pass filter; slower changes are pose, light or distance, not speech


@dataclass(frozen=True, eq=False)
class SyncCurve:
    """Correlation of mouth opening and loudness, at each lag of the voice behind the lips.

    Attributes:
        lags: ``(2 K + 1,)`` seconds, ascending, 0 in the middle.
        curve: ``(2 K + 1,)`` correlation in [-1, 1] at each of ``lags``.
    """

    lags: np.ndarray
    curve: np.ndarray

    @property
    def lag(self) -> float:
        """Lag of the peak in seconds; positive if the voice comes after the lips."""
        return float(self.lags[self.curve.argmax()])

    @property
    def correlation(self) -> float:
        """Height of the peak."""
        return float(self.curve.max())

    @property
    def correlation_at_zero(self) -> float:
        """Correlation without a lag."""
        return float(self.curve[len(self.curve) // 2])

    @property
    def confidence(self) -> float:
        """Peak minus median of the curve: SyncNet's confidence, with correlations instead of distances.

        If it is low, the lag is meaningless.
        """
        return float(self.curve.max() - np.median(self.curve))


def mouth_opening(clip: Clip) -> np.ndarray:
    """Mouth opening of the speaker's face, from the stretch of the lower face.

    Optical flow gives the motion of each point from one frame to the next. The slope of its vertical
    component over the height of a region is the region's stretch: zero for a head that moves without
    speaking, positive where lips part and the chin drops. The stretch of the upper face is subtracted, as a
    head that comes closer stretches both. The cumulative sum over time is the opening.

    Args:
        clip: of `MIN_DURATION` seconds or more, at 10 frames per second or more.

    Returns:
        ``(T,)`` at ``clip.times``: natural logarithm of the region's height over that in the first frame. It
        drifts slowly, as errors of the flow accumulate.

    Raises:
        AVFFError: too short, too few frames, or no face.
    """
    gap = np.median(np.diff(clip.times)) if len(clip.times) > 1 else clip.duration
    if gap > MAX_FRAME_INTERVAL:
        raise AVFFError(
            f"{1 / gap:.1f} frames a second are too few to follow lips; give "
            f"{1 / MAX_FRAME_INTERVAL:.0f} or more"
        )
    duration = clip.times[-1] - clip.times[0] + gap
    if duration < MIN_DURATION - CURVE_STEP / 2:
        raise AVFFError(
            f"{duration:.2f} s of picture are too short to compare lips with voice; give "
            f"{MIN_DURATION:g} s or more"
        )
    face = speaker_face(clip)
    if face is None:
        raise AVFFError("no face was found, so there are no lips; give a video of a person speaking")
    return mouth_opening_of_crops(crop_face(clip, face, MOUTH_CROP_SIZE).frames)


def loudness(clip: Clip, times: np.ndarray) -> np.ndarray:
    """Loudness ``(N,)`` around each of ``times`` ``(N,)``: mean power in dB of full scale.

    Values more than `LOUDNESS_RANGE` below the maximum are raised to that floor; otherwise the pauses would
    outweigh the speech.

    Raises:
        AVFFError: the audio is silent.
    """
    energy = np.concatenate([[0.0], np.square(clip.waveform, dtype=np.float64).cumsum()])
    edges = (times[:, None] - clip.start + np.array([-0.5, 0.5]) * LOUDNESS_WINDOW) * clip.sample_rate
    first, last = np.clip(edges.round().astype(int), 0, len(clip.waveform)).T
    power = (energy[last] - energy[first]) / np.maximum(last - first, 1)
    if power.max() < SILENCE_POWER:
        raise AVFFError("the sound is silent; give a video of a person speaking")
    return 10 * np.log10(np.maximum(power, power.max() * 10 ** (-LOUDNESS_RANGE / 10)))


def cross_correlation(a: np.ndarray, b: np.ndarray, max_lag: int) -> np.ndarray:
    """Normalised cross-correlation of ``a`` and ``b``, with ``b`` behind ``a`` at positive lags.

    ``r[k] = 1 / N * sum over n of z_a[n] * z_b[n + k]``, where ``z`` has zero mean and unit variance and is
    zero-padded. Dividing by N at every lag keeps r in [-1, 1] and lowers it at lags with little overlap.

    Args:
        a, b: ``(N,)``.
        max_lag: in steps, less than N.

    Returns:
        ``(2 * max_lag + 1,)`` for lags from ``-max_lag`` to ``max_lag``; zeros if ``a`` or ``b`` is constant.
    """
    if a.shape != b.shape or a.ndim != 1 or len(a) <= max_lag:
        raise ValueError(f"shapes are {a.shape} and {b.shape}; expected (N,) twice with N > {max_lag}")
    a, b = (x - x.mean() for x in (a, b))
    scale = len(a) * a.std() * b.std()
    if scale < 1e-12:
        return np.zeros(2 * max_lag + 1)
    middle = len(a) - 1
    return np.correlate(b, a, "full")[middle - max_lag : middle + max_lag + 1] / scale


def measure_sync(clip: Clip) -> SyncCurve:
    """Cross-correlate mouth opening and loudness of a clip.

    The idea is that of Hershey & Movellan (2000), who located the speaker in a video as the region that
    changes with the loudness; the lag and its confidence follow Chung & Zisserman (2016).

    Raises:
        AVFFError: too short, too few frames, no face, or silent audio.
    """
    return correlate_streams(mouth_opening(clip), clip)


def correlate_streams(opening: np.ndarray, clip: Clip) -> SyncCurve:
    """Cross-correlate a mouth opening ``(T,)``, at ``clip.times``, with the clip's loudness.

    Both are resampled to steps of `CURVE_STEP`, and slow drift is removed from the opening.
    """
    clock = np.arange(clip.times[0], clip.times[-1] + CURVE_STEP / 2, CURVE_STEP)
    lips = np.interp(clock, clip.times, opening)
    lips -= gaussian_filter1d(lips, DRIFT_SECONDS / CURVE_STEP)
    return SyncCurve(LAGS, cross_correlation(lips, loudness(clip, clock), len(LAGS) // 2))


@dataclass(frozen=True)
class SyncResult:
    """Synchrony of one file; numbers as in `SyncCurve`, None if there is an error.

    Attributes:
        path: as given.
        warnings: one sentence each.
        error: why the file could not be measured, in one sentence; else None.
    """

    path: str
    lag: float | None = None
    correlation: float | None = None
    correlation_at_zero: float | None = None
    confidence: float | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None

    @classmethod
    def of_curve(cls, path: str | Path, curve: SyncCurve, warnings: tuple[str, ...]) -> SyncResult:
        """The result of a file with this curve."""
        return cls(
            path=str(path),
            lag=curve.lag,
            correlation=curve.correlation,
            correlation_at_zero=curve.correlation_at_zero,
            confidence=curve.confidence,
            warnings=warnings,
        )


def sync_file(path: str | Path) -> SyncResult:
    """Measure the synchrony of a whole file, in memory that does not grow with its length.

    The curves of chunks of `CHUNK_SECONDS` seconds are averaged; chunks without a face or audio are left
    out. For a file that cannot be measured, the result has ``error`` set; bad media raise no exception.
    """
    curves = []
    warnings: dict[str, None] = {}  # a set that keeps its order
    reason = ""
    try:
        for chunk in iter_clips(path, CHUNK_SECONDS, CHUNK_SECONDS, min_duration=MIN_DURATION):
            warnings.update(dict.fromkeys(chunk.warnings))
            try:
                curves.append(measure_sync(chunk).curve)
            except AVFFError as error:
                reason = str(error)
                warnings[f"from {chunk.start:.1f} to {chunk.end:.1f} s: {reason}"] = None
    except MediaError as error:
        return SyncResult(str(path), error=str(error))
    if not curves:
        return SyncResult(str(path), error=f"{path} cannot be measured: {reason}")
    mean = SyncCurve(LAGS, np.mean(curves, axis=0))
    return SyncResult.of_curve(path, mean, tuple(warnings))
