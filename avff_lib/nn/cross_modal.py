"""Cross-modal fusion of the documented system: frames attend to audio steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avff_lib.clip import Features
from avff_lib.nn.positions import time_positions
from avff_lib.nn.sequences import changes, to_steps


class CrossModalFusion(nn.Module):
    """Each video frame looks up what is heard around it; an MLP then compares the two.

    The sequences stay sequences: attention over pooled vectors has a single key, its softmax is 1
    whatever the query, and nothing is fused. Both streams carry their time in seconds, so a frame
    can find *its* moment of the sound.
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
            # Query and key projections start as the identity: the product of two time codes is
            # largest at equal times, so fusion starts as a look-up by time instead of a blur.
            self.attention.in_proj_weight[: 2 * dim] = torch.eye(dim).repeat(2, 1)

    def attend(self, features: Features) -> tuple[Tensor, Tensor, Tensor]:
        """Look the sound up for every frame.

        Returns:
            The normalised frames ``(B, T, D)``, the sound found for each ``(B, T, D)``, and where
            it was found: weights ``(B, heads, T, Na)`` that sum to 1 over the audio steps.
        """
        audio = self.norm_audio(features.audio)  # (B, Na, D)
        visual = self.norm_visual(features.visual)  # (B, T, D)
        dim = visual.shape[-1]
        keys = audio + time_positions(audio.shape[1], dim, self.duration).to(audio)
        queries = visual + time_positions(visual.shape[1], dim, self.duration).to(visual)
        found, weights = self.attention(queries, keys, audio, average_attn_weights=False)
        return visual, found, weights

    def forward(self, features: Features) -> Tensor:
        """Features -> fused ``(B, T, D)``, one vector a frame."""
        visual, found, _ = self.attend(features)
        return self.mlp(torch.cat([visual, found], dim=-1))


def agreement(features: Features) -> Tensor:
    """How far sound and picture change alike, channel by channel: ``(B, T, D)``.

    The mean over the channels is the cosine of the two changes, which is what the contrast of stage one
    pulls up for streams that belong together. An MLP over both streams side by side would have to
    learn this product anew.
    """
    visual = changes(features.visual)  # (B, T, D)
    audio = changes(to_steps(features.audio, visual.shape[1]))
    return F.normalize(audio, dim=-1) * F.normalize(visual, dim=-1) * visual.shape[-1]
