"""How much faster training reads clips from shards than from videos: both in one run, one process.

    python benchmarks/shards.py

Reading a video means decoding it, finding the face and cropping it; what comes out is the same.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tyro

from avff_lib.data.examples import load_example
from avff_lib.data.manifest import read_manifest
from avff_lib.data.shards import read_shards, write_shards
from avff_lib.preprocess.spec import InputSpec
from avff_lib.synth import write_corpus


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(clips: int = 48, repeats: int = 5) -> None:
    """Print clips a second of both ways, and the median ratio.

    Args:
        clips: of the corpus that is drawn for this.
        repeats: of the measurement; videos and shards take turns.
    """
    spec = InputSpec(image_size=64)
    with tempfile.TemporaryDirectory() as folder:
        data, stored = Path(folder, "data"), Path(folder, "shards")
        rows = read_manifest(write_corpus(data, clips=clips, identities=12, seed=0))
        write_shards(rows, stored, root=data)
        examples = read_shards(stored, spec)
        videos, shards = [], []
        for _ in range(repeats):
            videos.append(seconds(lambda: [load_example(row, spec) for row in rows]))
            shards.append(seconds(lambda: [example.clip for example in examples]))
    ratios = np.array(videos) / np.array(shards)
    print(f"from videos: {clips / np.median(videos):.0f} clips a second")
    print(f"from shards: {clips / np.median(shards):.0f} clips a second")
    print(f"ratio: {np.median(ratios):.0f} (lowest {ratios.min():.0f}, highest {ratios.max():.0f})")


if __name__ == "__main__":
    tyro.cli(main)
