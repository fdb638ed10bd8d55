"""Square crops of one face from the frames of a clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avff_lib.faces.track import FaceTrack
from avff_lib.media.clip import Clip
from avff_lib.media.picture import ArrayPicture, Picture

CROP_MARGIN = 1.3  # side of the crop / longer side of the box, which ends near the chin and forehead


def crop_picture(picture: Picture, box: np.ndarray, sizes: tuple[int, ...]) -> list[np.ndarray]:
    """A face in each of ``sizes``, ``(size, size, 3)`` uint8.

    A crop is `CROP_MARGIN` times the box, given as left, top, right, bottom in pixels, and starts at whole
    pixels. Outside the frame, its edge pixels are repeated.
    """
    return picture.square(*crop_square(box), sizes)


def crop_square(box: np.ndarray) -> tuple[int, int, int]:
    """Top, left and side in pixels of the square that `crop_picture` cuts out."""
    side = max(1, round(float((box[2:] - box[:2]).max()) * CROP_MARGIN))
    left, top = np.round((box[:2] + box[2:]) / 2 - side / 2).astype(int).tolist()
    return top, left, side


def crop_face(clip: Clip, track: FaceTrack, size: int) -> Clip:
    """The clip with square crops of a face, ``(T, size, size, 3)``, instead of its whole frames.

    Where the face was not detected, the nearest box is used, and `Clip.warnings` reports it.
    """
    crops = [
        crop_picture(ArrayPicture(frame), box, (size,))[0]
        for frame, box in zip(clip.frames, track.boxes, strict=True)
    ]
    lost = clip.times[~track.detected]
    warnings = clip.warnings
    if len(lost):
        warnings += (
            f"the face was lost in {len(lost)} of {len(clip.times)} frames, "
            f"between {lost[0]:.2f} and {lost[-1]:.2f} s; its last place was kept",
        )
    return replace(clip, frames=np.stack(crops), warnings=warnings)
