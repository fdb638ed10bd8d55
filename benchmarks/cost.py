"""How the time of the library's work grows with its size: powers, fitted to measurements.

    python benchmarks/cost.py

For each law the sizes take turns, and every turn gives an exponent k of seconds = c size^k. With k = 1, twice
as much work takes twice as long; below 1, part of the time is spent only once, at any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
import tyro
from films import write_film
from tables import print_tables
from timing import Table, exponent, spread, take_turns
from timm.layers import Attention

from avff_lib import Detector
from avff_lib.data.manifest import read_manifest
from avff_lib.data.shards import SHARD_SIZE, write_shards
from avff_lib.evaluation.evaluate import score_examples
from avff_lib.nn.patches import TokenEncoder, TubeletEmbed
from avff_lib.synth import write_corpus

DIM, DEPTH, HEADS = 768, 2, 12  # ViT-B, with 2 of its 12 blocks, which all take the same time
FRAMES, PATCH = 16, (2, 16, 16)
QUICK = {
    "lengths": (2, 3),
    "faces": (1, 2),
    "clips": (2, 3),
    "sides": (32, 64),
    "workers": (1,),
    "repeats": 1,
}


def measure(
    lengths: tuple[int, ...] = (5, 10, 20, 40, 80),
    faces: tuple[int, ...] = (1, 2, 4),
    clips: tuple[int, ...] = (8, 16, 32, 64),
    sides: tuple[int, ...] = (112, 160, 224, 320),
    workers: tuple[int, ...] = (1, 2),
    repeats: int = 2,
) -> dict[str, Table]:
    """Fit the laws.

    Args:
        lengths: of the scored films, in seconds.
        faces: numbers of faces in view, all of the same size.
        clips: numbers of scored clips of a corpus.
        sides: of the encoded frames, in pixels; 112 give 392 tokens, 320 give 3,200.
        workers: numbers of processes that prepare the largest number of clips.
        repeats: turns of each law.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    model = Detector.from_pretrained("avff-tiny")
    tables: dict[str, Table] = {"exponents": {}}

    def add(law: str, unit: str, works: Mapping[int, Callable[[], object]]) -> None:
        seconds = take_turns({str(size): work for size, work in works.items()}, repeats)
        tables[law] = {f"{size} {unit}": {"seconds": spread(values)} for size, values in seconds.items()}
        if len(works) > 1:
            fitted = exponent(list(works), np.stack(list(seconds.values()), axis=1))
            tables["exponents"][law] = {
                "from": f"{min(works)}",
                "to": f"{max(works)} {unit}",
                "exponent": fitted,
            }

    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        films = {length: write_film(folder / f"{length}s.mp4", length) for length in lengths}
        add("predict, by length", "s", {n: partial(model.predict, film) for n, film in films.items()})
        films = {n: write_film(folder / f"{n}.mp4", lengths[0], 480, 1280, faces=n) for n in faces}
        add(
            "predict, by faces",
            "faces",
            {n: partial(model.predict, film) for n, film in films.items()},
        )
        data = folder / "data"
        rows = read_manifest(write_corpus(data, clips=max(clips), identities=12, seed=0))
        add("evaluate, by clips", "clips", {n: partial(score_examples, model, rows[:n]) for n in clips})
        several = rows * (1 + (max(workers) - 1) * SHARD_SIZE // len(rows))  # a worker takes a whole shard
        number = iter(range(10**6))  # of folders, since existing shards are kept
        add(
            "prepare, by workers",
            "workers",
            {
                n: lambda n=n: write_shards(several, folder / f"shards{next(number)}", root=data, workers=n)
                for n in workers
            },
        )
    with torch.inference_mode():
        for name, fused in {"textbook": False, "fused": True}.items():
            passes = {}
            for side in sides:
                encoder, frames = make_encoder(side, fused)
                passes[len(encoder.positions)] = partial(encoder, frames)
            add(f"tokens, {name} attention", "tokens", passes)
    return tables


def make_encoder(side: int, fused: bool) -> tuple[TokenEncoder, torch.Tensor]:
    """The video encoder of `AVFFMAE`, and noise of the shape of a window."""
    grid = (FRAMES // PATCH[0], side // PATCH[1], side // PATCH[2])
    embed = TubeletEmbed(DIM, PATCH)
    encoder = TokenEncoder(embed, grid, DIM, DEPTH, HEADS, class_token=False).eval()
    for module in encoder.modules():
        if isinstance(module, Attention):
            module.fused_attn = fused
    return encoder, torch.randn(1, FRAMES, 3, side, side)


if __name__ == "__main__":
    print_tables(tyro.cli(measure))
