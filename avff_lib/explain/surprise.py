"""Where in a window the two streams do not say the same: what one makes of the other, moment by moment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avff_lib.clip import AVFFError, Features, ModelInputs
from avff_lib.losses import normalised_patches
from avff_lib.models import AVFFMAE, Detector
from avff_lib.nn.cross_modal import agreement
from avff_lib.nn.sequences import to_steps


@dataclass(frozen=True, eq=False)
class Surprise:
    """How badly each slice of time is guessed from the other stream: 0 is perfect, 1 as bad as a blank guess.

    Attributes:
        times: ``(K,)`` middles of the slices in seconds from the window's start.
        sound: ``(B, K)`` squared error of the spectrogram's patches, each normalised, as V2A guesses them.
        picture: ``(B, K)`` of the tubelets, as A2V guesses them.
    """

    times: Tensor
    sound: Tensor
    picture: Tensor


@torch.inference_mode()
def surprise(model: Detector, inputs: ModelInputs) -> Surprise:
    """Hide every other slice of the sound and the rest of the picture, guess them, and change places.

    So each slice of either stream is guessed exactly once, from the same moment of the other stream and from
    what is visible around it.

    Args:
        model: an `AVFFMAE`; how good its guesses are is what stage one has taught it.
        inputs: ``(B, ...)``.

    Raises:
        AVFFError: the model has no A2V and V2A.
    """
    if not isinstance(model, AVFFMAE):
        raise AVFFError(
            f"{type(model).__name__} does not guess one stream from the other; take an AVFFMAE, or ask for "
            "agreement_over_time"
        )
    slices, batch = model.config.slices, len(inputs.frames)
    features, truth = model.encode(inputs), [normalised_patches(p) for p in model.patches(inputs)]
    even = torch.arange(0, slices, 2).expand(batch, -1)
    errors = torch.zeros(2, batch, slices, device=inputs.frames.device)
    for visible_visual, visible_audio in ((even, even + 1), (even + 1, even)):
        guessed = model.reconstruct(*model.complete(features, visible_visual, visible_audio))
        # What is visible in one stream is hidden in the other.
        for error, guess, real, hidden in zip(
            errors, guessed, truth, (visible_visual, visible_audio), strict=True
        ):
            error[:, hidden[0]] = (guess - real).square().mean(dim=(2, 3))[:, hidden[0]]
    times = (torch.arange(slices) + 0.5) * model.spec.duration / slices
    return Surprise(times, *errors)


@torch.inference_mode()
def agreement_over_time(model: Detector, inputs: ModelInputs) -> Tensor:
    """Cosine of what changes in picture and sound, ``(B, T)``: one a frame of an `AVFF`, one a slice of an
    `AVFFMAE`; 1 where both change alike, about 0 where they have nothing to do with each other.

    Args:
        model: either family.
        inputs: ``(B, ...)``.
    """
    features = model.encode(inputs)
    if isinstance(model, AVFFMAE):
        slices = model.config.slices
        features = Features(
            model.audio_centre(to_steps(features.audio, slices)),
            model.visual_centre(to_steps(features.visual, slices)),
        )
    return agreement(features).mean(dim=-1)
