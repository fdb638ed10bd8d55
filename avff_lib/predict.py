"""A media file -> windows -> scores of every face -> a verdict that says what it rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from avff_lib.clip import AVFFError, MediaError
from avff_lib.domain import INSIDE
from avff_lib.examine import CHUNK_HOPS, HOP, REASONS, Exhibits
from avff_lib.media.decode import iter_clips
from avff_lib.models import Detector
from avff_lib.timeline import decisive, faces_of, forged_segments
from avff_lib.verdict import Face, Report

CHECKPOINTS = Path(__file__).parent / "checkpoints"
SHIPPED = "avff-tiny"
Progress = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Examination:
    """A report, and what it can be illustrated with: None if there is an error."""

    report: Report
    exhibits: Exhibits | None = None


def load_detector(checkpoint: Path | str = SHIPPED) -> Detector:
    """The detector saved in a folder, or a shipped one by its name; those were trained on drawn faces."""
    shipped = {folder.name: folder for folder in CHECKPOINTS.iterdir()}
    return Detector.from_pretrained(shipped.get(str(checkpoint), checkpoint))


def predict_file(path: Path | str, model: Detector) -> Report:
    """Judge a whole file by sliding windows; memory does not grow with its length.

    Args:
        path: a video with sound.
        model: in evaluation mode.

    Returns:
        A report; for a file that cannot be judged one with ``error`` set. Nothing is raised for bad media.
    """
    return examine_file(path, model).report


def examine_file(path: Path | str, model: Detector, *, progress: Progress | None = None) -> Examination:
    """`predict_file`, and what `avff_lib.report` illustrates it with.

    Args:
        path, model: as in `predict_file`.
        progress: called with the seconds of video that were judged so far.
    """
    about = {"family": type(model).__name__, "trained_on": model.config.trained_on}
    try:
        exhibits = _exhibits(path, model, progress)
    except AVFFError as error:
        return Examination(Report(str(path), model=about, error=str(error)))
    windows = tuple(exhibits.windows)
    threshold, calibration = model.config.threshold, model.config.calibration
    faces = faces_of(windows, calibration)
    face = decisive(faces)
    strangeness = _strangeness(model, exhibits, face)
    report = Report(
        path=str(path),
        prediction=face.score,
        label="fake" if face.score >= threshold else "real",
        unsure=calibration.is_unsure(face.score),
        threshold=threshold,
        calibration=calibration,
        face=face.number,
        faces=faces,
        segments=forged_segments(windows, threshold, calibration),
        gaps=exhibits.gaps,
        windows=windows,
        strangeness=strangeness,
        judged=float(np.mean([window.missing is None for window in windows])),
        warnings=(*_unlike(strangeness), *exhibits.warnings),
        model=about,
    )
    return Examination(report, exhibits)


def process_video(path: Path | str, checkpoint: Path | str = SHIPPED) -> dict[str, float | Tensor]:
    """The documented one-call answer.

    Args:
        path: a video with sound.
        checkpoint: folder of a saved detector, or the name of a shipped one.

    Returns:
        ``prediction``, the probability of fake, calibrated, and ``audio_features``, ``visual_features``,
        ``fused_features``, each ``(D,)``, the mean over the windows in which the decisive face speaks.

    Raises:
        MediaError: the file cannot be judged, and why.
    """
    model = load_detector(checkpoint)
    exhibits = _exhibits(path, model, None)
    face = decisive(faces_of(exhibits.windows, model.config.calibration))
    audio, visual, fused = (total / face.windows for total in exhibits.sums[face.number])
    return {
        "prediction": face.score,
        "audio_features": audio,
        "visual_features": visual,
        "fused_features": fused,
    }


def _strangeness(model: Detector, exhibits: Exhibits, face: Face) -> dict[str, float]:
    if model.domain is None:
        return {}
    sound, picture, _ = (total / face.windows for total in exhibits.sums[face.number])
    return model.domain.strangeness(sound.numpy(), picture.numpy())


def _unlike(strangeness: dict[str, float]) -> tuple[str, ...]:
    far = [f"the {stream} lies {times:.2f} times" for stream, times in strangeness.items() if times > 1]
    if not far:
        return ()
    return (
        f"out of the detector's domain: {', '.join(far)} as far from the clips that it was calibrated on as "
        f"{INSIDE:.0%} of such clips do; the score is no ground for a verdict",
    )


def _exhibits(path: Path | str, model: Detector, progress: Progress | None) -> Exhibits:
    """Go through a file, and keep what is said of it.

    Raises:
        AVFFError: no part of it can be judged.
    """
    exhibits, spec = Exhibits(model), model.spec
    length, hop = spec.duration + CHUNK_HOPS * HOP, (CHUNK_HOPS + 1) * HOP
    for chunk in iter_clips(path, length, hop, shortest=spec.duration, sample_rate=spec.sample_rate):
        try:
            exhibits.add(chunk)
        except AVFFError as error:
            raise MediaError(f"{path} cannot be judged: {error}") from None
        if progress is not None:
            progress(chunk.end)
    missing = [window.missing for window in exhibits.windows]
    if all(missing):
        reason = REASONS[max(missing, key=missing.count)]
        raise MediaError(f"{path} cannot be judged: {reason}; give a video of a person speaking")
    return exhibits
