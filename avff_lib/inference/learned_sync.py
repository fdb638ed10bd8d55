"""`avff_lib.inference.sync` with a learned embedding: the same search over lags, by a `SyncNet`."""

from __future__ import annotations

from pathlib import Path

from avff_lib.inference.predictor import analyze_file
from avff_lib.inference.sync import SyncCurve, SyncResult
from avff_lib.models import SyncNet


def learned_sync_file(path: str | Path, model: SyncNet) -> SyncResult:
    """Measure the synchrony of a whole file, in memory that does not grow with its length.

    Args:
        path: a video with sound.
        model: in evaluation mode. Its agreement of lips and voice at each lag, in [-1, 1], is averaged over
            the windows in which the face speaks.

    Returns:
        Numbers as in `SyncCurve`; for a file that cannot be measured, a result with ``error`` set.
    """
    analysis = analyze_file(path, model, views=False)
    file = analysis.prediction
    if file.error:
        return SyncResult(str(path), error=file.error)
    found = SyncCurve(model.lags, analysis.features["fused_features"].numpy())
    return SyncResult.of_curve(path, found, file.warnings)
