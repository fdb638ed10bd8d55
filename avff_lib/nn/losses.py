"""Losses as pure functions of tensors, independent of any model."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from avff_lib.utils import distributed


def info_nce(audio: Tensor, visual: Tensor, temperature: float | Tensor) -> Tensor:
    """Symmetric InfoNCE: row i of one stream is the positive of row i of the other, all other rows negatives.

    Args:
        audio, visual: ``(N, D)``, not normalised; they are compared by cosine similarity.
        temperature: above 0, fixed or learned; a lower one gives more weight to the hardest negatives.

    Returns:
        Scalar; log N at chance, 0 when every pair is told apart from all others. Source: van den Oord et al.
        2018, equation 4; both directions as in CLIP (Radford et al. 2021).
    """
    # bfloat16 rounds cosines that differ by less than 0.004 to the same value, which hampers learning.
    with torch.autocast(audio.device.type, enabled=False):
        similarity = F.normalize(audio.float(), dim=-1) @ F.normalize(visual.float(), dim=-1).T  # (N, N)
    target = torch.arange(len(similarity), device=similarity.device)
    logits = similarity / temperature
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def masked_mse(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over the masked steps only.

    Args:
        predicted, target: ``(B, T, D)``.
        mask: ``(B, T)`` bool, True where the step is masked; at least one is.
    """
    return (predicted - target)[mask].square().mean()


def normalize_patches(patches: Tensor) -> Tensor:
    """Each patch with mean 0 and variance 1 over its own values: ``(..., values)`` -> the same shape.

    The model then predicts the pattern in a patch, not how bright or loud it is.
    Source: He et al. 2022 (MAE), section 4.1.
    """
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def wasserstein_generator_loss(fake_scores: Tensor) -> Tensor:
    """The generator's loss: the negative mean of the critic's scores of its patches. Any shape -> scalar.

    Source: Arjovsky et al. 2017, equation 2; in MARLIN (Cai et al. 2023).
    """
    return -fake_scores.mean()


def wasserstein_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """The critic's loss: mean score of reconstructed patches minus that of real ones. Any shapes -> scalar.

    Pass detached reconstructions, so that this gradient does not reach the generator.
    """
    return fake_scores.mean() - real_scores.mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator
) -> Tensor:
    """WGAN-GP: squared distance from 1 of the critic's gradient norm, between real and reconstructed patches.

    It bounds the critic, whose scores could otherwise grow without limit.

    Args:
        critic: patches ``(..., values)`` -> scores ``(...)``.
        real, fake: patches of one shape, detached.
        generator: draws the interpolation points.

    Returns:
        Scalar; 0 for a gradient norm of 1 everywhere. Source: Gulrajani et al. 2017, equation 3.
    """
    share = distributed.rand(real.shape[:-1], generator).to(real)[..., None]
    between = (real + share * (fake - real)).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.norm(dim=-1) - 1).square().mean()


def retrieval_accuracy(audio: Tensor, visual: Tensor) -> Tensor:
    """Top-1 retrieval: share of audio rows ``(N, D)`` whose own visual row is the nearest by cosine."""
    similarity = F.normalize(audio.detach(), dim=-1) @ F.normalize(visual.detach(), dim=-1).T
    return (similarity.argmax(dim=1) == torch.arange(len(audio), device=audio.device)).float().mean()
