"""`Picture`: one frame of a video; only requested parts are converted to RGB.

A whole 1080p frame is 6 MB of RGB, while a model takes a face of 64 x 64 pixels. So frames stay as the
decoder left them, and face tracking converts only a small copy for detection and the square around each face.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from functools import cached_property

import av
import cv2
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter

# Formats with 8 bits in separate planes, from which a part can be cut.
PLANAR_FORMATS = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"}

THUMBNAIL_SIZE = 32  # pixels; at this size moving lips and heads hardly change a frame


class _Converters(threading.local):
    """swscale's contexts, one for each kind of work: setting one up takes longer than converting a region.

    Each thread has its own: PyAV converts without the interpreter's lock.
    """

    def __init__(self) -> None:
        self.whole, self.shrunk, self.region = VideoReformatter(), VideoReformatter(), VideoReformatter()


_converters = _Converters()


class Picture(ABC):
    """One frame of a video, upright."""

    @cached_property
    def thumbnail(self) -> np.ndarray:
        """``(THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3)`` uint8."""
        return self.shrunk(THUMBNAIL_SIZE, THUMBNAIL_SIZE)

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""

    @abstractmethod
    def rgb(self) -> np.ndarray:
        """The whole picture, ``(H, W, 3)`` uint8."""

    @abstractmethod
    def shrunk(self, height: int, width: int) -> np.ndarray:
        """The whole picture in another size, ``(height, width, 3)`` uint8, by averaging areas."""

    @abstractmethod
    def region(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """A rectangle inside the picture, ``(bottom - top, right - left, 3)`` uint8."""

    @abstractmethod
    def points(self, count: int) -> np.ndarray:
        """Brightness at single pixels, about ``count`` along the shorter side, ``(h, w)`` uint8.

        Nothing is averaged, so noise stays as it is.
        """

    def square(self, top: int, left: int, side: int, sizes: tuple[int, ...]) -> list[np.ndarray]:
        """A square of ``side`` pixels scaled to each of ``sizes``, ``(size, size, 3)`` uint8.

        Outside the picture, its edge pixels are repeated.
        """
        height, width = self.size
        rows = np.clip(np.arange(top, top + side), 0, height - 1)
        columns = np.clip(np.arange(left, left + side), 0, width - 1)
        region = self.region(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
        if region.shape[:2] != (side, side):
            region = region[(rows - rows[0])[:, None], columns - columns[0]]
        return [_resized(region, size) for size in sizes]


class ArrayPicture(Picture):
    """A picture in memory, ``(H, W, 3)`` uint8."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]

    def rgb(self) -> np.ndarray:
        return self.pixels

    def shrunk(self, height: int, width: int) -> np.ndarray:
        return cv2.resize(self.pixels, (width, height), interpolation=cv2.INTER_AREA)

    def region(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        return self.pixels[top:bottom, left:right]

    def points(self, count: int) -> np.ndarray:
        step = max(1, min(self.size) // count)
        return np.ascontiguousarray(self.pixels[::step, ::step, 1])  # green is nearest to brightness


class PlanarPicture(Picture):
    """A decoded frame in one of `PLANAR_FORMATS`, stored upright, with even height and width."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self.frame = frame

    @property
    def size(self) -> tuple[int, int]:
        return self.frame.height, self.frame.width

    def rgb(self) -> np.ndarray:
        return _to_rgb(_converters.whole, self.frame)

    def shrunk(self, height: int, width: int) -> np.ndarray:
        # One thread: starting swscale's threads takes longer than converting a small picture.
        image = _converters.shrunk.reformat(
            self.frame, width, height, format="rgb24", interpolation="AREA", threads=1
        )
        return image.to_ndarray()

    def region(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        # Chroma has one value for two or four pixels, and swscale treats odd sizes differently: cut out an
        # even rectangle, and trim the result.
        first_row, first_column = top // 2 * 2, left // 2 * 2
        last_row, last_column = min(self.size[0], -(-bottom // 2) * 2), min(self.size[1], -(-right // 2) * 2)
        part = av.VideoFrame(last_column - first_column, last_row - first_row, self.frame.format.name)
        for plane, pixels, target in zip(self.frame.planes, self._planes, part.planes, strict=True):
            down, across = self.frame.height // plane.height, self.frame.width // plane.width
            y, x = first_row // down, first_column // across
            padded = np.zeros((target.height, target.line_size), np.uint8)
            padded[:, : target.width] = pixels[y : y + target.height, x : x + target.width]
            target.update(padded.tobytes())
        part.colorspace, part.color_range = self.frame.colorspace, self.frame.color_range
        rgb = _to_rgb(_converters.region, part)
        return rgb[top - first_row : bottom - first_row, left - first_column : right - first_column]

    def points(self, count: int) -> np.ndarray:
        step = max(1, min(self.size) // count)
        return np.ascontiguousarray(self._planes[0][::step, ::step])

    @cached_property
    def _planes(self) -> list[np.ndarray]:
        """Views of luma and chroma, ``(H, W)`` uint8 each."""
        return [_view(plane) for plane in self.frame.planes]


def _to_rgb(converter: VideoReformatter, frame: av.VideoFrame) -> np.ndarray:
    return converter.reformat(frame, format="rgb24", interpolation="BILINEAR", threads=1).to_ndarray()


def _view(plane: VideoPlane) -> np.ndarray:
    rows = np.frombuffer(memoryview(plane), np.uint8)[: plane.height * plane.line_size]
    return rows.reshape(plane.height, plane.line_size)[:, : plane.width]


def _resized(square: np.ndarray, size: int) -> np.ndarray:
    """A square in another size; halved first while it is far too large, which is ten times as fast."""
    while len(square) >= 4 * size:
        if len(square) % 2:  # whole pairs only; a row and a column of hundreds are lost
            square = square[:-1, :-1]
        half = len(square) // 2
        square = cv2.resize(square, (half, half), interpolation=cv2.INTER_AREA)
    method = cv2.INTER_AREA if len(square) > size else cv2.INTER_LINEAR
    return cv2.resize(square, (size, size), interpolation=method)
