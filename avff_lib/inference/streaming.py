"""The pieces of a file, one after the other -> scored windows of every face."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from avff_lib.faces.tracked import FaceCrops, TrackedClip, join
from avff_lib.inference.evidence import FileEvidence
from avff_lib.inference.facts import LipSync, file_facts
from avff_lib.inference.prediction import (
    FacePrediction,
    FaceScore,
    FileFacts,
    Gap,
    Obstacle,
    WindowPrediction,
)
from avff_lib.inference.timeline import find_gaps
from avff_lib.inference.windows import BATCH_SIZE, WINDOW_HOP, WindowOutputs, predict_windows
from avff_lib.media.audio import SILENCE_PEAK
from avff_lib.media.facts import MediaFacts
from avff_lib.models import Detector

MIN_AUDIBLE_SHARE = 0.5  # of a window's time, to score it
MIN_VISIBLE_SHARE = 0.5  # of a window's frames that must show a face, to score it
MIN_FRAME_SHARE = 0.4  # of the frames that the model takes; with fewer, it would see too many repeated
GAP_RESOLUTION = 0.05  # seconds between the notes of whether there are faces and sound
MIN_FACE_RATIO = 0.25  # longer side of a face / side of the model's input; below it the face is too small
MIN_SPEAKING_RATIO = 0.5  # of the most active mouth's motion; at rest it is a fifth of speech, or less

OBSTACLE_NOTES: dict[Obstacle, str] = {
    "face": "parts without a face in sight are not scored",
    "sound": "parts without sound are not scored",
    "cut": "parts with a cut inside are not scored",
    "frames": "parts with too few frames a second to follow lips are not scored",
}


class StreamingPredictor:
    """Scores the windows of a file piece by piece; only scores and a little evidence are kept.

    The first window starts with the file, the next ones every `WINDOW_HOP` seconds, and one more ends with
    the file; the cuts between pieces do not matter.

    Args:
        model: in evaluation mode.
        batch_size: number of windows that the model takes at once.

    Attributes:
        windows: all so far, in order.
        warnings: sentences, as the keys of a dict, to keep their order.
        evidence: for a report.
        lip_sync: lips against voice, where `avff_lib.faces.tracked.FaceCrops.lip_motion` was measured.
        feature_sums: for each face, the sums of `WindowOutputs.means` and ``fused_features`` over the windows
            in which it speaks.
    """

    def __init__(self, model: Detector, batch_size: int = BATCH_SIZE) -> None:
        self.model, self.spec, self.batch_size = model, model.spec, batch_size
        self.windows: list[WindowPrediction] = []
        self.warnings: dict[str, None] = {}
        self.evidence = FileEvidence()
        self.lip_sync = LipSync()
        self.feature_sums: dict[int, dict[str, Tensor]] = {}
        self._start: float | None = None  # of the file, in seconds
        self._face_seen: list[bool] = []  # every `GAP_RESOLUTION` seconds
        self._on_grid = 0  # number of windows so far, without the one that ends with the file
        self._shown_last = False  # whether the last frame showed a face
        self._waiting: TrackedClip | None = None  # the end of the pieces so far, not yet a complete window

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Where there is no face, and where there is no sound."""
        audible = (peak >= SILENCE_PEAK for peak in self.evidence.audio_peaks)
        start = self._start or 0.0
        gaps = [
            *find_gaps(self._face_seen, GAP_RESOLUTION, start, "face"),
            *find_gaps(audible, GAP_RESOLUTION, start, "sound"),
        ]
        return tuple(sorted(gaps, key=lambda gap: gap.start))

    def facts(self, media: MediaFacts) -> FileFacts:
        """Facts about the file; ``media`` are those of its streams."""
        peaks = self.evidence.audio_peaks
        return file_facts(media, self.lip_sync, peaks, GAP_RESOLUTION, self._start or 0.0)

    def mean_features(self, face: FacePrediction) -> dict[str, Tensor]:
        """Features of a face, each ``(D,)``: means over the windows in which it speaks and their time."""
        return {name: total / face.windows for name, total in self.feature_sums[face.number].items()}

    def warn(self, *sentences: str) -> None:
        """Note each sentence once."""
        self.warnings.update(dict.fromkeys(sentences))

    def update(self, piece: TrackedClip) -> None:
        """Score the windows that a piece completes; pieces come in order, each where the last one ends."""
        if self._start is None:
            self._start = piece.start
        # What holds throughout a piece need not hold for the file; `gaps` say where.
        self.warn(*(warning for warning in piece.warnings if not warning.endswith("throughout")))
        self._note_presence(piece)
        self.lip_sync.update(piece)
        part = piece if self._waiting is None else join([self._waiting, piece])
        starts = self._complete(part)
        windows = [part.window(start, self.spec.duration) for start in starts]
        obstacles = [_obstacle(window, self.spec.frame_count) for window in windows]
        scorable = [
            {} if obstacle else self._scorable_faces(window)
            for window, obstacle in zip(windows, obstacles, strict=True)
        ]
        outputs = {
            number: self._predict_face(number, windows, scorable)
            for number in sorted({number for faces in scorable for number in faces})
        }
        for window, faces, obstacle in zip(windows, scorable, obstacles, strict=True):
            here = {number: outputs[number][window.start] for number in faces}
            self._add_window(window, self._score_faces(window, faces, here), obstacle)
        self.evidence.forget_all_but(part.faces)
        if not piece.last:
            # The next window on the grid, or the one that ends with the file, whichever begins earlier.
            next_start = self._grid_start(self._on_grid)
            keep = max(part.start, min(next_start, part.end - self.spec.duration))
            self._waiting = part.window(keep, part.end - keep)

    def _complete(self, part: TrackedClip) -> list[float]:
        """Starts of the windows that end within ``part`` and are not scored yet."""
        latest, tolerance = part.end - self.spec.duration, 0.5 / part.sample_rate
        starts = []
        while self._grid_start(self._on_grid) <= latest + tolerance:
            starts.append(self._grid_start(self._on_grid))
            self._on_grid += 1
        if part.last and latest - self._grid_start(self._on_grid - 1) > WINDOW_HOP / 100:
            starts.append(latest)
        return starts

    def _grid_start(self, index: int) -> float:
        return (self._start or 0.0) + index * WINDOW_HOP

    def _note_presence(self, piece: TrackedClip) -> None:
        """Note, every `GAP_RESOLUTION` seconds, whether a face is visible and how loud the sound is."""
        seen = np.zeros(len(piece.times), bool)
        for face in piece.faces.values():
            seen[np.searchsorted(piece.times, face.times[face.detected])] = True
        seen = np.append(self._shown_last, seen)  # a frame stays on the screen until the next one
        count = round((piece.end - (self._start or 0.0)) / GAP_RESOLUTION) - len(self._face_seen)
        step = round(GAP_RESOLUTION * piece.sample_rate)
        for index in range(count):
            middle = piece.start + (index + 0.5) * GAP_RESOLUTION
            self._face_seen.append(bool(seen[np.searchsorted(piece.times, middle, side="right")]))
            samples = piece.waveform[index * step : (index + 1) * step]
            self.evidence.audio_peaks.append(float(np.abs(samples).max(initial=0.0)))
        self._shown_last = bool(seen[-1])

    def _scorable_faces(self, window: TrackedClip) -> dict[int, FaceCrops]:
        """The faces that are visible for long enough, large enough, and upright."""
        least = MIN_FACE_RATIO * self.spec.image_size
        found = {}
        for number, face in window.faces.items():
            sides = (face.boxes[:, 2:] - face.boxes[:, :2]) * window.frame_size[::-1]
            if face.detected.sum() < MIN_VISIBLE_SHARE * len(window.times):
                continue
            if sides.max() < least:
                self.warn(f"faces smaller than {least:.0f} pixels are not scored")
            elif not face.is_upright:
                self.warn("faces that lie on their side or are upside down are not scored; turn the video")
            else:
                found[number] = face
        return found

    def _predict_face(
        self, number: int, windows: Sequence[TrackedClip], scorable: Sequence[dict[int, FaceCrops]]
    ) -> dict[float, WindowOutputs]:
        """Run the detector over windows of one face -> its outputs by start."""
        chosen = [window for window, faces in zip(windows, scorable, strict=True) if number in faces]
        starts = [window.start for window in chosen]
        clips = [window.face_clip(number) for window in chosen]
        outputs = predict_windows(self.model, clips, batch_size=self.batch_size)
        self.evidence.add_mismatched(self.model, starts, outputs.features)
        return {start: outputs[[row]] for row, start in enumerate(starts)}

    def _score_faces(
        self, window: TrackedClip, faces: dict[int, FaceCrops], outputs: dict[int, WindowOutputs]
    ) -> list[FaceScore]:
        """Scores of each face of a window, in order of their numbers."""
        activity = {number: face.activity for number, face in faces.items()} if len(faces) > 1 else {}
        scores = []
        for number, output in outputs.items():
            speaks = not activity or activity[number] >= MIN_SPEAKING_RATIO * max(activity.values())
            raw, box = output.probability.item(), faces[number].boxes
            score = FaceScore(
                face=number,
                score=float(self.model.config.calibration.apply_to_windows(raw)),
                raw=raw,
                agreement=output.agreement.item(),
                speaks=bool(speaks),
                box=tuple(box[len(box) // 2].round(3).tolist()),
            )
            self.evidence.add_window(window, score, output)
            if speaks:
                self._add_features(number, output)
            scores.append(score)
        return scores

    def _add_features(self, number: int, output: WindowOutputs) -> None:
        features = {**output.means, "fused_features": output.fused}
        sums = self.feature_sums.setdefault(number, {})
        for name, values in features.items():
            sums[name] = sums[name] + values[0] if name in sums else values[0]

    def _add_window(self, window: TrackedClip, faces: Sequence[FaceScore], obstacle: Obstacle | None) -> None:
        if not faces:
            obstacle = obstacle or "face"
            self.warn(OBSTACLE_NOTES[obstacle])
        elif len(window.times) < self.spec.frame_count:
            self.warn(
                f"the model takes {self.spec.frame_count} frames in {self.spec.duration:g} s; here are "
                "fewer, some were repeated, the score is doubtful"
            )
        self.windows.append(
            WindowPrediction(
                start=float(round(window.start, 3)),
                end=float(round(window.end, 3)),
                score=max((face.score for face in faces if face.speaks), default=None),
                obstacle=obstacle,
                faces=tuple(faces),
            )
        )


def _obstacle(window: TrackedClip, frame_count: int) -> Obstacle | None:
    """Why a model of ``frame_count`` frames cannot score a window, regardless of its faces."""
    if len(window.cuts):
        return "cut"
    if len(window.times) < MIN_FRAME_SHARE * frame_count:
        return "frames"
    step = round(GAP_RESOLUTION * window.sample_rate)
    peaks = np.abs(window.waveform[: len(window.waveform) // step * step]).reshape(-1, step).max(axis=1)
    return "sound" if (peaks >= SILENCE_PEAK).mean() < MIN_AUDIBLE_SHARE else None
