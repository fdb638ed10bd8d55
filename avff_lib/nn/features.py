"""The encoders' output, before the two streams are fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Features:
    """The encoders' output, still as sequences over time.

    Attributes:
        audio: ``(B, Na, D)`` float32.
        visual: ``(B, Nv, D)`` float32.
        detail: ``(B, N, C)`` float32, the output of the detail path; None without one.
    """

    audio: Float[Tensor, "b na d"]
    visual: Float[Tensor, "b nv d"]
    detail: Float[Tensor, "b n c"] | None = None

    def to(self, device: torch.device | str) -> Features:
        """The same features on a device."""
        detail = None if self.detail is None else self.detail.to(device)
        return Features(self.audio.to(device), self.visual.to(device), detail)


def index_features(features: Features, rows: Sequence[int]) -> Features:
    """Features of some rows of the batch, in that order."""
    rows = list(rows)
    detail = None if features.detail is None else features.detail[rows]
    return Features(features.audio[rows], features.visual[rows], detail)


def cat_features(parts: Sequence[Features]) -> Features:
    """Concatenate features along the batch axis; detail features must be in all of them or in none."""
    details = [part.detail for part in parts if part.detail is not None]
    return Features(
        audio=torch.cat([part.audio for part in parts]),
        visual=torch.cat([part.visual for part in parts]),
        detail=torch.cat(details) if details else None,
    )
