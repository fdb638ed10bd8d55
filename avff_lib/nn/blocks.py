"""The transformer of the masked autoencoder: one attention, pre-norm blocks, one place for initial weights.

Modules are named as timm names those of its ViT, so that published weights map by their own names.
"""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Attention(nn.Module):
    """Self-attention over the tokens of one sample: softmax(Q K^T / sqrt(d)) V for each head.

    Source: Vaswani et al. 2017, section 3.2.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, N, D)`` -> queries, keys and values, each ``(B, heads, N, D / heads)``."""
        query, key, value = rearrange(
            self.qkv(tokens), "b n (three h d) -> three b h n d", three=3, h=self.heads
        )
        return query, key, value

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, N, D)`` -> ``(B, N, D)``."""
        found = F.scaled_dot_product_attention(*self.split(tokens))  # (B, heads, N, D / heads)
        return self.proj(rearrange(found, "b h n d -> b n (h d)"))


class Block(nn.Module):
    """Attention, then an MLP on each token; both read a normalised copy and add to the original.

    Source: Dosovitskiy et al. 2021, equations 2 and 3.

    Attributes:
        checkpointing: in training mode, forget what happens inside and compute it again for the gradient.
    """

    checkpointing = False

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(
            OrderedDict(fc1=nn.Linear(dim, 4 * dim), act=nn.GELU(), fc2=nn.Linear(4 * dim, dim))
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, N, D)`` -> ``(B, N, D)``."""
        if self.checkpointing and self.training:
            return checkpoint(self._compute, tokens, use_reentrant=False)
        return self._compute(tokens)

    def _compute(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


def init_weights(module: nn.Module) -> None:
    """Initial weights of everything that is not pretrained: ``model.apply(init_weights)``.

    Xavier uniform for matrices, patch projections seen as matrices too, and zero biases, as masked
    autoencoders are commonly started (He et al. 2022, appendix A.1).
    """
    if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
        nn.init.zeros_(module.bias)
