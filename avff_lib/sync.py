"""Do lips and voice move together? The baseline that learns nothing.

A mouth that opens lets the voice out: opening and loudness rise and fall together, and the lag at which they
do so best tells by how much the streams are apart. It is no detector: it hears no words and sees no forger.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import correlate

from avff_lib.clip import AVFFError, Clip, MediaError
from avff_lib.media.decode import iter_clips
from avff_lib.media.faces import crop_face, speaker_face, track_faces

STEP = 0.04  # seconds between two values of a curve; that of video with 25 frames a second
MAX_LAG = 0.6  # seconds; the reach of SyncNet's search, 15 frames to either side
LAGS = STEP * np.arange(-round(MAX_LAG / STEP), round(MAX_LAG / STEP) + 1)
SHORTEST = 1.6  # seconds; at the largest lag one second of it is left to compare
WINDOW = 5.0  # seconds of a file that are held in memory at once
SLOWEST = 0.1  # seconds from one frame to the next; with fewer frames syllables are missed
SILENCE = 1e-6  # power, -60 dB; where even the loudest moment is softer there is no voice
LOUDNESS_WINDOW = 0.06  # seconds
FLOOR = 40.0  # dB below the loudest moment, where the background's noise takes over
DRIFT = 0.5  # seconds; what changes more slowly is pose, light or distance, and no speech

CROP = 128  # pixels, side of the face crop
MOUTH = (slice(77, 116), slice(38, 90))  # rows and columns of the crop: from below the nose to the chin
UPPER_FACE = (slice(20, 64), slice(26, 102))  # from the forehead to the eyes


@dataclass(frozen=True, eq=False)
class Sync:
    """How lips and voice go together, at each lag of the voice behind the lips.

    Attributes:
        lags: ``(2 K + 1,)`` seconds, ascending, 0 in the middle.
        curve: ``(2 K + 1,)`` correlation in [-1, 1] at each of ``lags``.
    """

    lags: np.ndarray
    curve: np.ndarray

    @property
    def lag(self) -> float:
        """Seconds by which the voice comes after the lips, at the peak; negative if it comes before."""
        return float(self.lags[self.curve.argmax()])

    @property
    def correlation(self) -> float:
        """Height of the peak."""
        return float(self.curve.max())

    @property
    def correlation_at_zero(self) -> float:
        """Correlation of the two streams as they are."""
        return float(self.curve[len(self.curve) // 2])

    @property
    def confidence(self) -> float:
        """Peak above the median of the curve: SyncNet's measure, with correlations for its distances.

        A peak that does not stand out says nothing of the lag.
        """
        return float(self.curve.max() - np.median(self.curve))


def mouth_opening(clip: Clip) -> np.ndarray:
    """How far the mouth is open, measured by how much the lower face stretches.

    Optical flow says by how much each point moves from one frame to the next. The slope of its vertical
    part over the height of a region is that region's stretch: zero for a head that moves without
    speaking, positive where lips part and the chin drops. The stretch of the upper face is subtracted,
    as a head that comes nearer stretches both. Summed over time, speeds of stretching become openings.

    Args:
        clip: of `SHORTEST` seconds or more, at 10 frames a second or more.

    Returns:
        ``(T,)`` at ``clip.times``, as the natural logarithm of the region's height over that in the
        first frame; it drifts slowly, as errors of the flow add up.

    Raises:
        AVFFError: too short, too few frames, or no face.
    """
    gap = np.median(np.diff(clip.times)) if len(clip.times) > 1 else clip.duration
    if gap > SLOWEST:
        raise AVFFError(
            f"{1 / gap:.1f} frames a second are too few to follow lips; give {1 / SLOWEST:.0f} or more"
        )
    shown = clip.times[-1] - clip.times[0] + gap
    if shown < SHORTEST - STEP / 2:
        raise AVFFError(
            f"{shown:.2f} s of picture are too short to compare lips with voice; give {SHORTEST:g} s or more"
        )
    face = speaker_face(track_faces(clip))
    if face is None:
        raise AVFFError("no face was found, so there are no lips; give a video of a person speaking")
    return opening_of(crop_face(clip, face, CROP).frames)


def opening_of(crops: np.ndarray) -> np.ndarray:
    """`mouth_opening` of a face that is cut out already: ``(T, CROP, CROP, 3)`` uint8 -> ``(T,)``."""
    grey = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    opening = np.zeros(len(grey))
    for i in range(1, len(grey)):
        moved = flow.calc(grey[i - 1], grey[i], None)[..., 1]  # (CROP, CROP) pixels downwards
        opening[i] = _stretch(moved[MOUTH]) - _stretch(moved[UPPER_FACE])
    return opening.cumsum()


def _stretch(moved: np.ndarray) -> float:
    """Slope of ``moved`` ``(H, W)`` over the rows, by least squares."""
    rows = np.arange(len(moved)) - (len(moved) - 1) / 2
    return float(rows @ moved.mean(axis=1) / (rows @ rows))


def loudness(clip: Clip, times: np.ndarray) -> np.ndarray:
    """Loudness ``(N,)`` around each of ``times`` ``(N,)``: mean power in dB of full scale.

    What lies more than `FLOOR` below the loudest of these moments is raised to there; or else the
    depth of the pauses would outweigh what is said.

    Raises:
        AVFFError: the sound is silent.
    """
    energy = np.concatenate([[0.0], np.square(clip.waveform, dtype=np.float64).cumsum()])
    edges = (times[:, None] - clip.start + np.array([-0.5, 0.5]) * LOUDNESS_WINDOW) * clip.sample_rate
    first, last = np.clip(edges.round().astype(int), 0, len(clip.waveform)).T
    power = (energy[last] - energy[first]) / np.maximum(last - first, 1)
    if power.max() < SILENCE:
        raise AVFFError("the sound is silent; give a video of a person speaking")
    return 10 * np.log10(np.maximum(power, power.max() * 10 ** (-FLOOR / 10)))


def cross_correlation(a: np.ndarray, b: np.ndarray, max_lag: int) -> np.ndarray:
    """Normalised cross-correlation: how well ``b`` follows ``a`` at each lag.

    ``r[k] = 1 / N * sum over n of z_a[n] * z_b[n + k]``, where ``z`` has zero mean and unit variance and
    counts as 0 outside its N values. Dividing by N at every lag keeps r in [-1, 1] and trusts lags less
    the fewer values they rest on.

    Args:
        a, b: ``(N,)``.
        max_lag: in steps, less than N.

    Returns:
        ``(2 * max_lag + 1,)`` for lags from ``-max_lag`` to ``max_lag``; zeros if a curve is constant.
    """
    if a.shape != b.shape or a.ndim != 1 or len(a) <= max_lag:
        raise ValueError(f"shapes are {a.shape} and {b.shape}; expected (N,) twice with N > {max_lag}")
    a, b = (x - x.mean() for x in (a, b))
    scale = len(a) * a.std() * b.std()
    if scale < 1e-12:
        return np.zeros(2 * max_lag + 1)
    middle = len(a) - 1
    return correlate(b, a)[middle - max_lag : middle + max_lag + 1] / scale


def measure_sync(clip: Clip) -> Sync:
    """Compare the mouth's opening with the loudness of the voice.

    The idea is that of Hershey & Movellan (2000), who found the speaker in a picture as the part that
    changes with the loudness; the lag and its confidence follow Chung & Zisserman (2016).

    Raises:
        AVFFError: too short, too few frames, no face, or no sound.
    """
    return compare(mouth_opening(clip), clip)


def compare(opening: np.ndarray, clip: Clip) -> Sync:
    """The opening ``(T,)`` that was seen in ``clip``, or in another one as long, and the clip's voice.

    Both are brought to one clock, and the opening's slow drift is taken out.
    """
    clock = np.arange(clip.times[0], clip.times[-1] + STEP / 2, STEP)
    lips = np.interp(clock, clip.times, opening)
    lips -= gaussian_filter1d(lips, DRIFT / STEP)
    return Sync(LAGS, cross_correlation(lips, loudness(clip, clock), len(LAGS) // 2))


@dataclass(frozen=True)
class SyncReport:
    """What is said of one file; numbers as in `Sync`, None where there is an error.

    Attributes:
        path: as it was given.
        warnings: one sentence each.
        error: one sentence, or None.
    """

    path: str
    lag: float | None = None
    correlation: float | None = None
    correlation_at_zero: float | None = None
    confidence: float | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None


def sync_file(path: str | Path) -> SyncReport:
    """Measure a whole file, in memory that does not grow with its length.

    The curves of windows of `WINDOW` seconds are averaged; a window without a face or a sound is left
    out. A file that cannot be measured gives a report with ``error`` set; nothing is raised for bad media.
    """
    curves, warnings = [], {}  # a dict is a set that keeps its order
    try:
        for window in iter_clips(path, WINDOW, WINDOW, shortest=SHORTEST):
            warnings.update(dict.fromkeys(window.warnings))
            try:
                curves.append(measure_sync(window).curve)
            except AVFFError as error:
                reason = str(error)
                warnings[f"from {window.start:.1f} to {window.end:.1f} s: {reason}"] = None
    except MediaError as error:
        return SyncReport(str(path), error=str(error))
    if not curves:
        return SyncReport(str(path), error=f"{path} cannot be measured: {reason}")
    found = Sync(LAGS, np.mean(curves, axis=0))
    values = (found.lag, found.correlation, found.correlation_at_zero, found.confidence)
    return SyncReport(str(path), *values, warnings=tuple(warnings))
