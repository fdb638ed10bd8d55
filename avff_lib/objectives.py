"""What a model is asked to do in each stage: model + batch -> loss and what to log."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from avff_lib import ranks
from avff_lib.clip import AVFFError, Features, ModelInputs
from avff_lib.losses import (
    gradient_penalty,
    hidden_mse,
    info_nce,
    normalised_patches,
    wasserstein_critic,
    wasserstein_generator,
)
from avff_lib.models.avff import AVFF
from avff_lib.models.avff_mae import AVFFMAE
from avff_lib.models.base import Detector
from avff_lib.nn.masking import complementary_slices, take_slices
from avff_lib.nn.sequences import changes, to_steps

TEMPERATURE = 0.1  # re-implementations use 0.05 to 0.1; the paper's value is not known
SLICES = 8  # parts of a window that are told apart; means of whole clips teach nothing
COLLAPSED = 1e-4  # standard deviation of a feature over a batch below which it says nothing

Objective = Callable[[Detector, ModelInputs, Tensor, torch.Generator], dict[str, Tensor]]


@singledispatch
def stage_one(
    model: Detector, inputs: ModelInputs, labels: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Self-supervised, on genuine clips: what belongs together, and what the hidden parts showed.

    Each family of models has its own way of hiding and guessing.

    Args:
        inputs: genuine windows.
        labels: not looked at; the two stages are called alike.
        generator: draws what is hidden.

    Returns:
        ``loss`` and its parts; ``retrieval``, the share of slices of the sound whose own slice of
        the video is the nearest one of the batch; ``feature_std``. A model with a critic also gives
        ``critic_loss``, whose gradient reaches the critic alone.

    Raises:
        AVFFError: the features have collapsed to a point.
    """
    raise AVFFError(f"{type(model).__name__} has no first stage; expected one of AVFF, AVFFMAE")


