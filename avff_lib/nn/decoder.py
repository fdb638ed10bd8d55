"""From features back to the values of patches, and the critic that scores the reconstruction."""

from __future__ import annotations

from torch import Tensor, nn

from avff_lib.nn.blocks import Block
from avff_lib.nn.positions import grid_positions


class PatchDecoder(nn.Module):
    """MAE decoder: features of all tokens, visible and predicted -> the values of every patch.

    Narrow and shallow beside the encoder, with positions of its own.
    Source: He et al. 2022 (MAE), section 3; sizes in AVFF after MARLIN (Cai et al. 2023).
    """

    positions: Tensor

    def __init__(
        self, grid: tuple[int, ...], dim_in: int, dim: int, depth: int, heads: int, values: int
    ) -> None:
        """``grid`` of the tokens, ``values`` in a patch."""
        super().__init__()
        self.embed = nn.Linear(dim_in, dim)
        self.register_buffer("positions", grid_positions(grid, dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, values)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, N, dim_in)`` -> ``(B, N, values)``."""
        tokens = self.embed(features) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens))


class Critic(nn.Module):
    """Wasserstein critic: one score per patch, high for patches of real recordings.

    Source: Cai et al. 2023 (MARLIN).
    """

    def __init__(self, values: int, hidden: int) -> None:
        """``values`` in a patch, ``hidden`` units of the MLP."""
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(values, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))

    def forward(self, patches: Tensor) -> Tensor:
        """``(..., values)`` -> ``(...)``, unbounded."""
        return self.mlp(patches).squeeze(-1)
