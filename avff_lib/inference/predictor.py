"""The one way from a media file to a prediction: decode in chunks, score windows, aggregate, decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from avff_lib.errors import AVFFError, MediaError
from avff_lib.inference.evidence import FileEvidence
from avff_lib.inference.prediction import ClipPrediction, FilePrediction
from avff_lib.inference.streaming import CHUNK_HOPS, OBSTACLE_NOTES, StreamingPredictor
from avff_lib.inference.timeline import aggregate_faces, aggregate_scores, find_fake_segments, select_face
from avff_lib.inference.windows import WINDOW_HOP, predict_windows, sliding_windows
from avff_lib.media.clip import Clip
from avff_lib.media.decode import iter_clips
from avff_lib.models import Detector
from avff_lib.models.checkpoint import DEFAULT_CHECKPOINT
from avff_lib.models.ood import COVERAGE

Progress = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class FileAnalysis:
    """A prediction with what it rests on; if it holds an error, there is nothing else.

    Attributes:
        prediction: of the file.
        evidence: that `avff_lib.report` illustrates it with.
        features: ``audio_features``, ``visual_features`` and ``fused_features`` of the selected face, each
            ``(D,)``: means over the windows in which it speaks, and over their time.
    """

    prediction: FilePrediction
    evidence: FileEvidence | None = None
    features: dict[str, Tensor] = field(default_factory=dict)


def predict(
    path: Path | str,
    detector: Detector | Path | str = DEFAULT_CHECKPOINT,
    *,
    progress: Progress | None = None,
) -> FilePrediction:
    """Score a media file by sliding windows; memory does not grow with its length.

    For many files, load the detector once and give it, or call its `Detector.predict`.

    Args:
        path: a video with sound.
        detector: a detector in evaluation mode, or what `Detector.from_pretrained` loads.
        progress: called with the seconds of video scored so far.

    Returns:
        The prediction; for a file that cannot be scored one with ``error`` set. Bad media raise nothing.

    Raises:
        AVFFError: there is no such detector.
    """
    if not isinstance(detector, Detector):
        detector = Detector.from_pretrained(detector)
    return analyze_file(path, detector, progress=progress).prediction


def process_video(path: Path | str, checkpoint: Path | str = DEFAULT_CHECKPOINT) -> dict[str, float | Tensor]:
    """The documented one-call interface.

    Args:
        path: a video with sound.
        checkpoint: what `Detector.from_pretrained` loads.

    Returns:
        ``prediction``, the calibrated probability of fake, and the features of `FileAnalysis`.

    Raises:
        MediaError: the file cannot be scored, and why.
    """
    analysis = analyze_file(path, Detector.from_pretrained(checkpoint))
    prediction = analysis.prediction
    if prediction.prediction is None:
        raise MediaError(str(prediction.error))
    return {"prediction": prediction.prediction, **analysis.features}


def analyze_file(path: Path | str, model: Detector, *, progress: Progress | None = None) -> FileAnalysis:
    """`predict`, with what the prediction rests on; every way to score a file goes through here."""
    about = {"family": type(model).__name__, "trained_on": model.config.trained_on}
    try:
        stream = _stream(path, model, progress)
    except AVFFError as error:
        return FileAnalysis(FilePrediction(str(path), model=about, error=str(error)))
    windows = tuple(stream.windows)
    threshold, calibration = model.config.threshold, model.config.calibration
    faces = aggregate_faces(windows, calibration)
    face = select_face(faces)
    assert face.score is not None  # the selected face speaks
    audio, visual, fused = stream.mean_features(face)
    ood_scores = {} if model.ood is None else model.ood.ood_scores(audio.numpy(), visual.numpy())
    prediction = FilePrediction(
        path=str(path),
        prediction=face.score,
        label="fake" if face.score >= threshold else "real",
        unsure=calibration.is_unsure(face.score),
        threshold=threshold,
        calibration=calibration,
        face=face.number,
        faces=faces,
        segments=find_fake_segments(windows, threshold, calibration),
        gaps=stream.gaps,
        windows=windows,
        coverage=float(np.mean([window.obstacle is None for window in windows])),
        ood_scores=ood_scores,
        warnings=(*_ood_warnings(ood_scores), *stream.warnings),
        model=about,
    )
    features = {"audio_features": audio, "visual_features": visual, "fused_features": fused}
    return FileAnalysis(prediction, stream.evidence, features)


def predict_clip(clip: Clip, model: Detector) -> ClipPrediction:
    """Score a clip that is cropped to one face: the mean over its sliding windows, calibrated.

    Args:
        clip: at least ``model.spec.duration`` long, at ``model.spec.sample_rate``.
        model: in evaluation mode.

    Raises:
        AVFFError: the model's output is not finite.
    """
    calibration = model.config.calibration
    windows = sliding_windows(clip, model.spec.duration, WINDOW_HOP)
    outputs = predict_windows(model, windows)
    raw = outputs.probability.numpy()
    features = outputs.features
    return ClipPrediction(
        score=aggregate_scores(raw, calibration),
        raw=float(raw.mean()),
        starts=np.array([window.start for window in windows]),
        window_scores=calibration.apply(raw),
        audio_features=features.audio.mean(dim=(0, 1)).numpy(),
        visual_features=features.visual.mean(dim=(0, 1)).numpy(),
    )


def _stream(path: Path | str, model: Detector, progress: Progress | None) -> StreamingPredictor:
    """Decode a file chunk by chunk and score its windows.

    Raises:
        AVFFError: no part of it can be scored.
    """
    stream, spec = StreamingPredictor(model), model.spec
    length, hop = spec.duration + CHUNK_HOPS * WINDOW_HOP, (CHUNK_HOPS + 1) * WINDOW_HOP
    for chunk in iter_clips(path, length, hop, min_duration=spec.duration, sample_rate=spec.sample_rate):
        try:
            stream.update(chunk)
        except AVFFError as error:
            raise MediaError(f"{path} cannot be scored: {error}") from None
        if progress is not None:
            progress(chunk.end)
    obstacles = [window.obstacle for window in stream.windows if window.obstacle]
    if len(obstacles) == len(stream.windows):
        reason = OBSTACLE_NOTES[max(obstacles, key=obstacles.count)]
        raise MediaError(f"{path} cannot be scored: {reason}; give a video of a person speaking")
    return stream


def _ood_warnings(scores: dict[str, float]) -> tuple[str, ...]:
    far = [f"its {stream} features lie {score:.2f} times" for stream, score in scores.items() if score > 1]
    if not far:
        return ()
    return (
        f"out of distribution: {', '.join(far)} as far from the validation clips as {COVERAGE:.0%} of such "
        "clips do; the score is no ground for a verdict",
    )
