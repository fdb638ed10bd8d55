"""What spoke for the verdict: lips against voice, and the fine detail of each stream."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from avff_lib.clip import Features
from avff_lib.examine import Exhibits
from avff_lib.judge import judge_features
from avff_lib.models import Detector

TELLING = 0.2  # least difference of two windows' scores for their comparison to say something


@dataclass(frozen=True)
class Swap:
    """A part of the most suspicious window taken from the calm one instead, and the score it has then."""

    part: str
    score: float


@dataclass(frozen=True)
class Evidence:
    """What can be said of the most suspicious window; see `weigh`.

    Attributes:
        agreement: of lips and voice, in [-1, 1].
        by_chance: mean and standard deviation of the agreement of faces in this file with the sound of
            *other* moments; None where the file is too short.
        calm_start: start of the same face's least suspicious window, in seconds.
        calm_score: of that window.
        swaps: each part exchanged alone; empty where the two windows score about alike.
    """

    agreement: float
    by_chance: tuple[float, float] | None
    calm_start: float
    calm_score: float
    swaps: tuple[Swap, ...]


def weigh(model: Detector, exhibits: Exhibits) -> Evidence:
    """Compare the most suspicious window of a file with the least suspicious one of the same face.

    Each kind of evidence is taken from the calm window instead, one at a time, and the detector asked
    again. Where the score falls most, there the suspicion came from. It is a comparison inside one file,
    so it says nothing of a file that is forged, or genuine, throughout; parts can also act together, so
    the falls need not add up. The idea is that of activation patching (Vig et al., 2020, arXiv
    2004.12265).
    """
    suspect, chance = exhibits.suspect, exhibits.mismatched
    calm = exhibits.calm[suspect.said.face]
    telling = suspect.said.score - calm.score >= TELLING
    return Evidence(
        agreement=suspect.said.agreement,
        by_chance=(float(np.mean(chance)), float(np.std(chance))) if chance else None,
        calm_start=calm.start,
        calm_score=calm.score,
        swaps=_swaps(model, suspect.features, calm.features) if telling else (),
    )


def _swaps(model: Detector, suspect: Features, calm: Features) -> tuple[Swap, ...]:
    mixed = {"lips and voice": replace(suspect, audio=calm.audio, visual=calm.visual)}
    if suspect.detail is not None:
        # The path for fine detail says first what it heard, then what it saw.
        (heard, seen), (calm_heard, calm_seen) = (f.detail.chunk(2, dim=-1) for f in (suspect, calm))
        mixed["fine detail of the sound"] = replace(suspect, detail=torch.cat([calm_heard, seen], dim=-1))
        mixed["fine detail of the picture"] = replace(suspect, detail=torch.cat([heard, calm_seen], dim=-1))
    raw = {part: judge_features(model, features).probability.item() for part, features in mixed.items()}
    return tuple(Swap(part, float(model.config.calibration.apply(value))) for part, value in raw.items())
