"""Recipes: named settings as Python functions, for a laptop, for one GPU, and at the paper's scale.

A recipe is a starting point; options given on the command line override it. Imports nothing heavy, since
``avff --help`` names the recipes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_type_hints

from avff_lib.errors import AVFFError
from avff_lib.training.config import TrainConfig

Family = Literal["AVFF", "AVFFMAE"]
Stage = Literal[1, 2]
Name = Literal["laptop", "gpu", "paper"]

# Fields of `TrainConfig`; only those that were given.
if TYPE_CHECKING:
    Overrides = dict[str, Any]  # a type checker cannot read a TypedDict whose fields come from elsewhere
else:
    Overrides = TypedDict("Overrides", get_type_hints(TrainConfig), total=False)
    Overrides.__doc__ = TrainConfig.__doc__  # the command line takes its help from here

LRS3_CLIPS = 118_516  # of its pretraining part, 408 hours
FAKEAVCELEB_CLIPS = 15_081  # 70 % of the 21,544, for training


def laptop(family: Family, stage: Stage) -> TrainConfig:
    """The tiny models, from scratch, on two cores; ``results/train.py`` uses these settings, in bfloat16.

    Stage two is validated only four times, since scoring takes long on two cores.
    """
    if stage == 1:
        lr = 1.5e-3 if family == "AVFF" else 1e-3
        return TrainConfig(steps=500, lr=lr, encoder_lr=lr)
    # At the full rate the encoders would forget what stage one taught them.
    steps = 200 if family == "AVFF" else 900
    return TrainConfig(steps=steps, lr=2e-3, encoder_lr=1e-4, validate_every=steps // 4)


def gpu(family: Family, stage: Stage) -> TrainConfig:
    """The base models with published encoders, meant for one GPU. Untested: do a dry run first.

    Rates are those of `paper`. Memory is saved by computing activations twice, not by accumulation: each
    micro-batch would see fewer negatives. The dry run of the base
    `AVFFMAE` counts 13.8 GB for stage one (9.8 GB of them activations) and 7.4 GB for stage two (3.1 GB).
    """
    steps = 20_000 if stage == 1 else 5_000
    return replace(paper(family, stage), steps=steps, save_every=250, checkpoint_blocks=True)


def paper(family: Family, stage: Stage) -> TrainConfig:
    """The scale of the paper, as its re-implementations give it: LRS3, then FakeAVCeleb. Untested.

    They give for stage one AdamW, a rate of 1.5e-4, batches of 32, a cosine with warm-up and
    hundreds of epochs; AdamW's betas are those of MARLIN's and VideoMAE's recipes. Values that are not
    reported for stage two follow the fine-tuning of masked autoencoders (He et al. 2022, MAE; Tong et al.
    2022, VideoMAE): a lower rate for each earlier layer, and 50 epochs. Nothing is reported for `AVFF`, which
    gets the same settings, but a tenth of the rate for its encoders in stage one, since they were pretrained
    with another loss. The dry run of the base `AVFFMAE` counts 35.9 GB for stage one (32.0 GB of them
    activations) and 27.7 GB for stage two (23.4 GB).
    """
    common = TrainConfig(
        batch_size=32, warmup=0.05, weight_decay=0.05, precision="bf16-mixed", save_every=1000, keep_last=2
    )
    if stage == 1:
        # 200 epochs of one window per clip: 200 x 118,516 / 32 = 740,725 steps.
        lr, steps = 1.5e-4, 200 * LRS3_CLIPS // common.batch_size
        encoder_lr = lr if family == "AVFFMAE" else 1.5e-5
        return replace(common, steps=steps, lr=lr, encoder_lr=encoder_lr, beta2=0.95)
    # 50 x 15,081 / 32 = 23,564 steps. VideoMAE's rate is 1e-3 for 256 windows: 1.25e-4 for 32.
    return replace(
        common,
        steps=50 * FAKEAVCELEB_CLIPS // common.batch_size,
        lr=1.25e-4,
        encoder_lr=1.25e-4,
        layer_decay=0.75,
        ema=0.999,
        validate_every=500,
    )


RECIPES: dict[str, Callable[[Family, Stage], TrainConfig]] = {"laptop": laptop, "gpu": gpu, "paper": paper}


def make_config(recipe: Name, family: Family, stage: Stage, overrides: Overrides) -> TrainConfig:
    """The config of a recipe, with some of its fields replaced.

    Raises:
        AVFFError: a value is not allowed, or has no meaning in this stage.
    """
    config = replace(RECIPES[recipe](family, stage), **overrides)
    if stage == 1 and config.validate_every:
        raise AVFFError(
            f"validate_every is {config.validate_every}, but stage one has no score; leave it out"
        )
    return config
