"""How fast training reads windows from shards, and how much faster than it consumes them.

    python benchmarks/loader.py

Windows are those of a model at the paper's size: 16 of 80 frames at 224 pixels and 3.2 s of sound, from clips
of twelve seconds with a drawn face. The rival stores raw arrays, uint8 crops and float32 sound, and reads a
whole clip to cut a window from it. All return windows that are ready for the model, without augmentation.
Files are in the system's cache; the bytes per window show the cost for a corpus that does not fit there.

The steps are those of the tiny models: both passes and the update, on one thread. One process reads, strongly
augments and collates their windows.
"""

from __future__ import annotations

import io
import itertools
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
import tyro
from films import write_film
from safetensors.numpy import load, save_file
from tables import print_tables
from timing import Table, spread, take_turns
from torch.utils.data import DataLoader

from avff_lib import AVFF, AVFFMAE
from avff_lib.data.dataset import AVDataset, WindowSample
from avff_lib.data.examples import cut
from avff_lib.data.loader import WindowBatch, make_loader
from avff_lib.data.manifest import Row
from avff_lib.data.sampler import WindowSampler
from avff_lib.data.shards import Codec, StoredExample, read_shards, write_shards
from avff_lib.data.transforms import STRONG
from avff_lib.media.clip import Clip
from avff_lib.models import Detector
from avff_lib.preprocess.spec import InputSpec
from avff_lib.training.config import TrainConfig
from avff_lib.training.objectives import classification_loss, pretraining_loss
from avff_lib.training.optim import make_optimizers

BASE = InputSpec(duration=3.2)
BATCH = 8  # windows
RAW = "raw arrays, all of a clip"
WORKERS = (0, 1, 2)
STAGES = {"stage one": pretraining_loss, "stage two": classification_loss}
QUICK = {"clips": 2, "length": 4.0, "windows": 8, "repeats": 1}


@dataclass(frozen=True)
class WholeClip:
    """A clip that is read completely for each window."""

    row: Row
    start: float
    duration: float
    read: Callable[[], Clip]

    def window(self, start: float, duration: float, frame_times: np.ndarray | None = None) -> Clip:
        return cut(self.read(), start, duration, frame_times)


