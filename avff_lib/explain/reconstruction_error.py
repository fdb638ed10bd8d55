"""Where in a window the two streams disagree: the error of predicting each slice from the other stream."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avff_lib.errors import AVFFError
from avff_lib.models import AVFFMAE, Detector
from avff_lib.nn.features import Features
from avff_lib.nn.losses import normalize_patches
from avff_lib.preprocess.spec import ModelInputs

TIME_OFFSETS = (0.25, 0.5, 0.75)  # of the window, by which the other stream is shifted for the comparison


@dataclass(frozen=True, eq=False)
class ReconstructionError:
    """Squared error of each slice, predicted from the other stream: 0 is perfect, 1 no better than the mean.

    How hard a slice is to predict depends on its content. Whether the streams belong together shows in the
    `excess` over predictions from the other stream at other times.

    Attributes:
        times: ``(K,)`` middles of the slices in seconds from the window's start.
        audio: ``(B, K)`` of the spectrogram's patches, each normalised, as predicted by V2A.
        video: ``(B, K)`` of the tubelets, as predicted by A2V.
        audio_shifted, video_shifted: ``(B, K)`` the same with the other stream shifted in time; mean over
            `TIME_OFFSETS`.
    """

    times: Tensor
    audio: Tensor
    video: Tensor
    audio_shifted: Tensor
    video_shifted: Tensor

    @property
    def excess(self) -> tuple[Tensor, Tensor]:
        """For audio and video, ``(B, K)``: below 0 where the unshifted other stream predicts a slice best."""
        return self.audio - self.audio_shifted, self.video - self.video_shifted


@torch.inference_mode()
def reconstruction_error(model: Detector, inputs: ModelInputs) -> ReconstructionError:
    """Mask every other slice of the audio and the complementary slices of the video, reconstruct, and swap.

    So each slice of each stream is predicted exactly once, from the same time of the other stream and from
    the visible slices around it, and then again with the other stream shifted in time.

    Args:
        model: an `AVFFMAE`. Its decoders are those of stage one; stage two changes only the encoders, which
            costs some quality.
        inputs: ``(B, ...)``.

    Raises:
        AVFFError: the model has no A2V and V2A.
    """
    if not isinstance(model, AVFFMAE):
        raise AVFFError(
            f"{type(model).__name__} does not predict one stream from the other; take an AVFFMAE, or use "
            "Detector.agreement"
        )
    features, targets = model.encode(inputs), [normalize_patches(p) for p in model.patchify(inputs)]
    audio, visual = features.audio, features.visual
    audio_error, video_error = _errors(model, features, targets)
    audio_shifted, video_shifted = [], []
    for offset in TIME_OFFSETS:
        shifted_visual = visual.roll(round(offset * visual.shape[1]), 1)
        shifted_audio = audio.roll(round(offset * audio.shape[1]), 1)
        audio_shifted.append(_errors(model, Features(audio, shifted_visual), targets)[0])
        video_shifted.append(_errors(model, Features(shifted_audio, visual), targets)[1])
    return ReconstructionError(
        times=(torch.arange(model.config.slices) + 0.5) * model.spec.duration / model.config.slices,
        audio=audio_error,
        video=video_error,
        audio_shifted=torch.stack(audio_shifted).mean(dim=0),
        video_shifted=torch.stack(video_shifted).mean(dim=0),
    )


def _errors(model: AVFFMAE, features: Features, targets: list[Tensor]) -> Tensor:
    """Mean squared error of each slice when it is masked, ``(2, B, K)``: audio, video."""
    even = torch.arange(0, model.config.slices, 2, device=features.audio.device)
    errors = torch.zeros(2, len(features.audio), model.config.slices, device=features.audio.device)
    for first, second in ((even, even + 1), (even + 1, even)):
        visible = (index.expand(len(features.audio), -1) for index in (first, second))
        predictions = model.reconstruct(*model.fill_masked(features, *visible))
        # The slices visible in one stream are masked in the other.
        for error, prediction, target, masked in zip(
            errors, predictions, targets, (first, second), strict=True
        ):
            error[:, masked] = (prediction - target).square().mean(dim=(2, 3))[:, masked]
    return errors
