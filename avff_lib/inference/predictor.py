"""The only way from a media file to a prediction: track faces, score windows, combine, decide.

All scoring goes through `score_pieces`: `predict`, the command line and the demo, and also evaluation,
calibration, validation during training and robustness, whose clips may have been tracked before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from avff_lib.errors import AVFFError, MediaError
from avff_lib.faces.tracked import TrackedClip, iter_tracked
from avff_lib.inference.evidence import FileEvidence
from avff_lib.inference.prediction import FacePrediction, FilePrediction, Label, Reason
from avff_lib.inference.streaming import MIN_FRAME_SHARE, OBSTACLE_NOTES, StreamingPredictor
from avff_lib.inference.timeline import (
    aggregate_faces,
    by_face,
    combine_faces,
    find_fake_segments,
    speaking_faces,
)
from avff_lib.inference.windows import BATCH_SIZE
from avff_lib.media.facts import MediaObserver
from avff_lib.models import Detector
from avff_lib.models.checkpoint import DEFAULT_CHECKPOINT

DOCUMENTED_FEATURES = ("audio_features", "visual_features", "fused_features")
MIN_COVERAGE = 0.5  # share of a file's windows that must be scored for a label
MIN_SCORED_WINDOWS = 3  # of the selected face, for a label

Progress = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class FileAnalysis:
    """A prediction and its basis; if the prediction holds an error, there is nothing else.

    Attributes:
        prediction: that of the file.
        raw: uncalibrated score of the selected face, the mean over the windows in which it speaks; NaN with
            an error.
        evidence: used by `avff_lib.report` for illustration.
        features: of the selected face, each ``(D,)``: means over the windows in which it speaks, and over
            their time. They are ``fused_features`` and those of `avff_lib.models.ood.STREAM_OF`.
    """

    prediction: FilePrediction
    raw: float = np.nan
    evidence: FileEvidence | None = None
    features: dict[str, Tensor] = field(default_factory=dict)


def predict(
    path: Path | str,
    detector: Detector | Path | str = DEFAULT_CHECKPOINT,
    *,
    progress: Progress | None = None,
) -> FilePrediction:
    """Score a media file by sliding windows; memory does not grow with its length.

    For many files, load the detector once and pass it, or call its `Detector.predict`.

    Args:
        path: a video with sound.
        detector: a detector in evaluation mode, or a name or path for `Detector.from_pretrained`.
        progress: called with the seconds of video scored so far.

    Returns:
        The prediction; for a file that cannot be scored, one with ``error`` set. Bad media raise nothing.

    Raises:
        AVFFError: the detector does not exist.
    """
    if not isinstance(detector, Detector):
        detector = Detector.from_pretrained(detector)
    return analyze_file(path, detector, progress=progress, views=False).prediction


def process_video(
    path: Path | str, checkpoint: Path | str = DEFAULT_CHECKPOINT
) -> dict[str, float | str | tuple[str, ...] | Tensor]:
    """The documented one-call interface.

    Args:
        path: a video with sound.
        checkpoint: name or path for `Detector.from_pretrained`.

    Returns:
        ``prediction``, the calibrated probability of fake, for every label; ``label`` and ``reasons``, as in
        `avff_lib.inference.prediction.FilePrediction`; and those features of `FileAnalysis` that
        `DOCUMENTED_FEATURES` names.

    Raises:
        MediaError: the file cannot be scored; the message gives the reason.
    """
    analysis = analyze_file(path, Detector.from_pretrained(checkpoint), views=False)
    file = analysis.prediction
    if file.score is None or file.label is None:
        raise MediaError(str(file.error))
    features = {name: analysis.features[name] for name in DOCUMENTED_FEATURES}
    return {"prediction": file.score, "label": file.label, "reasons": file.reasons, **features}


def analyze_file(
    path: Path | str,
    model: Detector,
    *,
    progress: Progress | None = None,
    batch_size: int = BATCH_SIZE,
    audio_stream: int | None = None,
    views: bool = True,
) -> FileAnalysis:
    """`predict`, with the basis of the prediction.

    Args:
        path: a video with sound.
        model: in evaluation mode.
        progress: called with the seconds of video scored so far.
        batch_size: number of windows that the model takes at once.
        audio_stream: see `avff_lib.media.decode.read_clip`.
        views: whether the evidence holds pictures, which needs a second crop of each face in each frame.
    """
    observer = MediaObserver()
    pieces = iter_tracked(
        path,
        model.spec.image_size,
        region=model.spec.region,
        sample_rate=model.spec.sample_rate,
        min_duration=model.spec.duration,
        audio_stream=audio_stream,
        views=views,
        observer=observer,
    )
    return score_pieces(path, pieces, model, progress=progress, batch_size=batch_size, observer=observer)


def score_pieces(
    path: Path | str,
    pieces: Iterable[TrackedClip],
    model: Detector,
    *,
    progress: Progress | None = None,
    batch_size: int = BATCH_SIZE,
    observer: MediaObserver | None = None,
) -> FileAnalysis:
    """`analyze_file` for a file whose faces are tracked already.

    Args:
        path: of the file, for the prediction and its messages.
        pieces: those of the whole file, in order, with crops of ``model.spec.image_size``.
        model: in evaluation mode.
        progress: called with the seconds of video scored so far.
        batch_size: number of windows that the model takes at once.
        observer: watches the decoding of the pieces, for the facts about the file.
    """
    try:
        stream = _stream(path, pieces, StreamingPredictor(model, batch_size), progress)
    except AVFFError as error:
        return failed_analysis(path, model, str(error))
    windows, calibration = tuple(stream.windows), model.config.calibration
    faces = aggregate_faces(windows, calibration)
    counted = speaking_faces(faces)
    score = combine_faces([face.score for face in counted if face.score is not None])
    features = stream.mean_features(counted[0])
    ood_scores: dict[str, float] = {}
    if model.ood is not None:
        ood_scores = model.ood.ood_scores({name: values.numpy() for name, values in features.items()})
    coverage = float(np.mean([window.score is not None for window in windows]))
    reasons = tuple(_reasons(model, score, counted[0], coverage, ood_scores))
    label: Label = "undetermined" if reasons else model.labels[score >= model.config.threshold]
    prediction = FilePrediction(
        path=str(path),
        label=label,
        reasons=reasons,
        prediction=None if label == "undetermined" else score,
        score=score,
        threshold=model.config.threshold,
        offset=_offset(model, features["fused_features"]),
        calibration=calibration,
        face=counted[0].number,
        faces=faces,
        segments=find_fake_segments(windows, calibration),
        gaps=stream.gaps,
        windows=windows,
        coverage=coverage,
        ood_scores=ood_scores,
        warnings=tuple(stream.warnings),
        model=_about(model),
    )
    media = None if observer is None else observer.facts()
    if media is not None:
        prediction = replace(prediction, facts=stream.facts(media))
    raw = [face.raw for _, face in by_face(windows)[counted[0].number] if face.speaks]
    return FileAnalysis(prediction, model.config.calibration.pool(raw), stream.evidence, features)


def failed_analysis(path: Path | str, model: Detector, error: str) -> FileAnalysis:
    """The analysis of a file that cannot be scored; ``error`` is the reason, in one sentence."""
    return FileAnalysis(FilePrediction(str(path), model=_about(model), error=error))


def _about(model: Detector) -> dict[str, str]:
    return {"family": type(model).__name__, "trained_on": model.config.trained_on}


def _stream(
    path: Path | str, pieces: Iterable[TrackedClip], stream: StreamingPredictor, progress: Progress | None
) -> StreamingPredictor:
    """Score the pieces of a file one by one.

    Raises:
        AVFFError: no part of it can be scored.
    """
    for piece in pieces:
        try:
            stream.update(piece)
        except AVFFError as error:
            raise MediaError(f"{path} cannot be scored: {error}") from None
        if progress is not None:
            progress(piece.end)
    if not any(window.score is not None for window in stream.windows):
        obstacles = [window.obstacle for window in stream.windows if window.obstacle]
        reason, wanted = f"it is shorter than a window of {stream.spec.duration:g} s", "of a person speaking"
        if obstacles:
            obstacle = max(obstacles, key=obstacles.count)
            reason = OBSTACLE_NOTES[obstacle]
            if obstacle == "frames":
                rate = MIN_FRAME_SHARE * stream.spec.frame_count / stream.spec.duration
                wanted = f"with {rate:.0f} frames a second or more"
        raise MediaError(f"{path} cannot be scored: {reason}; give a video {wanted}")
    return stream


def _reasons(
    model: Detector, score: float, face: FacePrediction, coverage: float, ood_scores: dict[str, float]
) -> Iterable[Reason]:
    """Why a file is undetermined."""
    calibration = model.config.calibration
    if not calibration.clips:
        yield "uncalibrated"
    if any(distance > 1 for distance in ood_scores.values()):
        yield "out_of_distribution"
    if calibration.is_unsure(score):
        yield "unsure"
    if coverage < MIN_COVERAGE or face.windows < MIN_SCORED_WINDOWS:
        yield "low_coverage"


def _offset(model: Detector, fused: Tensor) -> float | None:
    """Where the mean curve of a face's windows, ``(L,)``, is highest, if the detector searches over lags."""
    return None if model.lags is None else float(model.lags[int(fused.argmax())])
