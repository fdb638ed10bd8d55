"""Datasets -> batches: the DataLoader of training, and an account of the clips that it could not read."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from avff_lib.data.dataset import AVDataset, WindowSample
from avff_lib.data.examples import Skipped
from avff_lib.data.sampler import StepSampler, WindowSampler
from avff_lib.errors import AVFFError
from avff_lib.preprocess.prepare import collate
from avff_lib.preprocess.spec import ModelInputs

MAX_UNREADABLE_SHARE = 0.1  # share of the clips of a class that may be unreadable before a run stops

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class WindowBatch:
    """A batch of windows.

    Attributes:
        inputs: frames ``(B, T, 3, H, W)`` and audio ``(B, S)`` or ``(B, n_mels, N)``.
        labels: ``(B,)`` int64, 1 for fake.
        skipped: clips that could not be read for this batch, by their index in the dataset.
    """

    inputs: ModelInputs
    labels: Tensor
    skipped: dict[int, Skipped] = field(default_factory=dict)

    def pin_memory(self) -> WindowBatch:
        """The same batch in page-locked memory, for faster copies to a GPU."""
        inputs = ModelInputs(self.inputs.frames.pin_memory(), self.inputs.audio.pin_memory())
        return WindowBatch(inputs, self.labels.pin_memory(), self.skipped)


def collate_windows(samples: Sequence[WindowSample]) -> WindowBatch:
    """Stack samples of the same `InputSpec` into a batch."""
    # torch.stack would keep the channels-last order that resizing leaves.
    inputs = collate([ModelInputs(sample.frames[None], sample.audio[None]) for sample in samples])
    skipped = {index: entry for sample in samples for index, entry in sample.skipped.items()}
    return WindowBatch(inputs, torch.tensor([sample.label for sample in samples]), skipped)


def make_loader(
    dataset: Dataset[WindowSample],
    *,
    batch_size: int,
    steps: int,
    seed: int = 0,
    identity_balanced: bool = False,
    start_step: int = 0,
    shares: Sequence[slice] = (slice(None),),
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[WindowSample]:
    """A `DataLoader` that yields one `WindowBatch` for each step and micro-batch of a training run.

    The batches are the same with any number of workers. A run is one pass over the sampler, so workers need
    not persist between epochs.

    Args:
        dataset: an `AVDataset`, read by a `WindowSampler`; or any map-style dataset that returns a
            `WindowSample` for ``dataset[step, row]``, read by a `StepSampler`.
        batch_size: windows per step, over all micro-batches and processes.
        steps: number of steps of the whole run.
        seed: of the draws from an `AVDataset`.
        identity_balanced: for an `AVDataset`, see `WindowSampler`.
        start_step: step of the first batch.
        shares: rows of the batch that this process takes, one slice for each micro-batch.
        num_workers: processes that read ahead, two batches each; 0 reads in this process.
        pin_memory: copy batches to page-locked memory, for a GPU.

    Raises:
        AVFFError: there is nothing to draw from, see `WindowSampler`.
    """
    if num_workers:  # a forked worker would wait forever for OpenCV's threads, which are not forked
        cv2.setNumThreads(1)
    sampler: StepSampler
    if isinstance(dataset, AVDataset):
        sampler = WindowSampler(
            dataset,
            batch_size=batch_size,
            steps=steps,
            seed=seed,
            identity_balanced=identity_balanced,
            start_step=start_step,
            shares=shares,
        )
    else:
        sampler = StepSampler(batch_size=batch_size, steps=steps, start_step=start_step, shares=shares)
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate_windows,
        pin_memory=pin_memory,
        worker_init_fn=_use_one_thread,
        generator=torch.Generator().manual_seed(seed),  # else it would draw from the global one
    )


class BatchReader(Iterator[WindowBatch]):
    """Reads a loader; reports each unreadable clip once, and stops if there are too many.

    Attributes:
        skipped: clips that could not be read so far, by their index in the dataset.

    Raises:
        AVFFError: on the next batch, if more than `MAX_UNREADABLE_SHARE` of the clips of a class cannot be
            read, if none is left to replace one, or if a worker died.
    """

    def __init__(self, loader: DataLoader[WindowSample]) -> None:
        self.skipped: dict[int, Skipped] = {}
        self._loader = loader
        self._batches: Iterator[WindowBatch] | None = None
        examples = loader.dataset.examples if isinstance(loader.dataset, AVDataset) else ()
        self._clips = Counter(example.row.label for example in examples)

    def __next__(self) -> WindowBatch:
        try:
            if self._batches is None:
                self._batches = iter(self._loader)
            batch = next(self._batches)
        except AVFFError as error:  # a worker's error comes with its traceback, which ends with the sentence
            raise AVFFError(str(error).rpartition("AVFFError: ")[2].strip()) from None
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise AVFFError(
                "a process that reads training data died, often for lack of memory; take fewer num_workers"
            ) from error
        self._count(batch.skipped)
        return batch

    def _count(self, entries: Mapping[int, Skipped]) -> None:
        for index, entry in entries.items():
            if index in self.skipped:
                continue
            self.skipped[index] = entry
            logger.warning("%s is skipped: %s", entry.row.path, entry.reason)
            label = entry.row.label
            count = sum(other.row.label == label for other in self.skipped.values())
            total = self._clips[label]
            if total and count > MAX_UNREADABLE_SHARE * total:  # other datasets do not list their clips
                raise AVFFError(
                    f"{count} of {total} {('real', 'fake')[label]} clips cannot be read, and at most "
                    f"{MAX_UNREADABLE_SHARE:.0%} may be missing; the last one is {entry.row.path}: "
                    f"{entry.reason}"
                )


def _use_one_thread(worker: int) -> None:
    """Limit OpenCV's threads in spawned workers; the DataLoader limits torch's own."""
    cv2.setNumThreads(1)
