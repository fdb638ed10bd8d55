"""Windows of a face -> a detector's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from avff_lib.errors import AVFFError
from avff_lib.media.clip import Clip
from avff_lib.models import Detector
from avff_lib.models.ood import picture_statistics
from avff_lib.nn.features import Features, cat_features, index_features
from avff_lib.preprocess.prepare import prepare_batch

BATCH_SIZE = 16
WINDOW_HOP = 0.5  # seconds from one window to the next


@dataclass(frozen=True, eq=False)
class WindowOutputs:
    """A detector's outputs for N windows, on the CPU.

    Attributes:
        probability: of fake, ``(N,)``, uncalibrated.
        agreement: of lips and voice, ``(N,)``, the mean of `Detector.agreement` over time.
        features: before fusion, ``(N, ...)``.
        fused: ``(N, D)``, the mean over time of the fused sequence.
        means: inputs of the out-of-distribution test, ``(N, D)`` each, by keys of
            `avff_lib.models.ood.STREAM_OF`; means over time.
    """

    probability: Tensor
    agreement: Tensor
    features: Features
    fused: Tensor
    means: dict[str, Tensor]

    def __getitem__(self, rows: Sequence[int]) -> WindowOutputs:
        """Outputs of some of the windows, in that order."""
        rows = list(rows)
        features = index_features(self.features, rows)
        means = {name: values[rows] for name, values in self.means.items()}
        return WindowOutputs(self.probability[rows], self.agreement[rows], features, self.fused[rows], means)


@torch.inference_mode()
def predict_windows(
    model: Detector, windows: Sequence[Clip], *, batch_size: int = BATCH_SIZE
) -> WindowOutputs:
    """Run the detector, on its device, over windows in CPU memory.

    Args:
        model: in evaluation mode.
        windows: clips of ``model.spec.duration`` seconds, cut to the face; at least one.
        batch_size: number of windows that the detector takes at once.

    Raises:
        AVFFError: an output is not finite.
    """
    batches = []
    for first in range(0, len(windows), batch_size):
        inputs = prepare_batch(windows[first : first + batch_size], model.spec).to(model.device)
        batch = predict_features(model, model.forward_features(inputs))
        statistics = picture_statistics(inputs.frames).cpu()
        batches.append(replace(batch, means=batch.means | {"picture_statistics": statistics}))
    probability = torch.cat([batch.probability for batch in batches])
    if not probability.isfinite().all():
        raise AVFFError("non-finite model output; look for NaN or infinity in the input and in the weights")
    return WindowOutputs(
        probability,
        torch.cat([batch.agreement for batch in batches]),
        cat_features([batch.features for batch in batches]),
        torch.cat([batch.fused for batch in batches]),
        {name: torch.cat([batch.means[name] for batch in batches]) for name in batches[0].means},
    )


@torch.inference_mode()
def predict_features(model: Detector, features: Features) -> WindowOutputs:
    """Outputs for features ``(B, ...)``: the model's own, or rearranged ones.

    Args:
        model: in evaluation mode.
        features: on any device.
    """
    features = features.to(model.device)
    fused = model.fuse(features)
    probability = torch.sigmoid(model.forward_head(fused))
    agreement = model.agreement(features).mean(dim=1)
    features = features.to("cpu")
    means = {"audio_features": features.audio.mean(dim=1), "visual_features": features.visual.mean(dim=1)}
    if features.detail is not None:
        audio, visual = features.detail.mean(dim=1).chunk(2, dim=-1)
        means |= {"audio_detail": audio, "visual_detail": visual}
    return WindowOutputs(probability.cpu(), agreement.cpu(), features, fused.mean(dim=1).cpu(), means)


def sliding_windows(clip: Clip, duration: float, hop: float) -> list[Clip]:
    """All windows of a clip, ``hop`` seconds apart, the last one ending where the clip ends."""
    starts = window_starts(clip.duration, duration, hop)
    return [clip.window(clip.start + start, duration) for start in starts]


def window_starts(total: float, duration: float, hop: float) -> list[float]:
    """Starts of windows that cover ``total`` seconds: ``hop`` apart, the last one moved back."""
    last = total - duration
    starts = list(np.arange(0.0, last, hop))
    return [*starts, last] if not starts or last - starts[-1] > hop / 100 else starts
