"""Eight perturbations of the video.

Each takes a clip, a value, and a random generator that only some use, and returns a clip with other frames
of the same number, size and times; the audio is unchanged. Seven follow DeeperForensics-1.0 (Jiang et al.
2020, arXiv 2001.03024) and its published code, except that

- values are rounded instead of truncated;
- `block_wise` counts its blocks by the shorter side, where that code counts in whole multiples of 256
  pixels and so leaves smaller frames unchanged;
- `pixelation` is what that code calls JPEG. `jpeg` is real JPEG, at the qualities of ImageNet-C (Hendrycks
  and Dietterich 2019, arXiv 1903.12261).

Blocks, blur and pixelation are measured in pixels of the frame, so the same value covers more of a face
in a smaller frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import torch
from torchvision.transforms.v2 import functional as VF

from avff_lib.data.transforms import LUMA
from avff_lib.media.clip import Clip

BLOCK = 8  # pixels
GREY = 128
# Y, Cb, Cr of video range (16 to 235 and 16 to 240) -> R, G, B of 0 to 255, ITU-R BT.601.
FROM_YCBCR = np.array([[1.164, 0.0, 1.596], [1.164, -0.392, -0.813], [1.164, 2.017, 0.0]], np.float32)


def saturation(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    """Fade colours towards the grey of the same brightness; a ``share`` of 0 leaves only grey."""
    mix = share * np.eye(3) + (1 - share) * np.tile(LUMA, (3, 1))
    return _each_frame(clip, lambda frame: cv2.transform(frame, mix))


def contrast(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    """Multiply all values by ``share``, which also darkens the frames."""
    table = np.rint(np.arange(256) * share).astype(np.uint8)
    return _each_frame(clip, lambda frame: table[frame])


def block_wise(clip: Clip, count: float, rng: np.random.Generator) -> Clip:
    """Grey squares of 8 pixels at random places, ``count`` per 256 pixels of the shorter side of a frame."""
    height, width = clip.frames.shape[1:3]
    side, number = min(BLOCK, height, width), max(1, round(count * min(height, width) / 256))

    def cover(frame: np.ndarray) -> np.ndarray:
        frame = frame.copy()
        tops, lefts = (
            rng.integers(height - side + 1, size=number),
            rng.integers(width - side + 1, size=number),
        )
        for top, left in zip(tops, lefts, strict=True):
            frame[top : top + side, left : left + side] = GREY
        return frame

    return _each_frame(clip, cover)


def gaussian_noise(clip: Clip, variance: float, rng: np.random.Generator) -> Clip:
    """White noise of ``variance``, on a scale of [0, 1], on each of Y, Cb and Cr in video range.

    In red, green and blue the standard deviation is two to two and a half times as large.
    """
    spread = (255 * np.sqrt(variance) * FROM_YCBCR).astype(np.float32)

    def add(frame: np.ndarray) -> np.ndarray:
        noise = cv2.transform(rng.standard_normal(frame.shape, dtype=np.float32), spread)
        return cv2.add(frame, noise, dtype=cv2.CV_8U)

    return _each_frame(clip, add)


def gaussian_blur(clip: Clip, kernel: float, rng: np.random.Generator) -> Clip:
    """Blur by a Gaussian of ``kernel`` pixels, whose standard deviation is a sixth of that."""
    size = (int(kernel), int(kernel))
    return _each_frame(clip, lambda frame: cv2.GaussianBlur(frame, size, kernel / 6))


def pixelation(clip: Clip, factor: float, rng: np.random.Generator) -> Clip:
    """Shrink by ``factor`` and enlarge again, both by bilinear interpolation."""
    height, width = clip.frames.shape[1:3]
    small = (max(1, int(width // factor)), max(1, int(height // factor)))
    return _each_frame(clip, lambda frame: cv2.resize(cv2.resize(frame, small), (width, height)))


def jpeg(clip: Clip, quality: float, rng: np.random.Generator) -> Clip:
    """Compress each frame as JPEG of ``quality`` (1 to 100, higher is better), and decode it."""

    def compress(frame: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)  # (3, H, W)
        return VF.jpeg(image, int(quality)).permute(1, 2, 0).numpy()

    return _each_frame(clip, compress)


def h264(clip: Clip, crf: float, rng: np.random.Generator) -> Clip:
    """Compress the video as H.264 of constant rate factor ``crf`` (0 to 51, higher is worse), and decode it.

    x264's settings are its defaults, as in the field, except where these make results differ between runs.
    """
    count, height, width = clip.frames.shape[:3]
    rate = Fraction(count / clip.duration).limit_denominator(1001)
    encoder, decoder = av.CodecContext.create("libx264", "w"), av.CodecContext.create("h264", "r")
    encoder.width, encoder.height = width + width % 2, height + height % 2  # even, as 4:2:0 needs
    encoder.pix_fmt, encoder.framerate, encoder.time_base = "yuv420p", rate, 1 / rate
    encoder.thread_count = decoder.thread_count = 1
    encoder.options = {
        "crf": str(int(crf)),
        "mbtree": "0",
    }  # x264's macroblock tree is not reproducible at some widths

    def packets() -> Iterator[av.Packet]:
        for index, frame in enumerate(clip.frames):
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            image = av.VideoFrame.from_ndarray(even, format="rgb24")
            image.pts, image.time_base = index, encoder.time_base
            yield from encoder.encode(image)
        yield from encoder.encode(None)

    decoded = [image for packet in packets() for image in decoder.decode(packet)] + decoder.decode(None)
    frames = np.stack([image.to_ndarray(format="rgb24")[:height, :width] for image in decoded])
    return replace(clip, frames=frames)


def _each_frame(clip: Clip, change: Callable[[np.ndarray], np.ndarray]) -> Clip:
    """Change one frame at a time, since a whole video in floats would not fit in memory."""
    frames = np.empty_like(clip.frames)
    for index, frame in enumerate(clip.frames):
        frames[index] = change(frame)
    return replace(clip, frames=frames)
