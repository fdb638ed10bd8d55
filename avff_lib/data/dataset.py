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

MIN_PSEUDO_FAKE_SHIFT = 0.2  # seconds; a smaller shift is not clearly a fake
MAX_TRIES = 1000  # places tried for a window with a given label


@dataclass(frozen=True, eq=False)
class WindowDraw:
    """A window of a clip: the key to `AVDataset` in training.

    Attributes:
        clips: index of the clip, then of clips that replace it if it cannot be read.
        label: of the window.
        pseudo_fake: make the window from a real clip, see `pseudo_fake`.
        rng: draws the position in the clip and the augmentation. The dataset uses a copy, so that a draw
            always gives the same window.
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
        skipped: clips that were tried before and could not be read, by their index in the dataset.
    """

    frames: Tensor
    audio: Tensor
    label: int
    skipped: dict[int, Skipped] = field(default_factory=dict)


class AVDataset(Dataset[WindowSample]):
    """Clips of a manifest or of shards, read window by window.

    ``dataset[3]`` is the middle window of clip 3 without augmentation, so that any sampler can read the
    dataset; if that window is neither real nor fake (see `avff_lib.data.labels.window_label`), the nearest
    one with a label. ``dataset[draw]`` is the augmented window of a `WindowDraw`; `WindowSampler` of
    `avff_lib.data.sampler` draws these, and `avff_lib.fit` uses it.

    Args:
        examples: with clips in memory (`avff_lib.data.examples.load_examples`) or in shards
            (`avff_lib.data.shards.read_shards`).
        spec: input spec of the model.
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
        """The window of ``key``.

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
    """One window from a random position in a clip, augmented, and its label.

    Both streams are cut together and nothing is shifted: a shift would make a fake. A window that is neither
    real nor fake (see `avff_lib.data.labels.window_label`) is never drawn.

    Args:
        example: at least ``spec.duration`` long.
        spec: input spec of the model.
        rng: draws the position and the augmentation.
        transforms: augmentation; by default none.
        label: required label, one of `avff_lib.data.labels.possible_labels`; by default any.

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
    """A fake window from a real clip: video of one moment, audio of another.

    The moments are at least `MIN_PSEUDO_FAKE_SHIFT` apart; the clip must be longer than the window by as
    much.

    Args:
        example: a real clip.
        spec: input spec of the model.
        rng: draws both positions and the augmentation.
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
    """A window with only those frames that the model takes, to save decoding and augmenting the others."""
    window = example.window(start, length, spec.frame_times * length / spec.duration)
    if not np.isfinite(window.waveform).all():
        raise AVFFError("its audio holds non-finite samples; prepare it again, or leave it out")
    return window


def _random_speed(transforms: Augment | None, room: float, rng: np.random.Generator) -> int:
    """Speed in per cent of the clip's own; ``room`` is the clip's length in windows at its own speed."""
    if transforms is None or not transforms.speed:
        return 100
    change = round(100 * transforms.speed)
    return int(rng.integers(100 - change, max(100, min(100 + change, math.floor(100 * room))) + 1))


def _prepare(
    window: Clip, percent: int, spec: InputSpec, transforms: Augment | None, rng: np.random.Generator
) -> ModelInputs:
    window = change_speed(window, percent)
    return prepare(transforms(window, rng) if transforms else window, spec)
