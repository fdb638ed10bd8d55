"""How much faster the colours and the box of `Augment` are than torchvision's, on the frames of a window.

    python benchmarks/augment.py

Both sides get frames as `avff_lib.media.clip.Clip` holds them, ``(T, H, W, 3)`` uint8, and return the same
form. torchvision takes ``(T, 3, H, W)`` tensors; for colours, these are made contiguous first, which is
faster.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import torch
import tyro
from tables import print_tables
from timing import Table, spread, take_turns
from torchvision.transforms import v2

from avff_lib.data.transforms import Augment
from avff_lib.media.clip import Clip

FRAMES = 16
LIGHT = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2}  # of `avff_lib.data.transforms.LIGHT`
STRONG = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.8, "hue": 0.1}
QUICK = {"repeats": 2, "sizes": (32,)}


def measure(repeats: int = 30, sizes: tuple[int, ...] = (64, 112, 224)) -> dict[str, Table]:
    """Time both sides.

    Args:
        repeats: calls of each side, in turn.
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
    table: Table = {}
    for size in sizes:
        frames = rng.integers(0, 256, (FRAMES, size, size, 3), dtype=np.uint8)
        clip = Clip(frames, np.arange(FRAMES) / 25, np.zeros(0, np.float32), 16_000, 0.0, FRAMES / 25)
        for name, (ours, theirs) in pairs.items():
            works = {"ours": partial(ours, clip, rng), "theirs": partial(through_torchvision, theirs, frames)}
            seconds = take_turns(works, repeats)
            table[f"{name}, {size} px"] = {
                "ms": spread(1000 * seconds["ours"]),
                "ms, torchvision": spread(1000 * seconds["theirs"]),
                "times as fast": spread(seconds["theirs"] / seconds["ours"]),
            }
    return {"augment": table}


def through_torchvision(transform: v2.Transform, frames: np.ndarray) -> np.ndarray:
    batch = torch.from_numpy(frames).permute(0, 3, 1, 2)  # (T, 3, H, W)
    if isinstance(transform, v2.ColorJitter):
        batch = batch.contiguous()
    return np.ascontiguousarray(transform(batch).permute(0, 2, 3, 1).numpy())


if __name__ == "__main__":
    print_tables(tyro.cli(measure))
