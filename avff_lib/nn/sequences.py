"""Small operations on sequences of features ``(B, N, D)``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avff_lib import ranks


def to_steps(sequence: Tensor, steps: int) -> Tensor:
    """Mean over equal parts of time: ``(B, N, D)`` -> ``(B, steps, D)``."""
    return F.adaptive_avg_pool1d(sequence.transpose(1, 2), steps).transpose(1, 2)


def changes(sequence: Tensor) -> Tensor:
    """A sequence ``(B, N, D)`` less its own mean over time.

    What stays the same through a window (who it is, the light, the room) cannot tell its moments apart.
    """
    return sequence - sequence.mean(dim=1, keepdim=True)


class Centre(nn.Module):
    """Takes off what all windows have in common at each place of a sequence: the code of that place.

    In training that is the mean of the batch, afterwards a running mean of it, so that a verdict does not
    depend on what else is in the batch. Source: the first half of batch normalisation (Ioffe and Szegedy
    2015, section 3).
    """

    def __init__(self, places: int, dim: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(places, dim))

    def forward(self, sequence: Tensor) -> Tensor:
        """``(B, places, D)`` -> ``(B, places, D)``."""
        if not self.training:
            return sequence - self.mean
        mean = ranks.mean(sequence.float().mean(dim=0))  # (places, D)
        self.mean.lerp_(mean, self.momentum)
        return sequence - mean.to(sequence)
