"""How far a mouth is open, from the optical flow inside a face crop."""

from __future__ import annotations

import cv2
import numpy as np

MOUTH_CROP_SIZE = 128  # pixels, side of the face crop
# Rows and columns of the face crop.
MOUTH_REGION = (slice(77, 116), slice(38, 90))  # from below the nose to the chin
UPPER_FACE_REGION = (slice(20, 64), slice(26, 102))  # from the forehead to the eyes


def mouth_opening_of_crops(crops: np.ndarray) -> np.ndarray:
    """`avff_lib.inference.sync.mouth_opening` of a face that is already cropped.

    Args:
        crops: ``(T, MOUTH_CROP_SIZE, MOUTH_CROP_SIZE, 3)`` uint8, RGB.

    Returns:
        ``(T,)`` float64, 0 in the first frame.
    """
    grey = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    stretches = np.zeros(len(grey))
    for i in range(1, len(grey)):
        motion = flow.calc(grey[i - 1], grey[i], None)  # type: ignore[call-overload]  # None is an array in its stubs
        vertical = motion[..., 1]  # (H, W), pixels downwards
        stretches[i] = _stretch(vertical[MOUTH_REGION]) - _stretch(vertical[UPPER_FACE_REGION])
    return stretches.cumsum()


def _stretch(flow: np.ndarray) -> float:
    """Slope of vertical flow ``(H, W)`` over the rows, by least squares."""
    rows = np.arange(len(flow)) - (len(flow) - 1) / 2
    return float(rows @ flow.mean(axis=1) / (rows @ rows))
