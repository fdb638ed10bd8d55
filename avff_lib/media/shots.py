"""Shot boundaries: where a clip cuts from one shot to the next."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from avff_lib.media.clip import Clip

THUMBNAIL_SIZE = 32  # pixels; at this size moving lips and heads hardly change a frame
STATIC_TOLERANCE = (
    10.0  # grey levels within which a thumbnail's pixel is static; compression moves it by less
)
MIN_ACTIVE_AREA = 0.1  # of the frame; if less than this changes, the rest is no bars
CUT_THRESHOLD = 20.0  # mean absolute difference of thumbnails at a cut, in grey levels; speaking gives 1 to 2


def detect_cuts(clip: Clip) -> list[int]:
    """Indices of the frames that begin a new shot, the first frame not among them.

    The measure is that of PySceneDetect's content detector (https://www.scenedetect.com), on RGB thumbnails
    and without the bars around the active picture. A cut to nearly the same picture, and a slow fade, are not
    detected.
    """
    # PySceneDetect itself opens files, and here the frames are already decoded, chunk by chunk; it neither
    # removes bars nor would its dependencies replace more than the two lines below.
    size = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    thumbnails = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in clip.frames]
    active = _crop_bars(np.stack(thumbnails).astype(np.float32))
    return [i for i, (a, b) in enumerate(pairwise(active), start=1) if np.abs(b - a).mean() > CUT_THRESHOLD]


def _crop_bars(frames: np.ndarray) -> np.ndarray:
    """Thumbnails ``(T, H, W, 3)`` cropped to the rectangle in which anything changes.

    They stay whole if that is smaller than `MIN_ACTIVE_AREA`: then it is not bars that are static, but all
    except a mouth.
    """
    changing = np.ptp(frames, axis=0).max(axis=-1) > STATIC_TOLERANCE  # (H, W)
    rows, columns = (np.flatnonzero(changing.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return frames
    part = frames[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return part if part[0].size >= MIN_ACTIVE_AREA * frames[0].size else frames
