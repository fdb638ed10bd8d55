"""The transformer block of the masked autoencoder (timm's), and the initial weights.

Published ViT weights map by their own names, as the module names are timm's.
"""

from __future__ import annotations

from einops import rearrange
from timm.layers import Attention
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Block(TimmBlock):
    """timm's pre-norm ViT block, with the settings of ViT and MAE and its own gradient checkpointing.

    timm checkpoints in the loop over the blocks of a `VisionTransformer`; the models here have several such
    loops, so each block does it for itself. Source: Dosovitskiy et al. 2021, equations 2 and 3.

    Attributes:
        grad_checkpointing: in training mode, recompute the block's activations in the backward pass instead
            of storing them.
    """

    grad_checkpointing = False

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads, qkv_bias=True)  # and timm's LayerNorm, whose eps is 1e-6

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switch gradient checkpointing on or off."""
        self.grad_checkpointing = enable

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Tokens ``(B, N, D)`` -> ``(B, N, D)``; the mask options are timm's."""
        if self.grad_checkpointing and self.training:
            return checkpoint(super().forward, x, attn_mask, is_causal, use_reentrant=False)
        return super().forward(x, attn_mask, is_causal)


def attention_weights(attention: Attention, tokens: Tensor) -> Tensor:
    """Attention weights of a block: ``(B, N, D)`` -> ``(B, heads, N, N)``, each row summing to 1.

    timm's `Attention` runs PyTorch's fused kernel, which does not return them.
    """
    query, key, _ = rearrange(
        attention.qkv(tokens), "b n (three h d) -> three b h n d", three=3, h=attention.num_heads
    )
    return (query @ key.mT / key.shape[-1] ** 0.5).softmax(dim=-1)


def init_weights(module: nn.Module) -> None:
    """Initial weights of everything that is not pretrained: ``model.apply(init_weights)``.

    Xavier uniform for weight matrices, with the patch projections flattened to matrices, and zero biases, as
    in MAE (He et al. 2022, appendix A.1).
    """
    if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
