"""Clips of a manifest -> faces and voices in memory -> batches of windows for training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from avff_lib.clip import AVFFError, Clip, InputSpec, ModelInputs
from avff_lib.data.manifest import Row
from avff_lib.media.decode import read_clip
from avff_lib.media.faces import crop_face, speaker_face, track_faces
from avff_lib.preprocess.prepare import collate, prepare
from avff_lib.workers import map_in_processes


@dataclass(frozen=True, eq=False)
class Example:
    """A row of the manifest and its clip, cut down to the speaker's face."""

    row: Row
    clip: Clip


@dataclass(frozen=True)
class Skipped:
    """A row that could not be used, and why, in one sentence."""

    row: Row
    reason: str


def load_examples(
    rows: Sequence[Row], spec: InputSpec, *, workers: int | None = None
) -> tuple[list[Example], list[Skipped]]:
    """Decode every clip once and keep the speaker's face at the size that ``spec`` asks for.

    A second of video takes 25 x 3 x size^2 bytes: 0.3 MB at 64 pixels.

    Args:
        rows: of a manifest.
        spec: of the model to be fed.
        workers: processes; by default one a core.

    Returns:
        The examples in the order of ``rows``, and the rows that could not be used.
    """
    load = partial(load_example, spec=spec)
    workers = min(workers or os.cpu_count() or 1, max(1, len(rows) // 16))
    if workers == 1:
        results = [load(row) for row in tqdm(rows, desc="reading clips")]
    else:
        results = list(map_in_processes(load, rows, workers, description="reading clips"))
    examples = [result for result in results if isinstance(result, Example)]
    skipped = [result for result in results if isinstance(result, Skipped)]
    return examples, skipped


def load_example(row: Row, spec: InputSpec) -> Example | Skipped:
    """Decode one clip and cut it down to the speaker's face, or say why that cannot be done."""
    try:
        clip = read_clip(row.path, sample_rate=spec.sample_rate)
        if clip.duration < spec.duration:
            raise AVFFError(f"it lasts {clip.duration:.2f} s; the model needs {spec.duration:g} s")
        face = speaker_face(track_faces(clip))
        if face is None:
            raise AVFFError("no face was found in it")
    except AVFFError as error:
        return Skipped(row, str(error))
    return Example(row, crop_face(clip, face, spec.image_size))


def window_label(row: Row, start: float, duration: float) -> int:
    """1 if at least a quarter of the window is forged, else 0.

    A forged clip whose segments are not known counts as forged throughout.
    """
    if row.label == 0 or not row.fake_segments:
        return row.label
    forged = sum(max(0.0, min(end, start + duration) - max(begin, start)) for begin, end in row.fake_segments)
    return int(forged >= duration / 4)


def random_window(example: Example, spec: InputSpec, rng: np.random.Generator) -> tuple[ModelInputs, int]:
    """One window from a random place of a clip, mirrored half of the time, and its label.

    Both streams are cut together and nothing is shifted: a shift would make a forgery.
    """
    clip = example.clip
    start = clip.start + rng.uniform(0.0, clip.duration - spec.duration)
    window = clip.window(start, spec.duration)
    if rng.random() < 0.5:
        window = replace(window, frames=window.frames[:, :, ::-1])
    return prepare(window, spec), window_label(example.row, start, spec.duration)


class WindowBatches:
    """Batch number ``step`` of a training run, the same whenever and wherever it is asked for.

    A run that is resumed at step 500 sees what it would have seen: each batch is drawn from a
    generator of its own, seeded by (seed, step). Genuine and forged clips are drawn equally often.
    """

    def __init__(self, examples: Sequence[Example], spec: InputSpec, batch_size: int, seed: int) -> None:
        by_label = [[e for e in examples if e.row.label == label] for label in (0, 1)]
        self.groups = [group for group in by_label if group]
        if not self.groups:
            raise AVFFError(
                "there are no clips to train on; check the manifest's splits and the skipped files"
            )
        self.spec, self.batch_size, self.seed = spec, batch_size, seed

    def __call__(self, step: int) -> tuple[ModelInputs, Tensor]:
        """Inputs and labels ``(B,)``."""
        rng = np.random.default_rng([self.seed, step])
        samples = []
        for position in range(self.batch_size):
            group = self.groups[position % len(self.groups)]
            samples.append(random_window(group[rng.integers(len(group))], self.spec, rng))
        inputs, labels = zip(*samples, strict=True)
        return collate(list(inputs)), torch.tensor(labels)


def windows_over(clip: Clip, duration: float, hop: float) -> list[Clip]:
    """All windows of a clip, ``hop`` seconds apart, the last one ending where the clip ends."""
    starts = window_starts(clip.duration, duration, hop)
    return [clip.window(clip.start + start, duration) for start in starts]


def window_starts(total: float, duration: float, hop: float) -> list[float]:
    """Starts of windows that cover ``total`` seconds: a step of ``hop``, the last one moved back."""
    last = total - duration
    starts = list(np.arange(0.0, last, hop))
    return [*starts, last] if not starts or last - starts[-1] > hop / 100 else starts


def prepared_windows(clips: Iterable[Clip], spec: InputSpec) -> ModelInputs:
    """Windows of the right length -> one batch."""
    return collate([prepare(clip, spec) for clip in clips])
