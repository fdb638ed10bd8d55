"""Hyperparameters of a training run; imports nothing heavy, since the command line shows them in its help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from avff_lib.errors import AVFFError

MINIMUMS = {
    "steps": 1,
    "batch_size": 1,
    "save_every": 1,
    "accumulate": 1,
    "keep_last": 1,
    "num_workers": 0,
    "validate_every": 0,
    "max_skipped": 0,
}


@dataclass(frozen=True)
class TrainConfig:
    """Hyperparameters of a training run.

    Attributes:
        steps: number of optimiser steps; more than before extends a run.
        batch_size: windows per step, over all micro-batches and processes together.
        lr: peak learning rate, reached after the warm-up; a cosine then takes it down to 0.
        encoder_lr: the same for the two encoders; 0 freezes them.
        warmup: share of the steps spent on warming up.
        weight_decay: of AdamW, on matrices only.
        beta2: of AdamW; 0.999 by default, 0.95 in the pre-training of masked autoencoders.
        clip_norm: largest norm of the gradient; larger gradients are scaled down to it.
        save_every: steps between two saved states; a killed run loses at most so many.
        seed: of the batches, dropout and masks.
        identity_balanced: draw an identity first and then one of its clips, instead of any clip.
        num_workers: processes that read training data ahead; the batches do not depend on their number;
            0 reads between the steps.
        precision: Fabric's name; ``"bf16-mixed"`` is faster on processors that support it.
        accumulate: number of micro-batches whose gradients make one step, for batches that need too much
            memory. The contrast and batch normalisation then see only the windows of a micro-batch.
        layer_decay: factor between the learning rates of an encoder's block and the next; 1 for equal rates.
        ema: share of the averaged weights that is kept at each step; 0 for no average.
        checkpoint_blocks: recompute the encoders' blocks in the backward pass instead of storing them.
        keep_last: number of saved states to keep; with 2, a run survives a damaged file.
        validate_every: steps between two validations; the last step is always validated; 0 for none.
        max_skipped: steps in a row that may be skipped because their loss or gradient is not finite.
    """

    steps: int = 500
    batch_size: int = 32
    lr: float = 1e-3
    encoder_lr: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.05
    beta2: float = 0.999
    clip_norm: float = 1.0
    save_every: int = 50
    seed: int = 0
    identity_balanced: bool = False
    num_workers: int = 0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accumulate: int = 1
    layer_decay: float = 1.0
    ema: float = 0.0
    checkpoint_blocks: bool = False
    keep_last: int = 1
    validate_every: int = 0
    max_skipped: int = 0

    def __post_init__(self) -> None:
        for name, minimum in MINIMUMS.items():
            if getattr(self, name) < minimum:
                raise AVFFError(f"{name} is {getattr(self, name)}; expected at least {minimum}")
        if self.lr <= 0 or self.encoder_lr < 0:
            raise AVFFError(
                f"lr is {self.lr} and encoder_lr {self.encoder_lr}; expected lr > 0, encoder_lr >= 0"
            )
        if not 0 < self.layer_decay <= 1:
            raise AVFFError(f"layer_decay is {self.layer_decay}; expected above 0 and at most 1")
        if not 0 < self.beta2 < 1:
            raise AVFFError(f"beta2 is {self.beta2}; expected a number between 0 and 1")
        if not 0 <= self.ema < 1:
            raise AVFFError(f"ema is {self.ema}; expected from 0 (no average) to below 1")
        if self.batch_size % self.accumulate:
            raise AVFFError(
                f"batch_size is {self.batch_size}, which {self.accumulate} micro-batches cannot share; "
                "choose a multiple of accumulate"
            )
