"""Windows of a face -> a detector's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avff_lib.errors import AVFFError
from avff_lib.media.clip import Clip
from avff_lib.models import Detector
from avff_lib.nn.features import Features, cat_features, index_features
from avff_lib.preprocess.prepare import prepare_batch

BATCH_SIZE = 16
WINDOW_HOP = 0.5  # seconds from one window to the next


@dataclass(frozen=True, eq=False)
class WindowOutputs:
    """A detector's outputs for N windows.

    Attributes:
        probability: of fake, ``(N,)``, uncalibrated.
        agreement: of lips and voice, ``(N,)``, the mean of `Detector.agreement` over time.
        features: before the streams meet, ``(N, ...)``.
        fused: ``(N, D)``, the mean over time of the fused sequence.
    """

    probability: Tensor
    agreement: Tensor
    features: Features
    fused: Tensor

    def __getitem__(self, rows: Sequence[int]) -> WindowOutputs:
        """Outputs of some of the windows, in that order."""
        rows = list(rows)
        features = index_features(self.features, rows)
        return WindowOutputs(self.probability[rows], self.agreement[rows], features, self.fused[rows])


@torch.inference_mode()
def predict_windows(model: Detector, windows: Sequence[Clip]) -> WindowOutputs:
    """Run the detector over windows: clips of ``model.spec.duration`` seconds, cut to the face.

    Raises:
        AVFFError: an output is not finite.
    """
    batches = []
    for first in range(0, len(windows), BATCH_SIZE):
        features = model.forward_features(prepare_batch(windows[first : first + BATCH_SIZE], model.spec))
        batches.append(predict_features(model, features))
    probability = torch.cat([batch.probability for batch in batches])
    if not probability.isfinite().all():
        raise AVFFError("non-finite model output; look for NaN or infinity in the input and in the weights")
    return WindowOutputs(
        probability,
        torch.cat([batch.agreement for batch in batches]),
        cat_features([batch.features for batch in batches]),
        torch.cat([batch.fused for batch in batches]),
    )


@torch.inference_mode()
def predict_features(model: Detector, features: Features) -> WindowOutputs:
    """Outputs for features ``(B, ...)``: the model's own, or rearranged ones."""
    fused = model.fuse(features)
    probability = torch.sigmoid(model.forward_head(fused))
    return WindowOutputs(probability, model.agreement(features).mean(dim=1), features, fused.mean(dim=1))


def sliding_windows(clip: Clip, duration: float, hop: float) -> list[Clip]:
    """All windows of a clip, ``hop`` seconds apart, the last one ending where the clip ends."""
    starts = window_starts(clip.duration, duration, hop)
    return [clip.window(clip.start + start, duration) for start in starts]


def window_starts(total: float, duration: float, hop: float) -> list[float]:
    """Starts of windows that cover ``total`` seconds: a step of ``hop``, the last one moved back."""
    last = total - duration
    starts = list(np.arange(0.0, last, hop))
    return [*starts, last] if not starts or last - starts[-1] > hop / 100 else starts
