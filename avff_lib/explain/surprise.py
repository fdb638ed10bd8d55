"""Where in a window the two streams do not say the same: what one makes of the other, moment by moment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avff_lib.clip import AVFFError, Features, ModelInputs
from avff_lib.losses import normalised_patches
from avff_lib.models import AVFFMAE, Detector

ELSEWHERE = (0.25, 0.5, 0.75)  # of the window: how far away the moments lie that a guess is compared with


@dataclass(frozen=True, eq=False)
class Surprise:
    """How badly each slice of time is guessed from the other stream: 0 is perfect, 1 as bad as a blank guess.

    How hard a slice is to guess depends on what is said in it. What speaks of the streams is the `excess`
    over guesses made from other moments of the same window.

    Attributes:
        times: ``(K,)`` middles of the slices in seconds from the window's start.
        sound: ``(B, K)`` squared error of the spectrogram's patches, each normalised, as V2A guesses them.
        picture: ``(B, K)`` of the tubelets, as A2V guesses them.
        sound_elsewhere, picture_elsewhere: ``(B, K)`` the same, guessed from other moments; mean of three.
    """

    times: Tensor
    sound: Tensor
    picture: Tensor
    sound_elsewhere: Tensor
    picture_elsewhere: Tensor

    @property
    def excess(self) -> tuple[Tensor, Tensor]:
        """Of sound and picture, ``(B, K)``: below 0 where its own moment guesses a slice best."""
        return self.sound - self.sound_elsewhere, self.picture - self.picture_elsewhere


@torch.inference_mode()
def surprise(model: Detector, inputs: ModelInputs) -> Surprise:
    """Hide every other slice of the sound and the rest of the picture, guess them, and change places.

    So each slice of either stream is guessed exactly once, from the same moment of the other stream and from
    what is visible around it; and then again with the other stream moved in time.

    Args:
        model: an `AVFFMAE`. Its guesses are those of stage one; stage two moves the encoders and leaves the
            decoders behind, which costs a part of their quality.
        inputs: ``(B, ...)``.

    Raises:
        AVFFError: the model has no A2V and V2A.
    """
    if not isinstance(model, AVFFMAE):
        raise AVFFError(
            f"{type(model).__name__} does not guess one stream from the other; take an AVFFMAE, or ask "
            "Detector.agreement"
        )
    features, truth = model.encode(inputs), [normalised_patches(p) for p in model.patches(inputs)]
    audio, visual = features.audio, features.visual
    sound, picture = _errors(model, features, truth)
    sounds, pictures = [], []
    for part in ELSEWHERE:
        moves = (round(part * tokens.shape[1]) for tokens in (visual, audio))
        later_visual, later_audio = (t.roll(m, 1) for t, m in zip((visual, audio), moves, strict=True))
        sounds.append(_errors(model, Features(audio, later_visual), truth)[0])
        pictures.append(_errors(model, Features(later_audio, visual), truth)[1])
    times = (torch.arange(model.config.slices) + 0.5) * model.spec.duration / model.config.slices
    return Surprise(times, sound, picture, torch.stack(sounds).mean(dim=0), torch.stack(pictures).mean(dim=0))


def _errors(model: AVFFMAE, features: Features, truth: list[Tensor]) -> Tensor:
    """Mean squared error of each slice when it is hidden, ``(2, B, K)``: sound, picture."""
    even = torch.arange(0, model.config.slices, 2, device=features.audio.device)
    errors = torch.zeros(2, len(features.audio), model.config.slices, device=features.audio.device)
    for seen, heard in ((even, even + 1), (even + 1, even)):
        visible = (index.expand(len(features.audio), -1) for index in (seen, heard))
        guessed = model.reconstruct(*model.complete(features, *visible))
        # What is visible in one stream is hidden in the other.
        for error, guess, real, hidden in zip(errors, guessed, truth, (seen, heard), strict=True):
            error[:, hidden] = (guess - real).square().mean(dim=(2, 3))[:, hidden]
    return errors
