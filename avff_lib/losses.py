"""Losses as pure functions of tensors; they know no model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(audio: Tensor, visual: Tensor, temperature: float) -> Tensor:
    """Bidirectional contrast: row i of one stream belongs to row i of the other and to no other row.

    Args:
        audio, visual: ``(N, D)``, any length; they are compared by cosine.
        temperature: above 0; the lower, the harder the hardest negatives push.

    Returns:
        Scalar; log N when nothing is known, 0 when every pair is found. Source: van den Oord et
        al. 2018, equation 4; both directions as in CLIP (Radford et al. 2021).
    """
    # In bfloat16 two cosines that differ by less than 0.004 are equal, and little would be learned.
    with torch.autocast(audio.device.type, enabled=False):
        similarity = F.normalize(audio.float(), dim=-1) @ F.normalize(visual.float(), dim=-1).T  # (N, N)
    target = torch.arange(len(similarity), device=similarity.device)
    logits = similarity / temperature
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def hidden_mse(predicted: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error over the hidden steps only: what was shown need not be guessed.

    Args:
        predicted, target: ``(B, T, D)``.
        hidden: ``(B, T)`` bool, True where the step was hidden; at least one is.
    """
    return (predicted - target)[hidden].square().mean()
