"""Cross-modal fusion of the documented system: video frames attend to audio steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avff_lib.nn.features import Features
from avff_lib.nn.positions import time_positions
from avff_lib.nn.sequences import pool_to_steps, subtract_temporal_mean


class CrossModalFusion(nn.Module):
    """Cross-attention from video frames to audio steps, and an MLP over each frame and its audio.

    Both streams stay sequences: attention over a pooled vector has a single key, its softmax is 1 for every
    query, and nothing is fused. Codes of the time in seconds are added to queries and keys, so that a frame
    can attend to the audio of its own moment.
    """

    def __init__(self, dim: int, heads: int, duration: float, dropout: float = 0.0) -> None:
        """``dim`` of the features, attention ``heads``, ``duration`` of a window in seconds."""
        super().__init__()
        self.duration = duration
        self.norm_audio = nn.LayerNorm(dim)
        self.norm_visual = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim))
        with torch.no_grad():
            # Query and key projections start as the identity: the product of two time codes is largest at
            # equal times, so attention starts as a look-up by time, not as a uniform average.
            self.attention.in_proj_weight[: 2 * dim] = torch.eye(dim).repeat(2, 1)

    def attend(self, features: Features) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-attention with the frames as queries and the audio steps as keys and values.

        Returns:
            The normalised frames ``(B, T, D)``; the audio attended to by each, ``(B, T, D)``; and the
            attention weights ``(B, heads, T, Na)``, which sum to 1 over the audio steps.
        """
        audio = self.norm_audio(features.audio)  # (B, Na, D)
        visual = self.norm_visual(features.visual)  # (B, T, D)
        dim = visual.shape[-1]
        keys = audio + time_positions(audio.shape[1], dim, self.duration).to(audio)
        queries = visual + time_positions(visual.shape[1], dim, self.duration).to(visual)
        attended, weights = self.attention(queries, keys, audio, average_attn_weights=False)
        return visual, attended, weights

    def forward(self, features: Features) -> Tensor:
        """Features -> fused ``(B, T, D)``, one vector per frame."""
        visual, attended, _ = self.attend(features)
        return self.mlp(torch.cat([visual, attended], dim=-1))


def agreement(features: Features) -> Tensor:
    """Agreement of the two streams' changes over time, channel by channel: ``(B, T, D)``.

    Its mean over the channels is the cosine similarity of the two changes, which the contrastive loss of
    stage one increases for matching streams. An MLP over the concatenated streams would have to relearn this
    product.
    """
    visual = subtract_temporal_mean(features.visual)  # (B, T, D)
    audio = subtract_temporal_mean(pool_to_steps(features.audio, visual.shape[1]))
    return F.normalize(audio, dim=-1) * F.normalize(visual, dim=-1) * visual.shape[-1]
