"""A2V and V2A: one stream's tokens predicted from the other's, slice of time by slice of time."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from avff_lib.nn.blocks import Block


class SliceTranslator(nn.Module):
    """Tokens of one stream -> predicted tokens of the other stream at the same moment.

    A linear layer over the token axis changes the number of tokens; a block mixes them. Slices do not attend
    to each other: each moment is predicted only from itself.
    Source: Oorloff et al. 2024 (AVFF), figure 1; one layer and one block as commonly re-implemented.
    """

    def __init__(self, tokens_in: int, tokens_out: int, dim: int, heads: int) -> None:
        """Tokens in a slice of each stream; ``dim`` of a token and attention ``heads``."""
        super().__init__()
        self.tokens = nn.Linear(tokens_in, tokens_out)
        self.block = Block(dim, heads)

    def forward(self, slices: Tensor) -> Tensor:
        """``(B, k, tokens_in, D)`` -> ``(B, k, tokens_out, D)``."""
        flat = rearrange(slices, "b k n d -> (b k) d n")
        translated = self.block(self.tokens(flat).mT)  # (B k, tokens_out, D)
        return rearrange(translated, "(b k) n d -> b k n d", k=slices.shape[1])
