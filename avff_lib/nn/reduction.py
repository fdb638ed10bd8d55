"""From the features of all patches of a stream, each beside its prediction, to one vector."""

from __future__ import annotations

from torch import Tensor, nn


class PatchReduction(nn.Module):
    """Learned weights over the patches of a window: one vector for all of them.

    A patch's weight depends on its position, so the number of patches in a window is fixed.
    Source: Oorloff et al. 2024 (AVFF), where a network for each stream reduces its patches to one vector; its
    layers are not known; these two are ours.
    """

    def __init__(self, patches: int, hidden: int) -> None:
        """Number of ``patches`` in a window; ``hidden`` units between the two layers."""
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(patches, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, slices: Tensor) -> Tensor:
        """``(B, K, N, D)`` with K x N patches -> ``(B, 1, D)``."""
        return self.mlp(slices.flatten(1, 2).mT).mT  # (B, D, K N) -> (B, D, 1) -> (B, 1, D)


class SliceReduction(nn.Module):
    """A layer applied to each patch, and the mean over the patches of a slice: one vector per moment."""

    def __init__(self, dim: int, reduced: int) -> None:
        """``dim`` of a patch's features; ``reduced``, the length of the resulting vector."""
        super().__init__()
        # No norm at the end: normalised channels have mean 0 for every clip.
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, reduced), nn.GELU())

    def forward(self, slices: Tensor) -> Tensor:
        """``(B, K, N, D)`` -> ``(B, K, reduced)``."""
        return self.mlp(slices).mean(dim=2)
