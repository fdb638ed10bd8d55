"""Small operations on sequences of features ``(B, N, D)``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avff_lib.utils import distributed


def pool_to_steps(sequence: Tensor, steps: int) -> Tensor:
    """Mean over equal parts of time: ``(B, N, D)`` -> ``(B, steps, D)``."""
    return F.adaptive_avg_pool1d(sequence.transpose(1, 2), steps).transpose(1, 2)


def subtract_temporal_mean(sequence: Tensor) -> Tensor:
    """A sequence ``(B, N, D)`` minus its own mean over time.

    Whatever is constant in a window (the identity, the light, the room) cannot tell its moments apart.
    """
    return sequence - sequence.mean(dim=1, keepdim=True)


class RunningMeanCentering(nn.Module):
    """Subtracts what all windows share at each position of a sequence: the code of that position.

    In training this is the mean of the batch, in evaluation mode a running mean, so that a score does not
    depend on the rest of the batch. Source: the centring of batch normalisation (Ioffe and Szegedy 2015,
    section 3).
    """

    mean: Tensor

    def __init__(self, positions: int, dim: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(positions, dim))

    def forward(self, sequence: Tensor) -> Tensor:
        """``(B, positions, D)`` -> ``(B, positions, D)``."""
        if not self.training:
            return sequence - self.mean
        mean = distributed.mean(sequence.float().mean(dim=0))  # (positions, D)
        self.mean.lerp_(mean, self.momentum)
        return sequence - mean.to(sequence)


def standardize(sequence: Tensor) -> Tensor:
    """``(B, N, D)`` with mean 0 and variance 1 over batch and time, detached."""
    values = sequence.detach().float()
    std, mean = distributed.std_mean(values.flatten(0, 1))
    return (values - mean) / (std + 1e-6)
