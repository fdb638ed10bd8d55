"""Windows of a face -> what a detector says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avff_lib.clip import AVFFError, Clip, Features
from avff_lib.data.loader import prepared_windows
from avff_lib.models import Detector

BATCH = 16


@dataclass(frozen=True, eq=False)
class Judged:
    """What a detector says of N windows.

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

    def take(self, rows: Sequence[int]) -> Judged:
        """What is said of some of the windows, in that order."""
        rows = list(rows)
        features = take_features(self.features, rows)
        return Judged(self.probability[rows], self.agreement[rows], features, self.fused[rows])


@torch.inference_mode()
def judge_windows(model: Detector, windows: Sequence[Clip]) -> Judged:
    """Run the detector over windows: clips of ``model.spec.duration`` seconds, cut to the face.

    Raises:
        AVFFError: an answer is no number.
    """
    batches = []
    for first in range(0, len(windows), BATCH):
        features = model.features(prepared_windows(windows[first : first + BATCH], model.spec))
        batches.append(judge_features(model, features))
    probability = torch.cat([batch.probability for batch in batches])
    if not probability.isfinite().all():
        raise AVFFError("the model's answer is no number; look for such values in its input and its weights")
    return Judged(
        probability,
        torch.cat([batch.agreement for batch in batches]),
        stack_features([batch.features for batch in batches]),
        torch.cat([batch.fused for batch in batches]),
    )


@torch.inference_mode()
def judge_features(model: Detector, features: Features) -> Judged:
    """What the detector makes of features ``(B, ...)``, its own or rearranged ones."""
    fused = model.fuse(features)
    probability = torch.sigmoid(model.head(fused))
    return Judged(probability, model.agreement(features).mean(dim=1), features, fused.mean(dim=1))


def stack_features(parts: Sequence[Features]) -> Features:
    """Join features along the batch axis."""
    detail = None if parts[0].detail is None else torch.cat([part.detail for part in parts])
    return Features(torch.cat([p.audio for p in parts]), torch.cat([p.visual for p in parts]), detail)


def take_features(features: Features, rows: Sequence[int]) -> Features:
    """Some rows of the batch, in that order."""
    rows = list(rows)
    detail = None if features.detail is None else features.detail[rows]
    return Features(features.audio[rows], features.visual[rows], detail)
