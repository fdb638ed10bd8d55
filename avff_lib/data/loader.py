"""Clips of a manifest -> faces and voices in memory -> batches of windows for training."""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from avff_lib.clip import AVFFError, Clip, InputSpec, ModelInputs
from avff_lib.data.augment import Augment, change_speed
from avff_lib.data.manifest import Row
from avff_lib.media.decode import read_clip
from avff_lib.media.faces import FaceTrack, crop_face, speaker_face, track_faces
from avff_lib.preprocess.prepare import collate, prepare
from avff_lib.workers import map_in_processes

SHORTEST_SHIFT = 0.2  # seconds; a pseudo fake that is nearer to the truth would be a matter of opinion
UNREADABLE = 0.1  # share of the clips of a class that may be unreadable before a run stops


@dataclass(frozen=True, eq=False)
class Example:
    """A row of the manifest and its clip, cut down to the speaker's face."""

    row: Row
    clip: Clip

    @property
    def start(self) -> float:
        """Of the clip, in seconds."""
        return self.clip.start

    @property
    def duration(self) -> float:
        """Of the clip, in seconds."""
        return self.clip.duration


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
        clip, face = read_speaker(row, spec)
    except AVFFError as error:
        return Skipped(row, str(error))
    return Example(row, crop_face(clip, face, spec.image_size))


def read_speaker(row: Row, spec: InputSpec) -> tuple[Clip, FaceTrack]:
    """Decode one clip whole, and find the speaker's face in it.

    Raises:
        AVFFError: it cannot be read, is shorter than ``spec.duration``, or shows no face.
    """
    clip = read_clip(row.path, sample_rate=spec.sample_rate)
    if clip.duration < spec.duration:
        raise AVFFError(f"it lasts {clip.duration:.2f} s; the model needs {spec.duration:g} s")
    face = speaker_face(track_faces(clip))
    if face is None:
        raise AVFFError("no face was found in it")
    return clip, face


def window_label(row: Row, start: float, duration: float) -> int:
    """1 if at least a quarter of the window is forged, else 0.

    A forged clip whose segments are not known counts as forged throughout.
    """
    if row.label == 0 or not row.fake_segments:
        return row.label
    forged = sum(max(0.0, min(end, start + duration) - max(begin, start)) for begin, end in row.fake_segments)
    return int(forged >= duration / 4)


def possible_labels(example: Example, spec: InputSpec) -> set[int]:
    """Labels that windows of a clip can have: a clip that is forged in part holds genuine windows too.

    Those that fewer than one place in ten would give are left out, since looking for them is slow.
    """
    places = example.start + (np.arange(20) + 0.5) / 20 * (example.duration - spec.duration)
    found = Counter(window_label(example.row, start, spec.duration) for start in places)
    return {label for label, count in found.items() if count >= 2}


def random_window(
    example: Example,
    spec: InputSpec,
    rng: np.random.Generator,
    *,
    augment: Augment | None = None,
    label: int | None = None,
) -> tuple[ModelInputs, int]:
    """One window from a random place of a clip, augmented, and its label.

    Both streams are cut together and nothing is shifted: a shift would make a forgery.

    Args:
        example: at least ``spec.duration`` long.
        spec: of the model to be fed.
        rng: draws the place and the augmentation.
        augment: by default windows are mirrored half of the time.
        label: that the window shall have, one of `possible_labels`; by default any.

    Returns:
        A batch of one, and 1 if the window is forged, else 0.

    Raises:
        AVFFError: no window with that label was found.
    """
    augment, clip = augment or Augment(), example.clip
    for _ in range(1000):
        percent = _random_speed(augment.speed, clip.duration / spec.duration, rng)
        length = spec.duration * percent / 100
        start = clip.start + rng.uniform(0.0, clip.duration - length)
        found = window_label(example.row, start, length)
        if label is None or found == label:
            return _prepare(clip.window(start, length), percent, spec, augment, rng), found
    raise AVFFError(f"{example.row.path} has no window with the label {label}; ask possible_labels first")


def pseudo_fake(
    example: Example, spec: InputSpec, rng: np.random.Generator, *, augment: Augment | None = None
) -> ModelInputs:
    """A forged window made of a genuine clip: it shows one moment and sounds like another.

    The moments are at least `SHORTEST_SHIFT` apart, so the clip must be longer than the window by that.

    Args:
        example, spec, rng, augment: as in `random_window`.
    """
    augment, clip = augment or Augment(), example.clip
    percent = _random_speed(augment.speed, clip.duration / (spec.duration + SHORTEST_SHIFT), rng)
    length = spec.duration * percent / 100
    shift = rng.uniform(SHORTEST_SHIFT * percent / 100, clip.duration - length)
    early = clip.start + rng.uniform(0.0, clip.duration - length - shift)
    seen, heard = rng.permutation([early, early + shift])
    window = replace(clip.window(seen, length), waveform=clip.window(heard, length).waveform)
    return _prepare(window, percent, spec, augment, rng)


def _random_speed(most: float, room: float, rng: np.random.Generator) -> int:
    """Per cent of the clip's own speed; the clip has ``room`` for so many windows at that speed."""
    if not most:
        return 100
    change = round(100 * most)
    return int(rng.integers(100 - change, max(100, min(100 + change, math.floor(100 * room))) + 1))


