"""Clips as a torch dataset of windows, labelled and augmented."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from avff_lib.data.examples import Example, Skipped
from avff_lib.data.labels import middle_window, window_label
from avff_lib.data.shards import StoredExample
from avff_lib.data.transforms import Augment, change_speed
from avff_lib.errors import AVFFError
from avff_lib.media.clip import Clip
from avff_lib.preprocess.prepare import prepare
from avff_lib.preprocess.spec import InputSpec, ModelInputs

MIN_PSEUDO_FAKE_SHIFT = 0.2  # seconds; whether a smaller shift makes a fake would be a matter of opinion
MAX_TRIES = 1000  # places tried for a window with a given label


@dataclass(frozen=True, eq=False)
class WindowDraw:
    """Which window of which clip: the key by which `AVDataset` is read in training.

    Attributes:
        clips: index of the clip, then of clips that may stand in for it if it cannot be read.
        label: of the window.
        pseudo_fake: make the window from a real clip, see `pseudo_fake`.
        rng: draws the place in the clip and the augmentation. A dataset works on a copy, so that the same
            draw gives the same window every time.
    """

    clips: tuple[int, ...]
    label: int
    pseudo_fake: bool
    rng: np.random.Generator


@dataclass(frozen=True, eq=False)
class WindowSample:
    """One window, ready for a batch.

    Attributes:
        frames: ``(T, 3, H, W)`` float32, normalised.
        audio: waveform ``(S,)`` or spectrogram ``(n_mels, N)``, float32.
        label: 1 if the window is fake, else 0.
        skipped: clips that were tried first and could not be read, by their index in the dataset.
    """

    frames: Tensor
    audio: Tensor
    label: int
    skipped: dict[int, Skipped] = field(default_factory=dict)


class AVDataset(Dataset[WindowSample]):
    """Clips of a manifest or of shards, read window by window.

    ``dataset[3]`` is the middle window of clip 3 as it is, so that the dataset serves any sampler; where that
    is neither real nor fake (see `avff_lib.data.labels.window_label`), it is the nearest that is one of both.
    ``dataset[draw]`` is the window that a `WindowDraw` stands for, augmented; these are made by
    `avff_lib.data.sampler.WindowSampler`, and `avff_lib.fit` does so by itself.

    Args:
        examples: with clips in memory (`avff_lib.data.examples.load_examples`) or in shards
            (`avff_lib.data.shards.read_shards`).
        spec: of the model to be fed.
        transforms: augmentation of drawn windows; by default none.
    """

    def __init__(
        self,
        examples: Sequence[Example | StoredExample],
        spec: InputSpec,
        *,
        transforms: Augment | None = None,
    ) -> None:
        self.examples, self.spec, self.transforms = examples, spec, transforms

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.examples)

    def __getitem__(self, key: int | WindowDraw) -> WindowSample:
        """The window that ``key`` stands for.

        Raises:
            AVFFError: the clip, or every clip of the draw, cannot be read, or no window of it has a label.
        """
        if isinstance(key, WindowDraw):
            return self._drawn(key)
        example = self.examples[key]
        start, label = middle_window(example, self.spec)
        inputs = prepare(_cut(example, start, self.spec.duration, self.spec), self.spec)
        return WindowSample(inputs.frames[0], inputs.audio[0], label)

    def _drawn(self, draw: WindowDraw) -> WindowSample:
        skipped = {}
        for index in draw.clips:
            example, rng = self.examples[index], copy.deepcopy(draw.rng)
            try:
                if draw.pseudo_fake:
                    inputs = pseudo_fake(example, self.spec, rng, transforms=self.transforms)
                else:
                    inputs, _ = random_window(
                        example, self.spec, rng, transforms=self.transforms, label=draw.label
                    )
            except AVFFError as error:
                skipped[index] = Skipped(example.row, str(error))
                continue
            return WindowSample(inputs.frames[0], inputs.audio[0], draw.label, skipped)
        last = skipped[draw.clips[-1]]
        raise AVFFError(
            f"no clip is left for windows like this one; the last was {last.row.path}: {last.reason}"
        )


def random_window(
    example: Example | StoredExample,
    spec: InputSpec,
    rng: np.random.Generator,
    *,
    transforms: Augment | None = None,
    label: int | None = None,
) -> tuple[ModelInputs, int]:
    """One window from a random place of a clip, augmented, and its label.

    Both streams are cut together and nothing is shifted: a shift would make a fake. A window that is neither
    real nor fake (see `avff_lib.data.labels.window_label`) is never drawn.

    Args:
        example: at least ``spec.duration`` long.
        spec: of the model to be fed.
        rng: draws the place and the augmentation.
        transforms: augmentation; by default none.
        label: that the window shall have, one of `avff_lib.data.labels.possible_labels`; by default either.

    Returns:
        A batch of one, and 1 if the window is fake, else 0.

    Raises:
        AVFFError: no such window was found, or it cannot be read.
    """
    for _ in range(MAX_TRIES):
        percent = _random_speed(transforms, example.duration / spec.duration, rng)
        length = spec.duration * percent / 100
        start = example.start + rng.uniform(0.0, example.duration - length)
        actual = window_label(example.row, start, length)
        if actual is not None and label in (None, actual):
            return _prepare(_cut(example, start, length, spec), percent, spec, transforms, rng), actual
    wanted = "a label" if label is None else f"the label {label}"
    raise AVFFError(f"{example.row.path} has no window with {wanted}; ask possible_labels first")


def pseudo_fake(
    example: Example | StoredExample,
    spec: InputSpec,
    rng: np.random.Generator,
    *,
    transforms: Augment | None = None,
) -> ModelInputs:
    """A fake window made of a real clip: video of one moment, audio of another.

    The moments are at least `MIN_PSEUDO_FAKE_SHIFT` apart; the clip must be longer than the window by that.

    Args:
        example: a real clip.
        spec: of the model to be fed.
        rng: draws both places and the augmentation.
        transforms: augmentation; by default none.

    Returns:
        A batch of one.

    Raises:
        AVFFError: the clip cannot be read.
    """
    percent = _random_speed(transforms, example.duration / (spec.duration + MIN_PSEUDO_FAKE_SHIFT), rng)
    length = spec.duration * percent / 100
    shift = rng.uniform(MIN_PSEUDO_FAKE_SHIFT * percent / 100, example.duration - length)
    early = example.start + rng.uniform(0.0, example.duration - length - shift)
    video_start, audio_start = rng.permutation([early, early + shift])
    shown, heard = (_cut(example, start, length, spec) for start in (video_start, audio_start))
    return _prepare(replace(shown, waveform=heard.waveform), percent, spec, transforms, rng)


def _cut(example: Example | StoredExample, start: float, length: float, spec: InputSpec) -> Clip:
    """A window with the frames that a model takes from it, which alone are worth decoding and augmenting."""
    window = example.window(start, length, spec.frame_times * length / spec.duration)
    if not np.isfinite(window.waveform).all():
        raise AVFFError("its audio holds non-finite samples; prepare it again, or leave it out")
    return window


def _random_speed(transforms: Augment | None, room: float, rng: np.random.Generator) -> int:
    """Per cent of the clip's own speed; the clip has ``room`` for so many windows at its own speed."""
    if transforms is None or not transforms.speed:
        return 100
    change = round(100 * transforms.speed)
    return int(rng.integers(100 - change, max(100, min(100 + change, math.floor(100 * room))) + 1))


def _prepare(
    window: Clip, percent: int, spec: InputSpec, transforms: Augment | None, rng: np.random.Generator
) -> ModelInputs:
    window = change_speed(window, percent)
    return prepare(transforms(window, rng) if transforms else window, spec)
