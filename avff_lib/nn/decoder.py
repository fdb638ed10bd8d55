"""From features back to the values of patches, and the critic that scores the reconstruction."""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.models.swin_transformer_v2_cr import SwinTransformerV2CrBlock
from torch import Tensor, nn

from avff_lib.nn.blocks import Block
from avff_lib.nn.positions import grid_positions


class WindowBlock(SwinTransformerV2CrBlock):
    """Attention within windows of a spectrogram's patches, as in AudioMAE's decoder.

    timm's block of Swin V2 (norms after attention and MLP, cosine attention, relative positions by a small
    network), here on a flat sequence of tokens, with windows shifted only over time.
    Source: Liu et al. 2022 (Swin Transformer V2), section 3; Huang et al. 2022 (AudioMAE), section 3.3.
    """

    def __init__(self, dim: int, heads: int, grid: tuple[int, int], window: int, *, shifted: bool) -> None:
        """``grid`` of the tokens, time first; number of patches in a ``window`` along each axis."""
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        super().__init__(dim, heads, grid, (window, window), init_values=None, norm_layer=norm)
        if shifted and grid[0] > window:
            # timm shifts both axes, but frequencies do not wrap around.
            self.shift_size = (window // 2, 0)
            self.init_non_persistent_buffers()

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, N, D)`` -> ``(B, N, D)``."""
        rows, columns = self.feat_size
        return super().forward(tokens.unflatten(1, (rows, columns))).flatten(1, 2)


class PatchDecoder(nn.Module):
    """MAE decoder: features of all tokens, visible and predicted -> the values of every patch.

    It is narrower than the encoder and has its own positions.
    Source: He et al. 2022 (MAE), section 3; in AVFF that of MARLIN (Cai et al. 2023) for video and that of
    AudioMAE (Huang et al. 2022) for audio.
    """

    positions: Tensor

    def __init__(
        self,
        grid: tuple[int, ...],
        dim_in: int,
        dim: int,
        depth: int,
        heads: int,
        values: int,
        window: int = 0,
    ) -> None:
        """``grid`` of the tokens, ``values`` in a patch, patches in a ``window`` (0: global attention)."""
        super().__init__()
        self.grid, self.heads = grid, heads
        self.embed = nn.Linear(dim_in, dim)
        self.register_buffer("positions", grid_positions(grid, dim))
        self.blocks = nn.ModuleList(
            WindowBlock(dim, heads, (grid[0], grid[1]), window, shifted=index % 2 == 1)
            if window
            else Block(dim, heads)
            for index in range(depth)
        )
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
        self.mlp = nn.Sequential(nn.Linear(values, hidden), nn.LeakyReLU(), nn.Linear(hidden, 1))

    def forward(self, patches: Tensor) -> Tensor:
        """``(..., values)`` -> ``(...)``, unbounded."""
        return self.mlp(patches).squeeze(-1)