def _prepare(
    window: Clip, percent: int, spec: InputSpec, augment: Augment, rng: np.random.Generator
) -> ModelInputs:
    window = change_speed(window, percent)
    chosen = window.nearest_frames(window.start + spec.frame_times)  # only these are worth augmenting
    window = replace(window, frames=window.frames[chosen], times=window.times[chosen])
    return prepare(augment(window, rng), spec)


class WindowBatches:
    """Batch number ``step`` of a training run, the same whenever and wherever it is asked for.

    A run that is resumed at step 500 sees what it would have seen: each row of a batch is drawn from a
    generator of its own, seeded by (seed, step, row), so that a rank or a micro-batch makes its own
    rows only, and they are those of the whole batch.

    Genuine and forged *windows* take turns, however many there are of either: neighbouring rows hold
    both. A clip that is forged in part stands in both classes, so that a model cannot tell them by what
    such clips have in common. A clip that cannot be read is skipped with a warning, and the row's
    generator draws another.

    Args:
        examples: with clips in memory, or in shards.
        spec: of the model to be fed.
        batch_size: windows a step.
        seed: of everything that is drawn.
        identity_balanced: within a class, draw a person (``row.source``) and then a clip, so that people
            with many clips do not outweigh the others; else each clip is drawn equally often.
        augment: by default windows are mirrored half of the time.

    Attributes:
        skipped: the clips that could not be read so far, each once.

    Raises:
        AVFFError: there are no clips, or none that is long enough for the pseudo fakes asked for; later
            on, that more than a tenth of the clips of a class cannot be read.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        spec: InputSpec,
        batch_size: int,
        seed: int,
        *,
        identity_balanced: bool = False,
        augment: Augment | None = None,
    ) -> None:
        self.spec, self.batch_size, self.seed = spec, batch_size, seed
        self.augment = augment or Augment()
        self.pools: dict[int, list[list[Example]]] = {}
        possible = [possible_labels(example, spec) for example in examples]
        for label in (0, 1):
            members = [e for e, labels in zip(examples, possible, strict=True) if label in labels]
            if members:
                self.pools[label] = _pools(members, identity_balanced)
        if not self.pools:
            raise AVFFError(
                "there are no clips to train on; check the manifest's splits and the skipped files"
            )
        longest = spec.duration + SHORTEST_SHIFT
        genuine = [e for e in examples if e.row.label == 0 and e.duration >= longest]
        if self.augment.pseudo_fake and not genuine:
            raise AVFFError(
                f"no genuine clip lasts {longest:g} s, which a pseudo fake needs; set pseudo_fake to 0"
            )
        self.shiftable = _pools(genuine, identity_balanced)
        self.labels = [0, 1] if self.augment.pseudo_fake else list(self.pools)
        self.clips = Counter(example.row.label for example in examples)
        self.skipped: list[Skipped] = []
        self._unreadable: set[int] = set()

    def __call__(self, step: int, rows: slice | None = None) -> tuple[ModelInputs, Tensor]:
        """Inputs and labels ``(B,)`` of the whole batch, or of some of its rows."""
        positions = range(self.batch_size)[rows or slice(None)]
        inputs, labels = zip(*(self._window(step, row) for row in positions), strict=True)
        return collate(list(inputs)), torch.tensor(labels)

    def _window(self, step: int, row: int) -> tuple[ModelInputs, int]:
        rng = np.random.default_rng([self.seed, step, row])
        label = self.labels[row % len(self.labels)]
        if label == 1 and (1 not in self.pools or rng.random() < self.augment.pseudo_fake):
            example = self._draw(self.shiftable, rng)
            return pseudo_fake(example, self.spec, rng, augment=self.augment), 1
        example = self._draw(self.pools[label], rng)
        return random_window(example, self.spec, rng, augment=self.augment, label=label)

    def _draw(self, pools: list[list[Example]], rng: np.random.Generator) -> Example:
        """A clip of a random pool, read; what was drawn before it does not depend on earlier batches."""
        while True:
            pool = pools[rng.integers(len(pools))]
            example = pool[rng.integers(len(pool))]
            if id(example) in self._unreadable:
                continue
            try:
                return Example(example.row, _whole(example.clip))
            except AVFFError as error:
                self._unreadable.add(id(example))
                self._skip(Skipped(example.row, str(error)))
                if all(id(other) in self._unreadable for pool in pools for other in pool):
                    raise AVFFError(
                        f"no clip is left for windows like this one; the last was {example.row.path}: {error}"
                    ) from None

    def _skip(self, entry: Skipped) -> None:
        self.skipped.append(entry)
        label = entry.row.label
        count, total = sum(other.row.label == label for other in self.skipped), self.clips[label]
        if count > UNREADABLE * total:
            raise AVFFError(
                f"{count} of {total} {('genuine', 'forged')[label]} clips cannot be read, and at most "
                f"{UNREADABLE:.0%} may be missing; the last one is {entry.row.path}: {entry.reason}"
            )
        warnings.warn(f"{entry.row.path} is skipped: {entry.reason}", stacklevel=4)


def _pools(examples: Sequence[Example], identity_balanced: bool) -> list[list[Example]]:
    """One pool of all clips, or one for each person."""
    pools = defaultdict(list)
    for example in examples:
        pools[example.row.source if identity_balanced else None].append(example)
    return list(pools.values())


def _whole(clip: Clip) -> Clip:
    if not np.isfinite(clip.waveform).all():
        raise AVFFError("its sound holds values that are no numbers; prepare it again, or leave it out")
    return clip


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
