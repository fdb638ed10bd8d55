"""Opening and motion of a mouth, from the optical flow inside a face crop."""

from __future__ import annotations

import cv2
import numpy as np

from avff_lib.faces.crop import crop_face
from avff_lib.faces.track import FaceTrack, track_faces
from avff_lib.media.clip import Clip

MOUTH_CROP_SIZE = 128  # pixels, side of the face crop
# Rows and columns of the face crop.
MOUTH_REGION = (slice(77, 116), slice(38, 90))  # from below the nose to the chin
UPPER_FACE_REGION = (slice(20, 64), slice(26, 102))  # from the forehead to the eyes


class MouthMotion:
    """Measures how much a mouth opens from one frame to the next.

    Args:
        fast: take a fifth of the time; correlates at about 0.95 with the slow measurement.
    """

    def __init__(self, fast: bool = False) -> None:
        preset = cv2.DISOPTICAL_FLOW_PRESET_FAST if fast else cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
        self._flow = cv2.DISOpticalFlow.create(preset)
        self._last: np.ndarray | None = None

    def reset(self) -> None:
        """Forget the last crop."""
        self._last = None

    def update(self, crop: np.ndarray) -> float:
        """Take the next crop, ``(MOUTH_CROP_SIZE, MOUTH_CROP_SIZE, 3)`` uint8.

        Returns:
            Change of `avff_lib.inference.sync.mouth_opening` since the last crop; 0 for the first one.
        """
        grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
        last, self._last = self._last, grey
        if last is None:
            return 0.0
        motion = self._flow.calc(last, grey, None)  # type: ignore[call-overload]  # None is an array in its stubs
        vertical = motion[..., 1]  # (H, W), pixels downwards
        return _stretch(vertical[MOUTH_REGION]) - _stretch(vertical[UPPER_FACE_REGION])


def mouth_opening_of_crops(crops: np.ndarray) -> np.ndarray:
    """`avff_lib.inference.sync.mouth_opening` of a face that is already cropped.

    Args:
        crops: ``(T, MOUTH_CROP_SIZE, MOUTH_CROP_SIZE, 3)`` uint8, RGB.

    Returns:
        ``(T,)`` float64, 0 in the first frame.
    """
    motion = MouthMotion()
    return np.cumsum([motion.update(crop) for crop in crops])


def mouth_activity(opening: np.ndarray) -> float:
    """How much a mouth with this ``opening``, ``(T,)``, moves; an even drift is an error of the flow."""
    if not len(opening):
        return 0.0
    # Same as scipy.signal.detrend, which takes half a second to import.
    line = np.stack([np.arange(len(opening)), np.ones(len(opening))], axis=1)
    coefficients, *_ = np.linalg.lstsq(line, opening, rcond=None)
    return float((opening - line @ coefficients).std())


def speaker_face(clip: Clip) -> FaceTrack | None:
    """The face of a clip whose mouth moves most, weighted by how long it is visible; None without a face.

    Args:
        clip: whole frames ``(T, H, W, 3)``.
    """
    tracks = track_faces(clip)
    if len(tracks) < 2:
        return next(iter(tracks), None)

    def rank(track: FaceTrack) -> tuple[float, float]:
        opening = mouth_opening_of_crops(crop_face(clip, track, MOUTH_CROP_SIZE).frames)
        return speaking_rank(mouth_activity(opening[track.detected]), track.boxes, track.detected)

    return max(tracks, key=rank)


def speaking_rank(activity: float, boxes: np.ndarray, detected: np.ndarray) -> tuple[float, float]:
    """Sort key for the speaker's face: the mouth's activity, weighted by how long the face is visible.

    Among faces whose lips do not move at all, the most prominent one comes first.

    Args:
        activity: see `mouth_activity`.
        boxes, detected: ``(T, 4)`` and ``(T,)``, as in `avff_lib.faces.track.FaceTrack`.
    """
    sizes = boxes[:, 2:] - boxes[:, :2]
    return float(activity * detected.sum()), float(detected.sum() * sizes.prod(axis=1).mean())


def _stretch(flow: np.ndarray) -> float:
    """Slope of vertical flow ``(H, W)`` over the rows, by least squares."""
    rows = np.arange(len(flow)) - (len(flow) - 1) / 2
    return float(rows @ flow.mean(axis=1) / (rows @ rows))
