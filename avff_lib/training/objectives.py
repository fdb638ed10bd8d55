"""The losses of both stages, with one signature for the training loop: model and batch -> loss and logs."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from avff_lib.models.base import Detector
from avff_lib.preprocess.spec import ModelInputs

Objective = Callable[[Detector, ModelInputs, Tensor, torch.Generator], dict[str, Tensor]]


def pretraining_loss(
    model: Detector, inputs: ModelInputs, labels: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Stage one, self-supervised: the family's own `Detector.pretraining_loss`; labels are ignored."""
    return model.pretraining_loss(inputs, generator)


def classification_loss(
    model: Detector, inputs: ModelInputs, labels: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Stage two, supervised: cross-entropy of the logit against the window's label, ``(B,)``, fake = 1."""
    logits = model(inputs)
    loss = F.binary_cross_entropy_with_logits(logits, labels.float())
    accuracy = ((logits > 0) == labels.bool()).float().mean()
    return {"loss": loss, "accuracy": accuracy.detach()}
