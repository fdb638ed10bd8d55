"""Which slices of time are hidden from which stream; indices instead of boolean masks."""

from __future__ import annotations

import torch
from torch import Tensor

from avff_lib import ranks


def complementary_slices(batch: int, slices: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each sample, half of the slices stay visible in the picture and the other half in the sound.

    What is hidden in one stream can therefore be looked up in the other, at the same moment.

    Args:
        batch: samples; each gets a draw of its own.
        slices: of time; even.
        generator: of the draws.

    Returns:
        Visible slices of the picture and of the sound, each ``(batch, slices / 2)`` int64 in ascending
        order. The slices visible in one are those hidden in the other. Source: Oorloff et al. 2024
        (AVFF), figure 1; slices of time as commonly re-implemented.
    """
    order = ranks.rand((batch, slices), generator).argsort(dim=1)  # (B, K)
    visual, audio = order.chunk(2, dim=1)
    return visual.sort(dim=1).values, audio.sort(dim=1).values


def take_slices(sequence: Tensor, index: Tensor) -> Tensor:
    """Some slices of each sample: ``(B, K, N, D)`` and ``(B, k)`` -> ``(B, k, N, D)``."""
    return sequence.gather(1, _spread(index, sequence))


def put_slices(sequence: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """A copy of ``(B, K, N, D)`` with the slices ``(B, k)`` replaced by ``values`` ``(B, k, N, D)``."""
    return sequence.scatter(1, _spread(index, sequence), values.to(sequence.dtype))


def _spread(index: Tensor, sequence: Tensor) -> Tensor:
    return index.to(sequence.device)[:, :, None, None].expand(-1, -1, *sequence.shape[2:])
