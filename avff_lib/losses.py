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
    similarity = F.normalize(audio, dim=-1) @ F.normalize(visual, dim=-1).T / temperature  # (N, N)
    target = torch.arange(len(similarity), device=similarity.device)
    return (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2


def hidden_mse(predicted: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error over the hidden steps only: what was shown need not be guessed.

    Args:
        predicted, target: ``(B, T, D)``.
        hidden: ``(B, T)`` bool, True where the step was hidden; at least one is.
    """
    return (predicted - target)[hidden].square().mean()
