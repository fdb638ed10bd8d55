"""What does each part of the small masked autoencoder contribute? Short runs, the same for all.

    python results/ablations.py

Every variant of `AVFFMAE` is trained from random weights: ``--first-steps`` of stage one, then ``--steps``
of stage two. This takes minutes, where the paper trains for hundreds of epochs: the differences hold for this
budget, and longer training may reveal others.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from unittest import mock

import torch
import tyro
from common import ENCODER_LR, HERE, PRETRAINED_LR, Options, blank, measure, pretrain, train_detector
from torch import Tensor

from avff_lib.models import AVFFMAE, AVFFMAEConfig, avff_mae
from avff_lib.nn.features import Features
from avff_lib.nn.masking import gather_slices, scatter_slices
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.training.objectives import Objective, pretraining_loss
from avff_lib.utils import distributed

OPTIONS = Options(HERE / "ablations.json", steps=150)
CONFIG = AVFFMAEConfig(**AVFFMAE.tiny_config)


class RandomMasks(AVFFMAE):
    """Slices of the two streams are masked independently; one masked in both is predicted from zeros."""

    def fill_masked(
        self, features: Features, masked_audio: Tensor, masked_visual: Tensor
    ) -> tuple[Tensor, Tensor]:
        audio, visual = (
            scatter_slices(slices, masked, torch.zeros_like(gather_slices(slices, masked))).flatten(1, 2)
            for slices, masked in (
                (self.split_slices(features.audio), masked_audio),
                (self.split_slices(features.visual), masked_visual),
            )
        )
        return super().fill_masked(Features(audio, visual), masked_audio, masked_visual)


def independent_slices(batch: int, slices: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Masked slices of audio and video, each ``(batch, slices / 2)``, drawn independently."""
    orders = [distributed.rand((batch, slices), generator).argsort(dim=1) for _ in range(2)]
    audio, visual = (order[:, : slices // 2].sort(dim=1).values for order in orders)
    return audio, visual


def stage_one_random_masks(
    model: RandomMasks, inputs: ModelInputs, labels: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """`pretraining_loss` with `independent_slices`."""
    with mock.patch.object(avff_mae, "complementary_slices", independent_slices):
        return pretraining_loss(model, inputs, labels, generator)


class NoTranslation(AVFFMAE):
    """A2V and V2A get zeros, so their output is a learned token, the same for every clip and moment."""

    def __init__(self, config: AVFFMAEConfig) -> None:
        super().__init__(config)
        for translator in (self.audio_to_visual, self.visual_to_audio):
            translator.register_forward_pre_hook(lambda module, args: (torch.zeros_like(args[0]),))


@dataclass(frozen=True)
class Variant:
    """The differences: class, fields of the config, stage one, the input removed in stage two."""

    family: type[AVFFMAE] = AVFFMAE
    config: dict[str, Any] = field(default_factory=dict)
    first: Objective | None = pretraining_loss
    without: Literal["audio", "video"] | None = None


VARIANTS = {
    "full": Variant(),
    "no stage one": Variant(first=None),
    "no contrast": Variant(config={"contrast_weight": 0.0}),
    "no reconstruction": Variant(config={"reconstruction_weight": 0.0}),
    "no critic": Variant(config={"adversarial_weight": 0.0}),
    "random masks": Variant(RandomMasks, first=stage_one_random_masks),
    "no A2V and V2A": Variant(NoTranslation),
    "audio alone": Variant(without="video"),
    "video alone": Variant(without="audio"),
}


def build(variant: Variant, seed: int) -> AVFFMAE:
    """A variant with random weights, the same for all variants."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return variant.family(replace(CONFIG, **variant.config))


def main(options: Options = OPTIONS, first_steps: int = 200) -> None:
    """Train and test every variant.

    Args:
        options: of every experiment.
        first_steps: of stage one.
    """
    compare(VARIANTS, options, first_steps)


def compare(variants: dict[str, Variant], options: Options, first_steps: int) -> None:
    """Train and test ``variants`` by name, with both stages; see `main`."""
    rates = {"encoder_lr": PRETRAINED_LR, "encoder_lr_without_stage_one": ENCODER_LR}
    table = options.table(family="AVFFMAE", first_steps=first_steps, **rates)
    split = options.read(AVFFMAE(CONFIG).spec)
    real = [example for example in split["train"] if example.row.label == 0]
    for key in table.todo(seed=options.seeds, variant=list(variants)):
        seed, variant, folder = key["seed"], variants[key["variant"]], options.folder(key)
        model, rate, measured = build(variant, seed), ENCODER_LR, {}
        if variant.first:
            # Variants with one stream in stage two share the full model's stage one, stored in its folder.
            shared = {"stage": "one", **key, "variant": "full" if variant.without else key["variant"]}
            config = options.config(seed, ENCODER_LR, lr=ENCODER_LR, steps=first_steps)
            retrieval = pretrain(model, real, config, options.folder(shared), objective=variant.first)
            rate, measured = PRETRAINED_LR, {"retrieval": retrieval}
        if variant.without:
            blank(model, variant.without)
        train_detector(model, split["train"], options, seed, folder, rate)
        table.add(key, {**measured, **measure(model, split["test"])})
        shutil.rmtree(folder)


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
