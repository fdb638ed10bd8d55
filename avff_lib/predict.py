"""A media file -> windows -> scores -> a verdict that says what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avff_lib.clip import AVFFError, Clip, MediaError
from avff_lib.data.loader import prepared_windows, windows_over
from avff_lib.media.decode import iter_clips
from avff_lib.media.faces import FaceTrack, crop_face, speaker_face, track_faces
from avff_lib.models import Detector

CHECKPOINTS = Path(__file__).parent / "checkpoints"
SHIPPED = "avff-tiny"
HOP = 0.5  # seconds from one window to the next
CHUNK_HOPS = 6  # a chunk of video holds so many hops and one window; the face is tracked through it
SILENCE = 1e-3  # peak of a window (-60 dB) below which there is no sound to judge
BATCH = 16


@dataclass(frozen=True)
class Window:
    """Score of one window: ``start`` and ``end`` in seconds, probability of fake or None if not judged."""

    start: float
    end: float
    score: float | None


@dataclass(frozen=True)
class Report:
    """The answer for one file.

    Attributes:
        path: as it was given.
        prediction: probability of fake in [0, 1]; None where there is an error.
        label: ``"fake"`` or ``"real"`` by ``threshold``; None where there is an error.
        unsure: whether the prediction lies where scores of either class are too common for a verdict.
        threshold: chosen on validation data when the model was trained.
        windows: all windows, also those that could not be judged.
        faces: share of the windows in which there were a face to see and a sound to hear.
        warnings: one sentence each.
        model: family and what it was trained on.
        error: one sentence, or None.
    """

    path: str
    prediction: float | None = None
    label: str | None = None
    unsure: bool = False
    threshold: float | None = None
    windows: tuple[Window, ...] = ()
    faces: float = 0.0
    warnings: tuple[str, ...] = ()
    model: dict[str, str] = field(default_factory=dict)
    error: str | None = None


def load_detector(checkpoint: Path | str = SHIPPED) -> Detector:
    """The detector saved in a folder, or a shipped one by its name; those were trained on drawn faces."""
    shipped = {folder.name: folder for folder in CHECKPOINTS.iterdir()}
    return Detector.from_pretrained(shipped.get(str(checkpoint), checkpoint))


@dataclass(frozen=True, eq=False)
class Judged:
    """What a detector says of N windows: ``probability`` ``(N,)`` of fake, uncalibrated; features ``(N, D)``.

    The features are means over time of the audio, the visual and the fused sequence.
    """

    probability: Tensor
    audio: Tensor
    visual: Tensor
    fused: Tensor


@torch.inference_mode()
def judge_windows(model: Detector, windows: Sequence[Clip]) -> Judged:
    """Run the detector over windows: clips of ``model.spec.duration`` seconds, cut to the face."""
    batches = []
    for first in range(0, len(windows), BATCH):
        features = model.features(prepared_windows(windows[first : first + BATCH], model.spec))
        fused = model.fuse(features)
        means = [part.mean(dim=1) for part in (features.audio, features.visual, fused)]
        batches.append([torch.sigmoid(model.head(fused)), *means])
    return Judged(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def clip_score(model: Detector, probabilities: Tensor) -> float:
    """Probabilities of a file's windows ``(N,)``, uncalibrated -> the file's: their mean, calibrated."""
    return float(model.calibrated(probabilities.mean()))


def predict_file(path: Path | str, model: Detector) -> Report:
    """Judge a whole file by sliding windows; memory does not grow with its length.

    A file that cannot be judged gives a report with ``error`` set; nothing is raised for bad media.
    """
    about = {"family": type(model).__name__, "trained_on": model.config.trained_on}
    try:
        windows, judged, warnings = _judge_file(path, model)
    except AVFFError as error:
        return Report(str(path), model=about, error=str(error))
    prediction = clip_score(model, judged.probability)
    return Report(
        path=str(path),
        prediction=prediction,
        label="fake" if prediction >= model.config.threshold else "real",
        unsure=model.config.calibration.is_unsure(prediction),
        threshold=model.config.threshold,
        windows=windows,
        faces=len(judged.probability) / len(windows),
        warnings=warnings,
        model=about,
    )


def process_video(path: Path | str, checkpoint: Path | str = SHIPPED) -> dict[str, float | Tensor]:
    """The documented one-call answer.

    Args:
        path: a video with sound.
        checkpoint: folder of a saved detector, or the name of a shipped one.

    Returns:
        ``prediction``, the probability of fake, and ``audio_features``, ``visual_features``,
        ``fused_features``, each ``(D,)``, the mean over all windows.

    Raises:
        MediaError: the file cannot be judged, and why.
    """
    model = load_detector(checkpoint)
    _, judged, _ = _judge_file(path, model)
    return {
        "prediction": clip_score(model, judged.probability),
        "audio_features": judged.audio.mean(dim=0),
        "visual_features": judged.visual.mean(dim=0),
        "fused_features": judged.fused.mean(dim=0),
    }


def _judge_file(path: Path | str, model: Detector) -> tuple[tuple[Window, ...], Judged, tuple[str, ...]]:
    """All windows of a file in order, what was said of those that could be judged, and warnings."""
    spec = model.spec
    found: list[Window] = []
    judged: list[Judged] = []
    warnings: dict[str, None] = {}  # a set that keeps its order
    chunks = iter_clips(
        path,
        spec.duration + CHUNK_HOPS * HOP,
        (CHUNK_HOPS + 1) * HOP,
        shortest=spec.duration,
        sample_rate=spec.sample_rate,
    )
    for chunk in chunks:
        warnings.update(dict.fromkeys(chunk.warnings))
        face = speaker_face(track_faces(chunk))
        faces = None if face is None else crop_face(chunk, face, spec.image_size)
        usable = []
        for window in windows_over(chunk, spec.duration, HOP):
            if found and window.start < found[-1].start + HOP / 100:
                continue  # the last chunk is moved back to end with the file
            reason = _not_judgeable(window, face, chunk)
            found.append(Window(round(window.start, 3), round(window.end, 3), None))
            if reason:
                warnings[reason] = None
            else:
                if len(window.frames) < spec.frame_count:
                    warnings[
                        f"the model looks at {spec.frame_count} frames in {spec.duration:g} s; here are "
                        "fewer, some were repeated, the score is doubtful"
                    ] = None
                usable.append((len(found) - 1, faces.window(window.start, window.duration)))
        if usable:
            places, windows = zip(*usable, strict=True)
            judged.append(judge_windows(model, windows))
            scores = model.calibrated(judged[-1].probability).tolist()  # on the scale of the file's
            for place, score in zip(places, scores, strict=True):
                found[place] = replace(found[place], score=score)
    if not judged:
        raise MediaError(f"{path} cannot be judged: {list(warnings)[-1]}; give a video of a person speaking")
    merged = (
        torch.cat([getattr(part, name) for part in judged])
        for name in ("probability", "audio", "visual", "fused")
    )
    return tuple(found), Judged(*merged), tuple(warnings)


def _not_judgeable(window: Clip, face: FaceTrack | None, chunk: Clip) -> str | None:
    """Why a window of ``chunk`` cannot be judged, or None."""
    inside = (chunk.times >= window.start) & (chunk.times < window.end)
    if face is None or face.found[inside].mean() < 0.5:
        return "parts without a face in sight are not judged"
    if np.abs(window.waveform).max() < SILENCE:
        return "parts without sound are not judged"
    return None
