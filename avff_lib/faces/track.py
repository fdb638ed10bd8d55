"""Face tracks through a clip: detections in keyframes, linked by overlap, interpolated and smoothed.

No face is an explicit state: `track_faces` returns no track and `speaker_face` ``None``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from avff_lib.faces.detect import SAME_FACE_IOU, box_iou, detect_faces
from avff_lib.media.clip import Clip


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """One face through a clip.

    Attributes:
        boxes: ``(T, 4)`` float32, left, top, right, bottom in pixels, smoothed; before the first and after
            the last detection the nearest box is repeated.
        detected: ``(T,)`` bool, whether the face was detected in the keyframes around this frame.
        score: mean confidence of the detector, in [0, 1].
    """

    boxes: np.ndarray
    detected: np.ndarray
    score: float


def track_faces(clip: Clip, *, stride: int = 5) -> list[FaceTrack]:
    """Track each face of a clip.

    Args:
        clip: frames ``(T, H, W, 3)``.
        stride: every so many frames, and the last one, are keyframes, in which faces are detected.

    Returns:
        One track per face, in order of appearance; empty if there is none. A face detected in only one of
        several keyframes is dropped as a false detection.

    Raises:
        AVFFError: the detector's weights are not installed.
    """
    keyframes = np.unique(np.append(np.arange(0, len(clip.frames), stride), len(clip.frames) - 1))
    tracklets: list[dict[int, np.ndarray]] = []  # keyframe -> left, top, right, bottom, score
    for frame in keyframes.tolist():
        for box in detect_faces(clip.frames[frame]):
            # A tracklet is continued from its last box, even if it misses some keyframes.
            candidates = [tracklet for tracklet in tracklets if frame not in tracklet]
            overlaps = [box_iou(box, tracklet[max(tracklet)]) for tracklet in candidates]
            if overlaps and max(overlaps) >= SAME_FACE_IOU:
                candidates[int(np.argmax(overlaps))][frame] = box
            else:
                tracklets.append({frame: box})
    min_detections = min(2, len(keyframes))
    return [
        _interpolate(tracklet, keyframes, len(clip.frames), stride)
        for tracklet in tracklets
        if len(tracklet) >= min_detections
    ]


def speaker_face(tracks: list[FaceTrack]) -> FaceTrack | None:
    """The most prominent face, taken to be the speaker's; ``None`` if there is no face."""
    return max(tracks, key=prominence, default=None)


def prominence(track: FaceTrack) -> float:
    """Prominence of a face: frames with a detection x mean area in pixels."""
    left, top, right, bottom = track.boxes.T
    return float(track.detected.sum() * ((right - left) * (bottom - top)).mean())


def _interpolate(
    tracklet: dict[int, np.ndarray], keyframes: np.ndarray, frame_count: int, stride: int
) -> FaceTrack:
    """A track from the boxes of a tracklet: interpolated between keyframes, and smoothed."""
    known = np.array(sorted(tracklet))  # the keyframes with a detection
    values = np.array([tracklet[frame] for frame in known.tolist()])  # (N, 5)
    frames = np.arange(frame_count)
    corners = np.stack([np.interp(frames, known, values[:, i]) for i in range(4)], axis=1)  # (T, 4)
    centers, sizes = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    centers = gaussian_filter1d(centers, stride, axis=0, mode="nearest")
    # The box grows with the opening mouth; a crop that grew with it would hide that motion.
    sizes = gaussian_filter1d(sizes, 4 * stride, axis=0, mode="nearest")
    boxes = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1).astype(np.float32)
    detected = np.interp(frames, keyframes, np.isin(keyframes, known)) == 1  # in both neighbouring keyframes
    return FaceTrack(boxes, detected, float(values[:, 4].mean()))
