"""Shot boundaries: where a video cuts from one shot to the next."""

from __future__ import annotations

import numpy as np

from avff_lib.media.clip import Clip
from avff_lib.media.picture import ArrayPicture

STATIC_TOLERANCE = (
    10.0  # grey levels within which a thumbnail's pixel is static; compression moves it by less
)
MIN_ACTIVE_AREA = 0.1  # of the frame; if less than this changes, the rest is not bars
CUT_THRESHOLD = 20.0  # mean absolute difference of thumbnails at a cut, in grey levels; speaking gives 1 to 2


def detect_cuts(clip: Clip) -> list[int]:
    """Indices of the frames that begin a new shot, without the first frame (see `ShotDetector`)."""
    detector = ShotDetector()
    return [i for i, frame in enumerate(clip.frames) if detector.update(ArrayPicture(frame).thumbnail)]


class ShotDetector:
    """Decides, frame by frame, whether a new shot begins.

    The measure is that of PySceneDetect's content detector (https://www.scenedetect.com), on RGB thumbnails
    and without the bars around the active picture. Cuts to nearly the same picture, and slow fades, are not
    detected.
    """

    # PySceneDetect itself opens files, but here the frames are already decoded, piece by piece. It does not
    # remove bars, and its dependencies would replace only the few lines below.
    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._lowest = self._highest = np.zeros(0)  # of each thumbnail pixel since the first frame

    def update(self, thumbnail: np.ndarray) -> bool:
        """Whether this frame, which follows the last one, begins a new shot; the first frame does not.

        Args:
            thumbnail: the whole frame, as `avff_lib.media.picture.Picture.thumbnail` returns it.
        """
        thumbnail = thumbnail.astype(np.float32)
        if self._last is None:
            self._last = self._lowest = self._highest = thumbnail
            return False
        self._lowest = np.minimum(self._lowest, thumbnail)
        self._highest = np.maximum(self._highest, thumbnail)
        change = np.abs(thumbnail - self._last)[self._active()].mean()
        self._last = thumbnail
        return bool(change > CUT_THRESHOLD)

    def _active(self) -> tuple[slice, slice]:
        """Rows and columns of the rectangle in which anything has changed, that is, without bars.

        The whole frame if that rectangle is smaller than `MIN_ACTIVE_AREA`: the static part is then not bars,
        but everything except a mouth.
        """
        changing = (self._highest - self._lowest).max(axis=-1) > STATIC_TOLERANCE  # (H, W)
        rows, columns = (np.flatnonzero(changing.any(axis=axis)) for axis in (1, 0))
        if len(rows):
            active = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            if changing[active].size >= MIN_ACTIVE_AREA * changing.size:
                return active
        return slice(None), slice(None)
