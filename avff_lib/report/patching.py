"""Which kind of evidence made a window suspicious: lips against voice, or the fine detail of a stream."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from avff_lib.inference.evidence import FileEvidence
from avff_lib.inference.windows import predict_features
from avff_lib.models import Detector
from avff_lib.nn.features import Features

MIN_SCORE_DIFFERENCE = 0.2  # between two windows, for their comparison to show anything


@dataclass(frozen=True)
class Patch:
    """A part of the most suspicious window, replaced by the reference window's, and the resulting score."""

    part: str
    score: float


@dataclass(frozen=True)
class PatchingResult:
    """Findings on the most suspicious window; see `patch_activations`.

    Attributes:
        agreement: of lips and voice, in [-1, 1].
        by_chance: mean and standard deviation of the agreement of faces in this file with the audio of
            *other* windows; None if the file is too short.
        reference_start: start of the same face's least suspicious window, in seconds.
        reference_score: of that window.
        patches: each part, replaced alone; empty if the two windows score about the same.
    """

    agreement: float
    by_chance: tuple[float, float] | None
    reference_start: float
    reference_score: float
    patches: tuple[Patch, ...]


def patch_activations(model: Detector, evidence: FileEvidence) -> PatchingResult:
    """Compare the most suspicious window of a file with the least suspicious one of the same face.

    Each kind of evidence in turn is replaced by that of the reference window, and the window is scored again.
    The part whose replacement lowers the score most caused the suspicion. The comparison is inside one file,
    so it is uninformative for a file that is fake, or real, throughout; parts can also act together, so the
    drops need not add up. The method is activation patching (Vig et al., 2020, arXiv 2004.12265).

    Args:
        model: the detector that scored the file.
        evidence: of a file in which at least one window was scored.
    """
    suspect, mismatched = evidence.most_suspicious, evidence.mismatched_agreement
    assert suspect is not None  # at least one window was scored
    reference = evidence.least_suspicious[suspect.face.face]
    differ = suspect.face.score - reference.score >= MIN_SCORE_DIFFERENCE
    return PatchingResult(
        agreement=suspect.face.agreement,
        by_chance=(float(np.mean(mismatched)), float(np.std(mismatched))) if mismatched else None,
        reference_start=reference.start,
        reference_score=reference.score,
        patches=_patches(model, suspect.features, reference.features) if differ else (),
    )


def _patches(model: Detector, suspect: Features, reference: Features) -> tuple[Patch, ...]:
    patched = {"lips and voice": replace(suspect, audio=reference.audio, visual=reference.visual)}
    if suspect.detail is not None and reference.detail is not None:
        # The detail path puts audio first and video second.
        (audio, video), (ref_audio, ref_video) = (
            f.chunk(2, dim=-1) for f in (suspect.detail, reference.detail)
        )
        patched["fine detail of the audio"] = replace(suspect, detail=torch.cat([ref_audio, video], dim=-1))
        patched["fine detail of the video"] = replace(suspect, detail=torch.cat([audio, ref_video], dim=-1))
    raw = {part: predict_features(model, features).probability.item() for part, features in patched.items()}
    calibration = model.config.calibration
    return tuple(Patch(part, float(calibration.apply_to_windows(value))) for part, value in raw.items())