def measure(clips: int = 8, length: float = 12.0, windows: int = 32, repeats: int = 5) -> dict[str, Table]:
    """Time the ways of reading, and the steps.

    Args:
        clips: number of clips that windows are drawn from.
        length: of each, in seconds.
        windows: number of windows that are read, or consumed, in a turn.
        repeats: timed turns of the rivals.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        rows = write_clips(folder / "data", clips, length)
        stored: dict[Codec, list[StoredExample]] = {
            codec: store(rows, folder / codec, BASE, codec) for codec in ("jpeg", "png")
        }
        tiny = {
            family: store(rows, folder / family.__name__, family.tiny().spec) for family in (AVFF, AVFFMAE)
        }
        return {
            "windows": compare_ways(stored, folder / "raw", windows, repeats),
            "workers": compare_workers(stored["jpeg"], windows, repeats),
            "steps": compare_steps(tiny, windows, repeats),
        }


def write_clips(folder: Path, clips: int, length: float) -> list[Row]:
    """One film, repeated as ``clips`` clips of both classes."""
    folder.mkdir()
    film = write_film(folder / "film.mp4", length)
    paths = [Path(shutil.copy(film, folder / f"{number}.mp4")) for number in range(clips)]
    labels = [number % 2 for number in range(clips)]
    return [
        Row(path, label, ("RVRA", "FVFA")[label], ("real", "x")[label], str(path.stem), split="train")
        for path, label in zip(paths, labels, strict=True)
    ]


def store(rows: Sequence[Row], out: Path, spec: InputSpec, codec: Codec | None = None) -> list[StoredExample]:
    write_shards(rows, out, root=rows[0].path.parent, image_size=spec.image_size, codec=codec)
    return read_shards(out, spec)


def compare_ways(stored: dict[Codec, list[StoredExample]], folder: Path, windows: int, repeats: int) -> Table:
    """Windows per second of one process, and bytes per window."""
    folder.mkdir()
    ways: dict[str, Sequence[Any]] = {
        RAW: [store_raw(example, folder) for example in stored["png"]],
        "JPEG, all of a clip": [whole(example, partial(read_clip, example)) for example in stored["jpeg"]],
        "JPEG": stored["jpeg"],
        "PNG": stored["png"],
    }
    works = {name: partial(read_windows, examples, windows) for name, examples in ways.items()}
    read = {name: count_bytes(work) for name, work in works.items()}
    seconds = take_turns(works, repeats)
    return {
        name: {
            "windows a second": spread(windows / values),
            "times as fast": spread(seconds[RAW] / values),
            "MB a window": read[name] / windows / 1e6,
        }
        for name, values in seconds.items()
    }


def whole(example: StoredExample, read: Callable[[], Clip]) -> WholeClip:
    return WholeClip(example.row, example.start, example.duration, read)


def read_clip(example: StoredExample) -> Clip:
    return example.clip


def store_raw(example: StoredExample, folder: Path) -> WholeClip:
    clip, path = example.clip, folder / f"{example.key}.safetensors"
    save_file({"frames": clip.frames, "times": clip.times, "waveform": clip.waveform}, path)
    return whole(example, partial(read_raw, path, clip.sample_rate, clip.start, clip.duration))


def read_raw(path: Path, sample_rate: int, start: float, duration: float) -> Clip:
    with path.open("rb") as file:
        arrays = load(file.read())
    return Clip(**arrays, sample_rate=sample_rate, start=start, duration=duration)


def read_windows(examples: Sequence[Any], windows: int) -> None:
    dataset = AVDataset(examples, BASE)
    for draw in next(iter(WindowSampler(dataset, batch_size=windows, steps=1))):
        dataset[draw]


def count_bytes(work: Callable[[], object]) -> int:
    """Number of bytes read from files."""
    counts = []

    class Counted(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            counts.append(len(data))
            return data

    with mock.patch.object(Path, "open", lambda path, *_, **__: Counted(path)):
        work()
    return sum(counts)


def compare_workers(examples: Sequence[StoredExample], windows: int, repeats: int) -> Table:
    """Windows per second of a loader, once its workers have started."""
    seconds: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for _, workers in itertools.product(range(repeats), WORKERS):
        batches = iter(load_windows(examples, BASE, 1 + 4 * windows // BATCH, workers))
        next(batches)
        start = time.perf_counter()
        for _ in batches:
            pass
        seconds[workers].append(time.perf_counter() - start)
    return {
        f"{workers} workers": {
            "windows a second": spread(4 * windows / np.array(values)),
            "times as fast": spread(np.array(seconds[0]) / np.array(values)),
        }
        for workers, values in seconds.items()
    }


def load_windows(
    examples: Sequence[StoredExample], spec: InputSpec, steps: int, workers: int = 0
) -> DataLoader[WindowSample]:
    dataset = AVDataset(examples, spec, transforms=STRONG)
    return make_loader(dataset, batch_size=BATCH, steps=steps, num_workers=workers)


def compare_steps(stored: dict[type[Detector], list[StoredExample]], windows: int, repeats: int) -> Table:
    """Windows that one process reads while a step consumes one, and the waiting time of a step."""
    steps = windows // BATCH
    table: Table = {}
    for family, examples in stored.items():
        spec = family.tiny().spec
        batches = list(load_windows(examples, spec, steps))
        works = {"loader": lambda examples=examples, spec=spec: list(load_windows(examples, spec, steps))}
        works |= {stage: partial(train, family.tiny(), stage, batches) for stage in STAGES}
        seconds = take_turns(works, repeats)
        for stage in STAGES:
            row = table[f"{family.__name__}.tiny, {stage}"] = {
                "loader, windows a second": spread(windows / seconds["loader"]),
                "step, windows a second": spread(windows / seconds[stage]),
                "loader / step": spread(seconds[stage] / seconds["loader"]),
            }
            for workers in (0, 1):
                loaders = [load_windows(examples, spec, 1 + steps, workers) for _ in range(repeats)]
                row[f"waiting, {workers} workers"] = spread(
                    [train(family.tiny(), stage, loader) for loader in loaders]
                )
    return table


def train(model: Detector, stage: str, loader: Iterable[WindowBatch]) -> float:
    """Share of the time, after the first batch, that the steps wait for their windows."""
    model.train()
    optimizers = make_optimizers(model, TrainConfig(), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    batches = iter(loader)
    batch = next(batches)
    start, waited = time.perf_counter(), 0.0
    while batch is not None:
        losses = STAGES[stage](model, batch.inputs, batch.labels, generator)
        (losses["loss"] + losses.get("critic_loss", 0.0)).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        asked = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - asked
    return waited / (time.perf_counter() - start)


if __name__ == "__main__":
    print_tables(tyro.cli(measure))
