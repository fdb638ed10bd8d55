"""Small operations on sequences of features ``(B, N, D)``."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def to_steps(sequence: Tensor, steps: int) -> Tensor:
    """Mean over equal parts of time: ``(B, N, D)`` -> ``(B, steps, D)``."""
    return F.adaptive_avg_pool1d(sequence.transpose(1, 2), steps).transpose(1, 2)


def changes(sequence: Tensor) -> Tensor:
    """A sequence ``(B, N, D)`` less its own mean over time.

    What stays the same through a window (who it is, the light, the room) cannot tell its moments apart.
    """
    return sequence - sequence.mean(dim=1, keepdim=True)
