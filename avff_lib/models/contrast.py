"""The contrastive loss of both models: which slice of audio belongs to which slice of video."""

from __future__ import annotations

import torch
from torch import Tensor

from avff_lib.errors import AVFFError
from avff_lib.nn.features import Features
from avff_lib.nn.losses import info_nce, retrieval_accuracy
from avff_lib.nn.sequences import pool_to_steps, subtract_temporal_mean
from avff_lib.utils import distributed

MIN_FEATURE_STD = 1e-4  # standard deviation over a batch; below it the features have collapsed


def contrastive_loss(
    features: Features, slices: int, temperature: float | Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """InfoNCE in both directions, over whole windows or over slices of time, in the whole batch.

    Windows are compared by the means of their features. Slices are compared after subtracting what all slices
    of a window share, and what all windows share at a slice: the speaker and the position in the window would
    tell slices apart without any synchrony.

    Args:
        features: those of real windows.
        slices: number of slices to compare; with 1, whole windows.
        temperature: see `avff_lib.nn.losses.info_nce`.

    Returns:
        The loss, and the values to log: ``contrast``, the loss; ``retrieval``, the share of audio slices
        whose own video slice is the nearest in the batch; ``feature_std``, the smaller of the two streams'
        standard deviations.

    Raises:
        AVFFError: the features have collapsed to a point.
    """
    streams = (features.audio, features.visual)
    stds = [distributed.std_mean(stream.detach().float().flatten(0, 1))[0].mean() for stream in streams]
    feature_std = torch.stack(stds).min()
    if feature_std < MIN_FEATURE_STD:
        raise AVFFError(
            f"the features collapsed (standard deviation {feature_std:.1e}, expected above "
            f"{MIN_FEATURE_STD}); lower the learning rate, or check that the clips differ from each other"
        )
    audio, visual = (pool_to_steps(stream, slices) for stream in streams)  # (B, slices, D)
    # Negatives come from the whole batch, across processes.
    audio, visual = distributed.gathered(audio), distributed.gathered(visual)
    if slices > 1:
        audio, visual = centered(audio, visual)
    audio, visual = audio.flatten(0, 1), visual.flatten(0, 1)  # (B x slices, D)
    loss = info_nce(audio, visual, temperature)
    logged = {
        "contrast": loss.detach(),
        "retrieval": retrieval_accuracy(audio, visual),
        "feature_std": feature_std,
    }
    return loss, logged


def centered(audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
    """Slices ``(B, K, D)`` of both streams minus the mean of each window, and minus that of all windows.

    The second mean encodes a slice's position, which alone could tell slices apart.
    """
    audio, visual = subtract_temporal_mean(audio), subtract_temporal_mean(visual)
    if len(audio) > 1:
        audio, visual = audio - audio.mean(dim=0), visual - visual.mean(dim=0)
    return audio, visual
