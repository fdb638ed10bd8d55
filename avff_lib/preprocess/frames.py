"""uint8 frames -> the normalised float tensor that an image encoder expects."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def resize_frames(frames: np.ndarray, size: int) -> UInt8[Tensor, "t 3 s s"]:
    """Resize the shorter side to ``size`` pixels and crop the centre square.

    Resizing is bicubic with antialiasing, on bytes, which take a quarter of the memory traffic of floats.

    Args:
        frames: ``(T, H, W, 3)`` uint8, RGB.
        size: height and width of the result, in pixels.

    Returns:
        ``(T, 3, size, size)`` uint8.
    """
    batch = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # (T, 3, H, W)
    if min(batch.shape[-2:]) != size:
        batch = F.resize(batch, [size], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return F.center_crop(batch, [size, size])


def normalize_frames(
    frames: UInt8[Tensor, "*t 3 h w"],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Float[Tensor, "*t 3 h w"]:
    """Scale bytes to [0, 1], then subtract ``mean`` and divide by ``std``, channel by channel.

    Args:
        frames: ``(..., 3, H, W)`` uint8; floats are refused, as they may be scaled already.
        mean, std: per RGB channel, on the scale [0, 1].

    Returns:
        ``(..., 3, H, W)`` float32.

    Raises:
        TypeError: ``frames`` is not uint8.
    """
    if frames.dtype != torch.uint8:
        raise TypeError(f"frames are {frames.dtype}; expected uint8 in 0-255, not scaled yet")
    return F.normalize(F.to_dtype(frames, torch.float32, scale=True), list(mean), list(std), inplace=True)