@stage_one.register
def _(model: AVFF, inputs: ModelInputs, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Half of the frames are hidden from the fusion; it has to guess them from the sound.

    The targets are the encoders' own features, cut off from the gradient and standardised over the
    batch, so that the guess cannot be made easy by making the features small or all alike: guessing
    their mean costs 1 for each stream.
    """
    features = model.encode(inputs)
    audio = to_steps(features.audio, features.visual.shape[1])  # (B, T, D)
    contrast, logged = _contrast(features, SLICES, TEMPERATURE)

    hidden = ranks.rand(features.visual.shape[:2], generator).to(features.visual.device) < 0.5  # (B, T)
    seen = features.visual.masked_fill(hidden[..., None], 0.0)
    guessed_audio, guessed_visual = model.decoder(model.fusion(Features(features.audio, seen)))
    # The sound was heard throughout, so remembering it is scored everywhere.
    everywhere = torch.ones_like(hidden)
    # By chance more is hidden in one process than in another: the mean is over all that is hidden.
    hidden_share = hidden.float().mean() / ranks.mean(hidden.float().mean())
    visual_error = hidden_mse(guessed_visual, standardised(features.visual), hidden) * hidden_share
    reconstruction = visual_error + hidden_mse(guessed_audio, standardised(audio), everywhere)
    return {"loss": contrast + reconstruction, "reconstruction": reconstruction.detach(), **logged}


@stage_one.register
def _(model: AVFFMAE, inputs: ModelInputs, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Half of the slices of each stream are hidden after encoding and guessed from the other stream.

    Losses: contrast of the encoded slices; squared error on the hidden patches, each normalised by
    itself; a critic's opinion of them. Source: Oorloff et al. 2024 (AVFF), section 3.
    """
    config = model.config
    features = model.encode(inputs)
    slices = config.slices if config.granularity == "slice" else 1
    contrast, logged = _contrast(features, slices, model.temperature)

    visible_visual, visible_audio = complementary_slices(len(features.audio), config.slices, generator)
    guessed = model.reconstruct(*model.complete(features, visible_visual, visible_audio))
    truth = model.patches(inputs)
    hidden = {"audio": visible_visual, "visual": visible_audio}  # what one stream shows, the other hides
    guess, real = (
        {name: take_slices(patches, hidden[name]) for name, patches in zip(hidden, streams, strict=True)}
        for streams in (guessed, truth)
    )  # (B, K / 2, tokens of a slice, values)
    real = {name: normalised_patches(patches) for name, patches in real.items()}
    reconstruction = sum(F.mse_loss(guess[name].float(), real[name]) for name in hidden)
    adversarial, critic_loss = _adversary(model, guess, real, generator)
    loss = (
        config.contrast_weight * contrast
        + config.reconstruction_weight * reconstruction
        + config.adversarial_weight * adversarial
    )
    parts = {"reconstruction": reconstruction.detach(), "adversarial": adversarial.detach()}
    return {"loss": loss, "critic_loss": critic_loss, **parts, **logged}


def _contrast(
    features: Features, slices: int, temperature: float | Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The contrast of a batch, and what to log of it; whole clips are compared if ``slices`` is 1."""
    streams = (features.audio, features.visual)
    spreads = [ranks.std_mean(stream.detach().float().flatten(0, 1))[0].mean() for stream in streams]
    feature_std = torch.stack(spreads).min()
    if feature_std < COLLAPSED:
        raise AVFFError(
            f"the features collapsed (standard deviation {feature_std:.1e}, expected above {COLLAPSED}); "
            "lower the learning rate, or check that the clips differ from each other"
        )
    audio, visual = (to_steps(stream, slices) for stream in streams)  # (B, slices, D)
    if slices > 1:
        audio, visual = changes(audio), changes(visual)
    # Negatives are those of the whole batch, whichever process holds them.
    audio, visual = ranks.gathered(audio), ranks.gathered(visual)
    if len(audio) > 1:
        # What all windows have in common at a place is the code of that place, by which alone slices could
        # be told apart.
        audio, visual = audio - audio.mean(dim=0), visual - visual.mean(dim=0)
    audio, visual = audio.flatten(0, 1), visual.flatten(0, 1)  # (B x slices, D)
    contrast = info_nce(audio, visual, temperature)
    return contrast, {
        "contrast": contrast.detach(),
        "retrieval": retrieval_accuracy(audio, visual),
        "feature_std": feature_std,
    }


def _adversary(
    model: AVFFMAE, guess: dict[str, Tensor], real: dict[str, Tensor], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What the critics tell the decoders, and what they are told themselves.

    The first passes through frozen critics, the second sees detached guesses: neither gradient reaches
    the other side.
    """
    told, critic_loss = [], []
    for name, critic in model.critic.items():
        frozen = {key: weight.detach() for key, weight in critic.named_parameters()}
        told.append(wasserstein_generator(functional_call(critic, frozen, (guess[name],))))
        fake = guess[name].detach().to(real[name])
        critic_loss.append(wasserstein_critic(critic(real[name]), critic(fake)))
        if model.config.gradient_penalty:
            with torch.autocast(fake.device.type, enabled=False):
                penalty = gradient_penalty(critic, real[name], fake, generator)
            critic_loss.append(model.config.gradient_penalty * penalty)
    return sum(told), sum(critic_loss)


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
    values = sequence.detach().float()
    std, mean = ranks.std_mean(values.flatten(0, 1))
    return (values - mean) / (std + 1e-6)


def retrieval_accuracy(audio: Tensor, visual: Tensor) -> Tensor:
    """Share of rows ``(N, D)`` whose partner in the other stream is the nearest by cosine."""
    similarity = F.normalize(audio.detach(), dim=-1) @ F.normalize(visual.detach(), dim=-1).T
    return (similarity.argmax(dim=1) == torch.arange(len(audio), device=audio.device)).float().mean()
