"""Square crops of one face from the frames of a clip."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from avff_lib.faces.track import FaceTrack
from avff_lib.media.clip import Clip

CROP_MARGIN = 1.3  # side of the crop / longer side of the box, which ends close to chin and forehead


def crop_face(clip: Clip, track: FaceTrack, size: int) -> Clip:
    """The clip with square crops of a face, ``(T, size, size, 3)``, instead of its whole frames.

    A crop is `CROP_MARGIN` times the box and starts at whole pixels, so that it is resampled at most once.
    Outside the frame its edge pixels are repeated. Where the face was not detected the nearest box is used,
    and `Clip.warnings` reports it.
    """
    crops = np.stack([_crop(frame, box, size) for frame, box in zip(clip.frames, track.boxes, strict=True)])
    lost = clip.times[~track.detected]
    warnings = clip.warnings
    if len(lost):
        warnings += (
            f"the face was lost in {len(lost)} of {len(clip.times)} frames, "
            f"between {lost[0]:.2f} and {lost[-1]:.2f} s; its last place was kept",
        )
    return replace(clip, frames=crops, warnings=warnings)


def _crop(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """A square of ``image`` around ``box``, ``(size, size, 3)``."""
    side = max(1, round(float((box[2:] - box[:2]).max()) * CROP_MARGIN))
    left, top = np.round((box[:2] + box[2:]) / 2 - side / 2).astype(int)
    rows = np.clip(np.arange(top, top + side), 0, image.shape[0] - 1)  # outside, the edge pixel is repeated
    columns = np.clip(np.arange(left, left + side), 0, image.shape[1] - 1)
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(image[rows[:, None], columns], (size, size), interpolation=method)
