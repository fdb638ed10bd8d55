"""How long and how fast to learn; imports nothing heavy, since the command line shows it in its help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from avff_lib.clip import AVFFError


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast to learn.

    Attributes:
        steps: optimiser steps.
        batch_size: windows a step.
        lr: highest learning rate, reached after the warm-up, then a cosine down to 0.
        encoder_lr: the same for the two encoders; 0 freezes them.
        warmup: share of the steps spent on warming up.
        weight_decay: of AdamW, on matrices only.
        clip_norm: bound on the gradient's norm.
        save_every: steps between two saved states; a killed run loses at most these.
        seed: of the batches, dropout and masks.
        precision: Fabric's name; ``"bf16-mixed"`` is faster where the processor has it.
    """

    steps: int = 500
    batch_size: int = 32
    lr: float = 1e-3
    encoder_lr: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    save_every: int = 50
    seed: int = 0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "save_every"):
            if getattr(self, name) < 1:
                raise AVFFError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.lr <= 0 or self.encoder_lr < 0:
            raise AVFFError(
                f"lr is {self.lr} and encoder_lr {self.encoder_lr}; expected lr > 0, encoder_lr >= 0"
            )
