"""Sine-cosine position codes, of times in seconds and of the positions of a grid."""

from __future__ import annotations

import torch
from torch import Tensor


def time_positions(steps: int, dim: int, duration: float) -> Tensor:
    """Sine-cosine codes of the middle of each of ``steps`` equal parts of a window.

    16 video steps and 49 audio steps over the same window get codes on the same clock: equal times have
    equal codes at any rate.

    Args:
        steps: number of parts of the window.
        dim: length of a code; even.
        duration: length of the window in seconds.

    Returns:
        ``(steps, dim)`` float32 in [-1, 1]; sine and cosine of one frequency in neighbouring channels, with
        periods from 0.1 to 10 s. Source: Vaswani et al. 2017, section 3.5, in seconds.
    """
    times = (torch.arange(steps) + 0.5) * (duration / steps)
    periods = torch.logspace(-1, 1, dim // 2)
    angles = 2 * torch.pi * times[:, None] / periods  # (steps, dim / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def grid_positions(grid: tuple[int, ...], dim: int) -> Tensor:
    """Sine-cosine codes of the positions of a grid, its last axis running fastest.

    Each axis gets an equal share of the channels, which hold sine and cosine of its index at periods from
    2 pi to 20,000 pi.

    Args:
        grid: number of positions along each axis, such as (time, frequency) or (time, row, column).
        dim: length of a code; a multiple of 2 x axes.

    Returns:
        ``(positions, dim)`` float32 in [-1, 1]. Source: Vaswani et al. 2017, section 3.5, for each axis.
    """
    share = dim // len(grid)
    # In double precision: the angles reach thousands, where a float32 sine is off in the fourth digit.
    rates = 10_000 ** -(torch.arange(0, share, 2, dtype=torch.float64) / share)  # (share / 2,)
    index = torch.cartesian_prod(*(torch.arange(length) for length in grid)).reshape(-1, len(grid))
    angles = index[..., None] * rates  # (positions, axes, share / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()
