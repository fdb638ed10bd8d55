"""Complementary masks over slices of time, as indices instead of boolean masks."""

from __future__ import annotations

import torch
from torch import Tensor

from avff_lib.utils import distributed


def complementary_slices(batch: int, slices: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw half of the slices of each sample to be visible in the video, the others in the audio.

    Every slice is thus masked in one stream and visible in the other.

    Args:
        batch: number of samples, each with a draw of its own.
        slices: number of slices of time; even.
        generator: for the draws.

    Returns:
        Visible slices of the video and of the audio, each ``(batch, slices / 2)`` int64 in ascending order.
        The slices visible in one stream are those masked in the other. Source: Oorloff et al. 2024 (AVFF),
        figure 1; slices of time as commonly re-implemented.
    """
    order = distributed.rand((batch, slices), generator).argsort(dim=1)  # (B, K)
    visual, audio = order.chunk(2, dim=1)
    return visual.sort(dim=1).values, audio.sort(dim=1).values


def gather_slices(sequence: Tensor, index: Tensor) -> Tensor:
    """Some slices of each sample: ``(B, K, N, D)`` and ``(B, k)`` -> ``(B, k, N, D)``."""
    return sequence.gather(1, _expand(index, sequence))


def scatter_slices(sequence: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """A copy of ``(B, K, N, D)`` with the slices ``(B, k)`` replaced by ``values`` ``(B, k, N, D)``."""
    return sequence.scatter(1, _expand(index, sequence), values.to(sequence.dtype))


def _expand(index: Tensor, sequence: Tensor) -> Tensor:
    return index.to(sequence.device)[:, :, None, None].expand(-1, -1, *sequence.shape[2:])
