"""Where a face is, in coordinates of its own, and a patch that is blended into it.

Face coordinates u + vi have their origin between the corners of the mouth, and the distance from there to
the point between the eyes as unit; v runs down from the eyes to the mouth, u to the right. Since they are
complex numbers, one multiplication scales and rotates them into the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from avff_lib.faces.crop import crop_square
from avff_lib.faces.detect import find_landmarks
from avff_lib.faces.mouth import speaker_face
from avff_lib.media.clip import Clip
from avff_lib.media.picture import ArrayPicture
from avff_lib.synth.retouch import mix

CROP_SIZE = 160  # pixels, of a face crop in which landmarks are searched
INTERVAL = 0.08  # seconds between two frames in which landmarks are searched
SMOOTHING = 0.08  # seconds, sigma; landmarks jitter by a pixel from frame to frame
MIN_SEEN = 0.9  # of the frames that must show the face

Patch = Callable[[int, np.ndarray, "Square"], np.ndarray]  # frame, the square's own pixels, square -> pixels


@dataclass(frozen=True, eq=False)
class Face:
    """Position of a face in each of T frames.

    Attributes:
        mouth: ``(T,)`` complex, middle between the corners of the mouth, x + yi in pixels.
        unit: ``(T,)`` complex; a point w of the face is at ``mouth + w * unit``.
    """

    mouth: np.ndarray
    unit: np.ndarray

    def __getitem__(self, frames: np.ndarray) -> Face:
        """The face in some of the frames."""
        return Face(self.mouth[frames], self.unit[frames])


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a face.

    Attributes:
        mask: ``(S, S)`` float32 in [0, 1], share that is replaced; 0 outside the inscribed circle.
        center: of the mask, in face coordinates.
        radius: of the inscribed circle, in face coordinates.
    """

    mask: np.ndarray
    center: complex
    radius: float


@dataclass(frozen=True)
class Square:
    """A square of whole pixels, which may reach beyond the frame."""

    top: int
    left: int
    side: int

    @property
    def corner(self) -> complex:
        """x + yi of the first pixel."""
        return complex(self.left, self.top)


def find_face(clip: Clip) -> Face | None:
    """The speaker's face, if nearly all frames of the clip show it.

    Args:
        clip: whole frames ``(T, H, W, 3)``.
    """
    track = speaker_face(clip)
    if track is None:
        return None
    looked = np.unique(clip.nearest_frames(np.arange(clip.start, clip.end, INTERVAL)))
    points = np.stack([_landmarks(clip.frames[i], track.boxes[i]) for i in looked])  # (N, 5)
    seen = ~np.isnan(points[:, 0]) & track.detected[looked]
    if seen.mean() < MIN_SEEN:
        return None
    every, sigma = np.arange(len(clip.frames)), SMOOTHING * len(clip.frames) / clip.duration

    def smooth(values: np.ndarray) -> np.ndarray:
        return gaussian_filter1d(np.interp(every, looked[seen], values[seen]), sigma, mode="nearest")

    mouth = smooth(points[:, 3:].mean(axis=1))
    return Face(mouth, (mouth - smooth(points[:, :2].mean(axis=1))) / 1j)


def _landmarks(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """``(5,)`` complex, in the order of `find_landmarks`, in pixels of the frame; NaN without a face."""
    top, left, side = crop_square(box)
    (crop,) = ArrayPicture(frame).square(top, left, side, (CROP_SIZE,))
    faces = find_landmarks(crop, CROP_SIZE)
    if not len(faces):
        return np.full(5, complex(np.nan))
    return complex(left, top) + (faces[0, :, 0] + 1j * faces[0, :, 1]) * side / CROP_SIZE


def blend(frames: np.ndarray, face: Face, region: Region, weight: np.ndarray, patch: Patch) -> None:
    """Replace a part of a face, in place.

    Args:
        frames: ``(T, H, W, 3)`` uint8.
        face: its position in these frames.
        region: the part to replace.
        weight: ``(T,)``, of the patch in each frame.
        patch: returns the new pixels of a square ``(side, side, 3)``.
    """
    for i in np.flatnonzero(weight).tolist():
        square = square_of(face, region, i)
        own = pixels(frames[i], square)
        # From the mask's pixels through the face to those of the square.
        step = 2 * region.radius / len(region.mask)
        first = region.center - (1 + 1j) * step * (len(region.mask) - 1) / 2
        place = face.mouth[i] + first * face.unit[i] - square.corner
        mask = warped(region.mask, step * face.unit[i], place, square.side, outside=cv2.BORDER_CONSTANT)
        _put(frames[i], mix(own, patch(i, own, square), weight[i] * mask[..., None]), square)


def square_of(face: Face, region: Region, i: int) -> Square:
    """The square around a region in frame ``i``; of the same size in all frames."""
    side = int(np.ceil(2 * region.radius * np.abs(face.unit).max())) + 2
    center = face.mouth[i] + region.center * face.unit[i] - (1 + 1j) * side / 2
    return Square(round(center.imag), round(center.real), side)


def pixels(frame: np.ndarray, square: Square) -> np.ndarray:
    """The pixels ``(side, side, 3)`` of a square; the frame's edge is repeated outside."""
    return ArrayPicture(frame).square(square.top, square.left, square.side, (square.side,))[0]


def warped(
    image: np.ndarray, scale: complex, shift: complex, side: int, *, outside: int = cv2.BORDER_REPLICATE
) -> np.ndarray:
    """An image with each pixel z moved to ``scale * z + shift``, in a square of ``side`` pixels."""
    matrix = np.array([[scale.real, -scale.imag, shift.real], [scale.imag, scale.real, shift.imag]])
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=outside)


def _put(frame: np.ndarray, patch: np.ndarray, square: Square) -> None:
    """Write those pixels of a square that are inside the frame."""
    top, left = max(0, square.top), max(0, square.left)
    inside = frame[top : max(0, square.top + square.side), left : max(0, square.left + square.side)]
    rows, columns = inside.shape[:2]
    inside[:] = patch[top - square.top :, left - square.left :][:rows, :columns]
