"""How much faster the colours and the box of `Augment` are than torchvision's, on the frames of a window.

    python benchmarks/augment.py

Both sides get frames as `avff_lib.media.clip.Clip` holds them, ``(T, H, W, 3)`` uint8, and give the same
back. torchvision's take ``(T, 3, H, W)`` tensors; for colours, which are faster then, these are made
contiguous first.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
import tyro
from torchvision.transforms import v2

from avff_lib.data.transforms import Augment
from avff_lib.media.clip import Clip

FRAMES = 16
LIGHT = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2}  # of `avff_lib.data.transforms.LIGHT`
STRONG = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.8, "hue": 0.1}


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def through_torchvision(transform: v2.Transform, frames: np.ndarray) -> np.ndarray:
    batch = torch.from_numpy(frames).permute(0, 3, 1, 2)  # (T, 3, H, W)
    if isinstance(transform, v2.ColorJitter):
        batch = batch.contiguous()
    return np.ascontiguousarray(transform(batch).permute(0, 2, 3, 1).numpy())


def main(repeats: int = 30, sizes: tuple[int, ...] = (64, 112, 224)) -> None:
    """Print milliseconds of both sides and their ratio.

    Args:
        repeats: calls of each.
        sizes: of the frames, in pixels.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    pairs = {
        "colours, light": (Augment(flip=0.0, **LIGHT), v2.ColorJitter(**LIGHT)),
        "colours, strong": (Augment(flip=0.0, **STRONG), v2.ColorJitter(**STRONG)),
        "box": (Augment(flip=0.0, cutout=1.0), v2.RandomErasing(p=1.0, scale=(0.02, 0.12), ratio=(1.0, 1.0))),
    }
    rng = np.random.default_rng(0)
    for size in sizes:
        frames = rng.integers(0, 256, (FRAMES, size, size, 3), dtype=np.uint8)
        clip = Clip(frames, np.arange(FRAMES) / 25, np.zeros(0, np.float32), 16_000, 0.0, FRAMES / 25)
        for name, (ours, theirs) in pairs.items():
            mine = 1000 * seconds(lambda ours=ours, clip=clip: ours(clip, rng), repeats)
            other = 1000 * seconds(
                lambda theirs=theirs, frames=frames: through_torchvision(theirs, frames), repeats
            )
            print(f"{name} at {size} px: {mine:.2f} ms, torchvision {other:.2f} ms, ratio {other / mine:.1f}")


if __name__ == "__main__":
    tyro.cli(main)
