"""The chunks of a file, one after the other -> scored windows of every face."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from avff_lib.faces.crop import crop_face
from avff_lib.faces.mouth import MOUTH_CROP_SIZE, mouth_opening_of_crops
from avff_lib.faces.track import FaceTrack
from avff_lib.faces.tracker import FaceTracker
from avff_lib.inference.evidence import FileEvidence, frames_of
from avff_lib.inference.prediction import FacePrediction, FaceScore, Gap, Obstacle, WindowPrediction
from avff_lib.inference.timeline import find_gaps
from avff_lib.inference.windows import WINDOW_HOP, WindowOutputs, predict_windows, sliding_windows
from avff_lib.media.clip import Clip
from avff_lib.media.shots import detect_cuts
from avff_lib.models import Detector

CHUNK_HOPS = 6  # a chunk of video holds so many hops and one window; faces are tracked through it
SILENCE_PEAK = 1e-3  # amplitude (-60 dB) below which there is no sound
MIN_AUDIBLE_SHARE = 0.5  # of a window's time, to score it
MIN_VISIBLE_SHARE = 0.5  # of a window's frames that must show a face, to score it
GAP_RESOLUTION = 0.05  # seconds; of the notes on where there are faces and sound
MIN_FACE_RATIO = 0.25  # longer side of a face / side of the model's input; below it the face is too small
MIN_SPEAKING_RATIO = 0.5  # of the liveliest mouth's movement; at rest it is a fifth of speech, or less

OBSTACLE_NOTES: dict[Obstacle, str] = {
    "face": "parts without a face in sight are not scored",
    "sound": "parts without sound are not scored",
    "cut": "parts with a cut inside are not scored",
}


class StreamingPredictor:
    """Scores the windows of a file while its chunks go by; only scores and a little evidence are kept.

    Attributes:
        windows: all so far, in order.
        warnings: sentences, as the keys of a dict, which keep their order.
        evidence: for a report.
        feature_sums: for each face, over the windows in which it speaks: audio, visual and fused features.
    """

    def __init__(self, model: Detector) -> None:
        self.model, self.spec = model, model.spec
        self.windows: list[WindowPrediction] = []
        self.warnings: dict[str, None] = {}
        self.evidence = FileEvidence()
        self.feature_sums: dict[int, list[Tensor]] = {}
        self._tracker = FaceTracker()
        self._start: float | None = None  # of the file, in seconds
        self._face_seen: list[bool] = []  # every `GAP_RESOLUTION` seconds

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

    def mean_features(self, face: FacePrediction) -> list[Tensor]:
        """Audio, visual and fused features of a face, each ``(D,)``: means over windows and their time."""
        return [total / face.windows for total in self.feature_sums[face.number]]

    def warn(self, *sentences: str) -> None:
        """Note each sentence once."""
        self.warnings.update(dict.fromkeys(sentences))

    def update(self, chunk: Clip) -> None:
        """Score the new windows of a chunk; chunks come in order, and overlap by `WINDOW_HOP` or more."""
        # What holds throughout a chunk need not hold for the file; `gaps` say where.
        self.warn(*(warning for warning in chunk.warnings if not warning.endswith("throughout")))
        cuts = detect_cuts(chunk)
        in_sight = self._tracker.update(chunk, cuts)
        self._note_presence(chunk, in_sight)
        tracks = self._large_enough(in_sight)
        done = self.windows[-1].start + WINDOW_HOP / 100 if self.windows else -np.inf
        # The last chunk is moved back to end with the file, so it holds windows that are known.
        windows = [w for w in sliding_windows(chunk, self.spec.duration, WINDOW_HOP) if w.start >= done]
        obstacles = [_obstacle(window, chunk, cuts) for window in windows]
        usable = [window for window, found in zip(windows, obstacles, strict=True) if found is None]
        outputs: dict[int, dict[float, WindowOutputs]] = {}
        for number, track in tracks.items():
            starts = [window.start for window in usable if _is_visible(window, chunk, track)]
            if starts:
                outputs[number] = self._predict_face(chunk, track, starts)
        openings = _mouth_openings(chunk, {number: tracks[number] for number in outputs})
        for window, obstacle in zip(windows, obstacles, strict=True):
            here = {number: by[window.start] for number, by in outputs.items() if window.start in by}
            faces = self._score_faces(window, chunk, tracks, here, openings)
            self._add_window(window, faces, obstacle)
        self.evidence.forget_all_but(in_sight)

    def _note_presence(self, chunk: Clip, tracks: dict[int, FaceTrack]) -> None:
        """Note, every `GAP_RESOLUTION` seconds of what is new, if faces are seen and how loud it is."""
        if self._start is None:
            self._start = chunk.start
        peaks = self.evidence.audio_peaks
        found = np.any([np.zeros(len(chunk.times), bool), *(t.detected for t in tracks.values())], axis=0)
        steps = np.arange(len(peaks), round((chunk.end - self._start) / GAP_RESOLUTION))
        begins = self._start + GAP_RESOLUTION * steps
        self._face_seen += found[chunk.nearest_frames(begins + GAP_RESOLUTION / 2)].tolist()
        for begin in begins:
            first = max(0, round((begin - chunk.start) * chunk.sample_rate))
            samples = chunk.waveform[first : first + round(GAP_RESOLUTION * chunk.sample_rate)]
            peaks.append(float(np.abs(samples).max(initial=0.0)))

    def _large_enough(self, tracks: dict[int, FaceTrack]) -> dict[int, FaceTrack]:
        least = MIN_FACE_RATIO * self.spec.image_size
        large = {n: t for n, t in tracks.items() if (t.boxes[:, 2:] - t.boxes[:, :2]).max() >= least}
        if len(large) < len(tracks):
            self.warn(f"faces smaller than {least:.0f} pixels are not scored")
        return large

    def _predict_face(
        self, chunk: Clip, track: FaceTrack, starts: Sequence[float]
    ) -> dict[float, WindowOutputs]:
        """Run the detector over windows of one face -> its outputs by start."""
        crops = crop_face(chunk, track, self.spec.image_size)
        outputs = predict_windows(self.model, [crops.window(start, self.spec.duration) for start in starts])
        self.evidence.add_mismatched(self.model, starts, outputs.features)
        return {start: outputs[[row]] for row, start in enumerate(starts)}

    def _score_faces(
        self,
        window: Clip,
        chunk: Clip,
        tracks: dict[int, FaceTrack],
        outputs: dict[int, WindowOutputs],
        openings: dict[int, np.ndarray],
    ) -> list[FaceScore]:
        """Scores of each face of a window, in order of their numbers."""
        inside = frames_of(window, chunk)
        activity = {n: _activity(openings[n][inside]) for n in outputs if n in openings}
        faces = []
        for number, output in sorted(outputs.items()):
            speaks = len(outputs) == 1 or activity[number] >= MIN_SPEAKING_RATIO * max(activity.values())
            raw = output.probability.item()
            box = tracks[number].boxes[inside[len(inside) // 2]] / np.tile(chunk.frames.shape[2:0:-1], 2)
            face = FaceScore(
                face=number,
                score=float(self.model.config.calibration.apply(raw)),
                raw=raw,
                agreement=output.agreement.item(),
                speaks=bool(speaks),
                box=tuple(box.round(3).tolist()),
            )
            self.evidence.add_window(window, chunk, tracks[number], face, output)
            if speaks:
                self._add_features(number, output)
            faces.append(face)
        return faces

    def _add_features(self, number: int, output: WindowOutputs) -> None:
        audio, visual = (s.mean(dim=(0, 1)) for s in (output.features.audio, output.features.visual))
        features = [audio, visual, output.fused[0]]
        before = self.feature_sums.get(number)
        if before is not None:
            features = [total + new for total, new in zip(before, features, strict=True)]
        self.feature_sums[number] = features

    def _add_window(self, window: Clip, faces: Sequence[FaceScore], obstacle: Obstacle | None) -> None:
        if not faces:
            obstacle = obstacle or "face"
            self.warn(OBSTACLE_NOTES[obstacle])
        elif len(window.frames) < self.spec.frame_count:
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


def _obstacle(window: Clip, chunk: Clip, cuts: Sequence[int]) -> Obstacle | None:
    """Why a window cannot be scored, whoever is seen in it."""
    if any(window.start < chunk.times[cut] < window.end for cut in cuts):
        return "cut"
    step = round(GAP_RESOLUTION * window.sample_rate)
    peaks = np.abs(window.waveform[: len(window.waveform) // step * step]).reshape(-1, step).max(axis=1)
    return "sound" if (peaks >= SILENCE_PEAK).mean() < MIN_AUDIBLE_SHARE else None


def _is_visible(window: Clip, chunk: Clip, track: FaceTrack) -> bool:
    found = track.detected[frames_of(window, chunk)]
    return len(window.frames) > 0 and bool(found.mean() >= MIN_VISIBLE_SHARE)


def _mouth_openings(chunk: Clip, tracks: dict[int, FaceTrack]) -> dict[int, np.ndarray]:
    """For each of several faces how far its mouth is open, ``(T,)``; a single one speaks without asking."""
    if len(tracks) < 2:
        return {}
    crops = {number: crop_face(chunk, track, MOUTH_CROP_SIZE).frames for number, track in tracks.items()}
    return {number: mouth_opening_of_crops(frames) for number, frames in crops.items()}


def _activity(opening: np.ndarray) -> float:
    """How much a mouth moves in a window; an even drift is an error of the optical flow."""
    # As scipy.signal.detrend does it, which takes half a second to import.
    line = np.stack([np.arange(len(opening)), np.ones(len(opening))], axis=1)
    coefficients, *_ = np.linalg.lstsq(line, opening, rcond=None)
    return float((opening - line @ coefficients).std())
