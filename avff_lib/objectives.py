"""What a model is asked to do in each stage: model + batch -> loss and what to log."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from avff_lib.clip import AVFFError, Features, ModelInputs
from avff_lib.losses import hidden_mse, info_nce
from avff_lib.models.avff import AVFF
from avff_lib.models.base import Detector
from avff_lib.nn.sequences import changes, to_steps

TEMPERATURE = 0.1  # re-implementations use 0.05 to 0.1; the paper's value is not known
SLICES = 8  # parts of a window that are told apart; means of whole clips teach nothing
COLLAPSED = 1e-4  # standard deviation of a feature over a batch below which it says nothing

Objective = Callable[[Detector, ModelInputs, Tensor, torch.Generator], dict[str, Tensor]]


def stage_one(
    model: AVFF, inputs: ModelInputs, labels: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Self-supervised, on genuine clips: what belongs together, and what the hidden frames showed.

    Half of the frames are hidden from the fusion; it has to guess them from the sound. The targets
    are the encoders' own features, cut off from the gradient and standardised over the batch, so that
    the guess cannot be made easy by making the features small or all alike: guessing their mean
    costs 1 for each stream.

    Args:
        inputs: genuine windows.
        labels: not looked at; the two stages are called alike.
        generator: draws which frames are hidden.

    Returns:
        ``loss`` and its parts; ``retrieval``, the share of slices of the sound whose own slice of
        the video is the nearest one of the batch; ``feature_std``.

    Raises:
        AVFFError: the features have collapsed to a point.
    """
    features = model.features(inputs)
    steps = features.visual.shape[1]
    audio = to_steps(features.audio, steps)  # (B, T, D)
    feature_std = torch.stack(
        [stream.flatten(0, 1).std(dim=0).mean() for stream in (audio, features.visual)]
    ).min()
    if feature_std < COLLAPSED:
        raise AVFFError(
            f"the features collapsed (standard deviation {feature_std:.1e}, expected above {COLLAPSED}); "
            "lower the learning rate, or check that the clips differ from each other"
        )
    audio_slices, visual_slices = (
        changes(to_steps(stream, SLICES)).flatten(0, 1)  # (B x slices, D)
        for stream in (features.audio, features.visual)
    )
    contrast = info_nce(audio_slices, visual_slices, TEMPERATURE)

    hidden = (
        torch.rand(features.visual.shape[:2], generator=generator).to(features.visual.device) < 0.5
    )  # (B, T)
    seen = features.visual.masked_fill(hidden[..., None], 0.0)
    guessed_audio, guessed_visual = model.decoder(model.fusion(Features(features.audio, seen)))
    # The sound was heard throughout, so remembering it is scored everywhere.
    everywhere = torch.ones_like(hidden)
    reconstruction = hidden_mse(guessed_visual, standardised(features.visual), hidden) + hidden_mse(
        guessed_audio, standardised(audio), everywhere
    )
    return {
        "loss": contrast + reconstruction,
        "contrast": contrast.detach(),
        "reconstruction": reconstruction.detach(),
        "retrieval": retrieval_accuracy(audio_slices, visual_slices),
        "feature_std": feature_std.detach(),
    }


def stage_two(
    model: Detector, inputs: ModelInputs, labels: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Supervised: cross-entropy of the logit against the window's label, ``(B,)``, fake = 1."""
    logits = model(inputs)
    loss = F.binary_cross_entropy_with_logits(logits, labels.float())
    right = ((logits > 0) == labels.bool()).float().mean()
    return {"loss": loss, "accuracy": right.detach()}


def standardised(sequence: Tensor) -> Tensor:
    """``(B, N, D)`` with mean 0 and variance 1 over batch and time, and no gradient."""
    flat = sequence.detach().float()
    return (flat - flat.mean(dim=(0, 1))) / (flat.std(dim=(0, 1)) + 1e-6)


def retrieval_accuracy(audio: Tensor, visual: Tensor) -> Tensor:
    """Share of rows ``(N, D)`` whose partner in the other stream is the nearest by cosine."""
    similarity = F.normalize(audio.detach(), dim=-1) @ F.normalize(visual.detach(), dim=-1).T
    return (similarity.argmax(dim=1) == torch.arange(len(audio), device=audio.device)).float().mean()
