"""Spectrograms and videos as patches, always *time-major*: a slice of tokens is a slice of time.

Tokens of one moment are adjacent, and moments follow each other. In frequency-major order, one eighth of the
tokens would be a frequency band over the whole clip, and masking it would mask no moment at all.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from avff_lib.nn.blocks import Block
from avff_lib.nn.positions import grid_positions


class AudioPatchEmbed(nn.Module):
    """Log-mel spectrogram -> one token per patch of columns x bands."""

    def __init__(self, dim: int, patch: tuple[int, int]) -> None:
        """``patch``: columns and mel bands in a patch."""
        super().__init__()
        self.proj = nn.Conv2d(1, dim, patch, stride=patch)

    def forward(self, log_mel: Tensor) -> Tensor:
        """``(B, n_mels, N)`` -> ``(B, Na, D)``, in the order (time, frequency)."""
        grid = self.proj(log_mel.mT[:, None])  # (B, D, N / columns, n_mels / bands)
        return rearrange(grid, "b d t f -> b (t f) d")


class TubeletEmbed(nn.Module):
    """Frames -> one token per tubelet, a patch that spans several frames.

    Source: Arnab et al. 2021 (ViViT), section 3.2; Tong et al. 2022 (VideoMAE), section 3.
    """

    def __init__(self, dim: int, patch: tuple[int, int, int]) -> None:
        """``patch``: frames, rows and columns in a tubelet."""
        super().__init__()
        self.proj = nn.Conv3d(3, dim, patch, stride=patch)

    def forward(self, frames: Tensor) -> Tensor:
        """``(B, T, 3, H, W)`` -> ``(B, Nv, D)``, in the order (time, row, column)."""
        grid = self.proj(rearrange(frames, "b t c h w -> b c t h w"))
        return rearrange(grid, "b d t h w -> b (t h w) d")


class ConvStemTubeletEmbed(nn.Module):
    """Tubelets of the feature maps of a small convolutional stem, instead of pixels.

    Lips look the same anywhere in a patch. Convolutions have this built in; a transformer has to learn it,
    which a small model cannot do from few clips. Source: Xiao et al. 2021 (Early convolutions help
    transformers see better), section 4.
    """

    STRIDE = 8  # of the stem, in pixels

    def __init__(self, dim: int, patch: tuple[int, int, int]) -> None:
        """``patch``: frames, rows and columns in a tubelet; rows and columns multiples of `STRIDE`."""
        super().__init__()
        layers: list[nn.Module] = []
        for channels, out in ((3, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.GroupNorm(4, out), nn.GELU()]
        self.stem = nn.Sequential(*layers)
        frames, rows, columns = patch
        kernel = (frames, rows // self.STRIDE, columns // self.STRIDE)
        self.proj = nn.Conv3d(64, dim, kernel, stride=kernel)

    def forward(self, frames: Tensor) -> Tensor:
        """``(B, T, 3, H, W)`` -> ``(B, Nv, D)``, in the order of `TubeletEmbed`."""
        maps = self.stem(frames.flatten(0, 1))  # (B T, 64, H / 8, W / 8)
        grid = self.proj(rearrange(maps, "(b t) c h w -> b c t h w", t=frames.shape[1]))
        return rearrange(grid, "b d t h w -> b (t h w) d")


class TokenEncoder(nn.Module):
    """ViT encoder of one stream: patch embedding, positions, transformer -> features, one per token.

    Attributes:
        positions: buffer ``(N, D)``; sine-cosine codes, or those of a published checkpoint.
        grid: number of tokens along each axis, time first.
        heads: of the attention.
        class_token: ``(D,)`` or None; it takes part in attention and is dropped from the output. AudioMAE has
            one, VideoMAE has none.
    """

    positions: Tensor

    def __init__(
        self,
        patch_embed: nn.Module,
        grid: tuple[int, ...],
        dim: int,
        depth: int,
        heads: int,
        *,
        class_token: bool,
    ) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.grid, self.heads = grid, heads
        self.register_buffer("positions", grid_positions(grid, dim))
        self.class_token = nn.Parameter(0.02 * torch.randn(dim)) if class_token else None
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def embed(self, stream: Tensor) -> Tensor:
        """The stream -> tokens ``(B, N, D)`` with positions added, the class token first if there is one."""
        tokens = self.patch_embed(stream) + self.positions
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(len(tokens), 1, -1), tokens], dim=1)
        return tokens

    def forward(self, stream: Tensor) -> Tensor:
        """Log-mel ``(B, n_mels, N)`` or frames ``(B, T, 3, H, W)`` -> features ``(B, N, D)``."""
        tokens = self.embed(stream)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, -len(self.positions) :]


def patchify_audio(log_mel: Tensor, patch: tuple[int, int]) -> Tensor:
    """Log-mel ``(B, n_mels, N)`` -> the values of each patch ``(B, Na, columns x bands)``."""
    columns, bands = patch
    return rearrange(log_mel, "b (f q) (t p) -> b (t f) (p q)", p=columns, q=bands)


def unpatchify_audio(patches: Tensor, patch: tuple[int, int], n_mels: int) -> Tensor:
    """Inverse of `patchify_audio`: ``(B, Na, columns x bands)`` -> ``(B, n_mels, N)``."""
    columns, bands = patch
    return rearrange(patches, "b (t f) (p q) -> b (f q) (t p)", f=n_mels // bands, p=columns, q=bands)


def patchify_video(frames: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """Frames ``(B, T, 3, H, W)`` -> the values of each tubelet ``(B, Nv, frames x rows x columns x 3)``."""
    depth, rows, columns = patch
    return rearrange(frames, "b (t u) c (h p) (w q) -> b (t h w) (u p q c)", u=depth, p=rows, q=columns)


def unpatchify_video(patches: Tensor, patch: tuple[int, int, int], image_size: int) -> Tensor:
    """Inverse of `patchify_video`: ``(B, Nv, ...)`` -> ``(B, T, 3, H, W)``."""
    depth, rows, columns = patch
    return rearrange(
        patches,
        "b (t h w) (u p q c) -> b (t u) c (h p) (w q)",
        h=image_size // rows,
        w=image_size // columns,
        u=depth,
        p=rows,
        q=columns,
    )
