"""Losses as pure functions of tensors; they know no model."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from avff_lib import ranks


def info_nce(audio: Tensor, visual: Tensor, temperature: float | Tensor) -> Tensor:
    """Bidirectional contrast: row i of one stream belongs to row i of the other and to no other row.

    Args:
        audio, visual: ``(N, D)``, any length; they are compared by cosine.
        temperature: above 0, fixed or learned; the lower, the harder the hardest negatives push.

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


def normalised_patches(patches: Tensor) -> Tensor:
    """Each patch with mean 0 and variance 1 over its own values: ``(..., values)`` -> the same shape.

    What is left to guess is the pattern in it, not how bright or loud it is.
    Source: He et al. 2022 (MAE), section 4.1.
    """
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def wasserstein_generator(fake_scores: Tensor) -> Tensor:
    """What the reconstruction is told by the critic: be scored higher. Any shape -> scalar.

    Source: Arjovsky et al. 2017, equation 2; in MARLIN (Cai et al. 2023).
    """
    return -fake_scores.mean()


def wasserstein_critic(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """What the critic is told: score real patches higher than reconstructed ones. Any shapes -> scalar.

    The reconstructions come detached: the critic's loss is not the generator's business.
    """
    return fake_scores.mean() - real_scores.mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator
) -> Tensor:
    """How far the critic's slope is from 1 between real and reconstructed patches.

    Without it nothing bounds a critic, and its scores can grow for ever.

    Args:
        critic: patches ``(..., values)`` -> scores ``(...)``.
        real, fake: patches of one shape, detached.
        generator: draws the places between them.

    Returns:
        Scalar; 0 for a slope of 1 everywhere. Source: Gulrajani et al. 2017, equation 3.
    """
    share = ranks.rand(real.shape[:-1], generator).to(real)[..., None]
    between = (real + share * (fake - real)).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.norm(dim=-1) - 1).square().mean()
