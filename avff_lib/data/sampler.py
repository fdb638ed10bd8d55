"""Which windows make up a batch: batch samplers that begin at any step, always with the same batches."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from avff_lib.data.dataset import MIN_PSEUDO_FAKE_SHIFT, AVDataset, WindowDraw
from avff_lib.data.labels import possible_labels
from avff_lib.errors import AVFFError

SPARE_CLIPS = 16  # tried in turn if a clip cannot be read
PSEUDO_FAKE = 2  # beside the labels 0 and 1


class StepSampler(Sampler[list[Any]]):
    """Batch sampler of a training run: one list of keys for each step and micro-batch.

    A key is ``(step, row)``, for datasets that make their own windows from these two numbers.

    Args:
        batch_size: windows per step, over all micro-batches and processes.
        steps: number of steps of the whole run.
        start_step: first step; a resumed run continues with the batch it would have had.
        shares: rows of the batch that this process takes, one slice for each micro-batch.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        steps: int,
        start_step: int = 0,
        shares: Sequence[slice] = (slice(None),),
    ) -> None:
        self.batch_size, self.steps, self.start_step, self.shares = batch_size, steps, start_step, shares

    def __len__(self) -> int:
        """Number of micro-batches from ``start_step`` on."""
        return max(0, self.steps - self.start_step) * len(self.shares)

    def __iter__(self) -> Iterator[list[Any]]:
        for step in range(self.start_step, self.steps):
            for rows in self.shares:
                yield [self.key(step, row) for row in range(self.batch_size)[rows]]

    def key(self, step: int, row: int) -> Any:
        """The key of one window of the dataset."""
        return step, row


class WindowSampler(StepSampler):
    """Draws windows of an `AVDataset`; a draw depends only on (seed, step, row).

    Each class is traversed in a random order, a new one in each epoch: every clip comes once before any comes
    twice. The seed determines the order of an epoch, step and row determine the position in it, and each row
    of a batch has its own generator for the rest. Resumed runs, ranks and micro-batches therefore draw the
    same windows on any number of machines, and no state is saved.

    Real and fake *windows* alternate, whatever their numbers: neighbouring rows hold both. A partly fake clip
    belongs to both classes, so that a model cannot recognise a class by what such clips have in common; its
    windows that are fake by less than a quarter are never drawn. If the dataset's transforms ask for pseudo
    fakes, these replace a share of the fake windows, evenly spaced, or all of them if there are no others.

    Args:
        dataset: to draw from.
        batch_size, steps, start_step, shares: as in `StepSampler`.
        seed: of all draws.
        identity_balanced: within a class, each identity (``row.source``) comes once before any comes twice,
            and likewise each of its clips, so people with many clips do not outweigh the others.

    Raises:
        AVFFError: there are no clips, or none whose windows have a label, or none long enough for the
            requested pseudo fakes.
    """

    def __init__(
        self,
        dataset: AVDataset,
        *,
        batch_size: int,
        steps: int,
        seed: int = 0,
        identity_balanced: bool = False,
        start_step: int = 0,
        shares: Sequence[slice] = (slice(None),),
    ) -> None:
        super().__init__(batch_size=batch_size, steps=steps, start_step=start_step, shares=shares)
        self.seed = seed
        pseudo_fake = dataset.transforms.pseudo_fake if dataset.transforms else 0.0
        examples = dataset.examples
        members: dict[int, list[int]] = {0: [], 1: []}
        for index, example in enumerate(examples):
            for label in possible_labels(example, dataset.spec):
                members[label].append(index)
        longest = dataset.spec.duration + MIN_PSEUDO_FAKE_SHIFT
        long = [
            i for i, example in enumerate(examples) if not example.row.label and example.duration >= longest
        ]
        if not examples:
            raise AVFFError(
                "there are no clips to train on; check the manifest's splits and the skipped files"
            )
        if not any(members.values()):
            raise AVFFError(
                f"the {len(examples)} clips to train on are too short, or hardly any of their windows is "
                "real or fake by a quarter; give longer clips, or clips with longer fake parts"
            )
        if pseudo_fake and not long:
            raise AVFFError(
                f"no real clip lasts {longest:g} s, which a pseudo fake needs; set pseudo_fake to 0"
            )
        identities = [example.row.source if identity_balanced else "" for example in examples]
        self.pools = {
            label: _Pool(indices, identities, (seed, label)) for label, indices in members.items() if indices
        }
        self.long_pool = _Pool(long, identities, (seed, PSEUDO_FAKE))
        self.labels = [0, 1] if pseudo_fake else list(self.pools)
        self.pseudo_fake = pseudo_fake if 1 in self.pools else 1.0  # share of the fake windows

    def key(self, step: int, row: int) -> WindowDraw:
        """One draw, with a generator for the remaining draws."""
        turn, place = divmod(row, len(self.labels))
        label = self.labels[place]
        number = step * len(range(place, self.batch_size, len(self.labels))) + turn  # of draws of this class
        pseudo_fakes = math.floor(number * self.pseudo_fake)  # among these, before this draw
        pseudo_fake = label == 1 and math.floor((number + 1) * self.pseudo_fake) > pseudo_fakes
        if pseudo_fake:
            pool, number = self.long_pool, pseudo_fakes
        elif label == 1:
            pool, number = self.pools[1], number - pseudo_fakes
        else:
            pool = self.pools[0]
        rng = np.random.default_rng([self.seed, step, row])
        return WindowDraw((pool[number], *pool.spares(rng.spawn(1)[0])), label, pseudo_fake, rng)


class _Pool:
    """Clips of one kind, grouped by identity.

    ``pool[n]`` is the n-th draw: of a group, and then of a clip in it.
    """

    def __init__(self, indices: Sequence[int], identities: Sequence[str], seed: tuple[int, int]) -> None:
        groups: dict[str, list[int]] = defaultdict(list)
        for index in indices:
            groups[identities[index]].append(index)
        self.groups, self.indices = list(groups.values()), np.array(indices, dtype=int)
        self._seed = seed

    def __getitem__(self, number: int) -> int:
        group, epoch = _walk(len(self.groups), number, self._seed)
        clips = self.groups[group]
        clip, _ = _walk(len(clips), epoch, (*self._seed, group))
        return clips[clip]

    def spares(self, rng: np.random.Generator) -> list[int]:
        """Different clips, all of them if there are few; each equally likely, regardless of identity."""
        return rng.choice(self.indices, min(SPARE_CLIPS, len(self.indices)), replace=False).tolist()


def _walk(count: int, number: int, seed: tuple[int, ...]) -> tuple[int, int]:
    """Position after ``number`` steps of a walk through ``range(count)``, in a new random order each time.

    Returns:
        The position, and the number of complete passes before.
    """
    epoch, place = divmod(number, count)
    return int(_order(count, epoch, seed)[place]), epoch


@functools.lru_cache(maxsize=64)  # an order is needed repeatedly until its epoch is over
def _order(count: int, epoch: int, seed: tuple[int, ...]) -> np.ndarray:
    first, *more = seed
    # Its own key, so that no order shares random numbers with the windows' generators.
    sequence = np.random.SeedSequence(first, spawn_key=(*more, epoch))
    return np.random.default_rng(sequence).permutation(count)
