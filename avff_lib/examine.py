"""The chunks of a file, one after the other -> scored windows, and what is worth showing of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.signal import detrend
from torch import Tensor

from avff_lib.clip import Clip, Features
from avff_lib.data.loader import windows_over
from avff_lib.judge import Judged, judge_windows, take_features
from avff_lib.media.cast import Cast, find_cuts
from avff_lib.media.faces import FaceTrack, crop_face
from avff_lib.models import Detector
from avff_lib.sync import CROP, opening_of
from avff_lib.timeline import gaps_in
from avff_lib.verdict import FaceScore, Gap, Missing, Window

HOP = 0.5  # seconds from one window to the next
CHUNK_HOPS = 6  # a chunk of video holds so many hops and one window; faces are tracked through it
SILENCE = 1e-3  # peak (-60 dB) below which there is no sound to judge
STEP = 0.05  # seconds; of the notes on where there are faces and sound
SMALLEST = 0.25  # longer side of a face / side of the model's picture; below there is too little to see
SPEAKS = 0.5  # of the liveliest mouth's movement; at rest it is a fifth of that in speech, or less
PORTRAIT = 112  # pixels, side of the pictures that people are shown
SHOWN = 8  # frames of the most suspicious window that are shown

REASONS: dict[Missing, str] = {
    "face": "parts without a face in sight are not judged",
    "sound": "parts without sound are not judged",
    "cut": "parts with a cut inside are not judged",
}


@dataclass(frozen=True, eq=False)
class Exhibit:
    """A face in a window, as the detector met it.

    Attributes:
        start, end: of the window, in seconds.
        said: of the face.
        features: before the streams meet, ``(1, ...)``.
        frames: some of the face, ``(SHOWN, PORTRAIT, PORTRAIT, 3)`` uint8.
        times: of the frames, in seconds.
        waveform: ``(S,)`` float32 in [-1, 1].
        sample_rate: of the waveform, in Hz.
    """

    start: float
    end: float
    said: FaceScore
    features: Features
    frames: np.ndarray
    times: np.ndarray
    waveform: np.ndarray
    sample_rate: int


@dataclass(frozen=True, eq=False)
class Calm:
    """The least suspicious window of a face: its start in seconds, score, and features ``(1, ...)``."""

    start: float
    score: float
    features: Features


class Exhibits:
    """What is kept of a file while its chunks go by: numbers for every window, pictures of a few.

    Attributes:
        windows: all, in order.
        warnings: sentences, as the keys of a dict, which keep their order.
        peaks: of the sound, one for each `STEP` seconds.
        portraits: of each face that was judged, ``(PORTRAIT, PORTRAIT, 3)`` uint8.
        suspect: the window with the highest score; None while nothing was judged.
        calm: for each face that is followed, and for that of ``suspect``.
        mismatched: agreement of faces with the sound of *other* moments of the file.
        sums: for each face, over the windows it speaks in, the features of sound, picture and both.
    """

    def __init__(self, model: Detector) -> None:
        self.model, self.spec = model, model.spec
        self.windows: list[Window] = []
        self.warnings: dict[str, None] = {}
        self.peaks: list[float] = []
        self.portraits: dict[int, np.ndarray] = {}
        self.suspect: Exhibit | None = None
        self.calm: dict[int, Calm] = {}
        self.mismatched: list[float] = []
        self.sums: dict[int, list[Tensor]] = {}
        self.start: float | None = None
        self._cast = Cast()
        self._seen: list[bool] = []

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Where there is no face, and where there is no sound."""
        heard = (peak >= SILENCE for peak in self.peaks)
        start = self.start or 0.0
        found = [*gaps_in(self._seen, STEP, start, "face"), *gaps_in(heard, STEP, start, "sound")]
        return tuple(sorted(found, key=lambda gap: gap.start))

    def warn(self, *sentences: str) -> None:
        """Note each sentence once."""
        self.warnings.update(dict.fromkeys(sentences))

    def add(self, chunk: Clip) -> None:
        """Judge what is new in a chunk; chunks come in order, and overlap by `HOP` or more."""
        # What holds throughout a chunk need not hold for the file; `gaps` say where.
        self.warn(*(said for said in chunk.warnings if not said.endswith("throughout")))
        cuts = find_cuts(chunk)
        followed = self._cast.follow(chunk, cuts)
        self._note(chunk, followed)
        tracks = self._large(followed)
        done = self.windows[-1].start + HOP / 100 if self.windows else -np.inf
        # The last chunk is moved back to end with the file, so it holds windows that are known.
        new = [w for w in windows_over(chunk, self.spec.duration, HOP) if w.start >= done]
        usable = [window for window in new if _obstacle(window, chunk, cuts) is None]
        judged = {}
        for number, track in tracks.items():
            if seen := [window.start for window in usable if _in_sight(window, chunk, track)]:
                judged[number] = self._judge(chunk, track, seen)
        moves = _movements(chunk, {n: tracks[n] for n in judged} if len(judged) > 1 else {})
        for window in new:
            here = {number: said[window.start] for number, said in judged.items() if window.start in said}
            found = self._score(window, chunk, tracks, here, moves)
            missing = None if found else _obstacle(window, chunk, cuts) or "face"
            score = max((face.score for face in found if face.speaks), default=None)
            self.windows.append(
                Window(
                    float(round(window.start, 3)), float(round(window.end, 3)), score, missing, tuple(found)
                )
            )
            if missing:
                self.warn(REASONS[missing])
            elif len(window.frames) < self.spec.frame_count:
                self.warn(
                    f"the model looks at {self.spec.frame_count} frames in {self.spec.duration:g} s; here "
                    "are fewer, some were repeated, the score is doubtful"
                )
        # Who is gone for good cannot become the suspect any more, and a film has hundreds of faces.
        self.calm = {number: calm for number, calm in self.calm.items() if self._may_matter(number, followed)}

    def _may_matter(self, number: int, followed: dict[int, FaceTrack]) -> bool:
        return number in followed or (self.suspect is not None and number == self.suspect.said.face)

    def _note(self, chunk: Clip, tracks: dict[int, FaceTrack]) -> None:
        """Where in the new part of a chunk there are faces, and how loud it is, every `STEP` seconds."""
        if self.start is None:
            self.start = chunk.start
        found = np.any([np.zeros(len(chunk.times), bool), *(t.found for t in tracks.values())], axis=0)
        begins = self.start + STEP * np.arange(len(self.peaks), round((chunk.end - self.start) / STEP))
        self._seen += found[chunk.nearest_frames(begins + STEP / 2)].tolist()
        for begin in begins:
            first = max(0, round((begin - chunk.start) * chunk.sample_rate))
            heard = chunk.waveform[first : first + round(STEP * chunk.sample_rate)]
            self.peaks.append(float(np.abs(heard).max(initial=0.0)))

    def _large(self, tracks: dict[int, FaceTrack]) -> dict[int, FaceTrack]:
        """The faces that are large enough to be judged."""
        least = SMALLEST * self.spec.image_size
        large = {n: t for n, t in tracks.items() if (t.boxes[:, 2:] - t.boxes[:, :2]).max() >= least}
        if len(large) < len(tracks):
            self.warn(f"faces smaller than {least:.0f} pixels are not judged")
        return large

    def _judge(self, chunk: Clip, track: FaceTrack, starts: Sequence[float]) -> dict[float, Judged]:
        """Run the detector over windows of one face -> by start, what it says of each."""
        crops = crop_face(chunk, track, self.spec.image_size)
        judged = judge_windows(self.model, [crops.window(start, self.spec.duration) for start in starts])
        apart = np.abs(np.subtract.outer(starts, starts)) > self.spec.duration - HOP / 100
        if apart.any():
            seen, heard = (rows.tolist() for rows in apart.nonzero())
            other = take_features(judged.features, heard).audio
            mixed = replace(take_features(judged.features, seen), audio=other)
            with torch.inference_mode():
                self.mismatched += self.model.agreement(mixed).mean(dim=1).tolist()
        return {start: judged.take([row]) for row, start in enumerate(starts)}

    def _score(
        self,
        window: Clip,
        chunk: Clip,
        tracks: dict[int, FaceTrack],
        judged: dict[int, Judged],
        moves: dict[int, np.ndarray],
    ) -> list[FaceScore]:
        """What is said of each face of a window; what is worth showing is kept."""
        inside = _inside(window, chunk)
        lively = {number: _liveliness(moves[number][inside]) for number in judged if number in moves}
        found = []
        for number, said in sorted(judged.items()):
            speaks = len(judged) == 1 or lively[number] >= SPEAKS * max(lively.values())
            raw, alike = said.probability.item(), said.agreement.item()
            score = float(self.model.config.calibration.apply(raw))
            middle = inside[len(inside) // 2]
            shares = tracks[number].boxes[middle] / np.tile(chunk.frames.shape[2:0:-1], 2)
            found.append(FaceScore(number, score, raw, alike, speaks, tuple(shares.round(3).tolist())))
            self._keep(window, chunk, tracks[number], found[-1], said)
        return found

    def _keep(self, window: Clip, chunk: Clip, track: FaceTrack, face: FaceScore, said: Judged) -> None:
        inside = _inside(window, chunk)
        if face.face not in self.portraits:
            middle = inside[[len(inside) // 2]]
            self.portraits[face.face] = _pictures(chunk, track, middle)[0]
        if not face.speaks:
            return
        parts = [said.features.audio.mean(dim=(0, 1)), said.features.visual.mean(dim=(0, 1)), said.fused[0]]
        before = self.sums.get(face.face)
        self.sums[face.face] = (
            parts if before is None else [a + b for a, b in zip(before, parts, strict=True)]
        )
        if face.face not in self.calm or face.score < self.calm[face.face].score:
            self.calm[face.face] = Calm(window.start, face.score, said.features)
        if self.suspect is None or face.score > self.suspect.said.score:
            shown = inside[np.linspace(0, len(inside) - 1, min(SHOWN, len(inside))).round().astype(int)]
            frames, times = _pictures(chunk, track, shown), chunk.times[shown]
            sound = window.waveform.copy()  # a view would keep the whole chunk
            self.suspect = Exhibit(
                window.start, window.end, face, said.features, frames, times, sound, window.sample_rate
            )


def _inside(window: Clip, chunk: Clip) -> np.ndarray:
    """Indices of the chunk's frames that a window holds, or the one that it shows."""
    inside = np.flatnonzero((chunk.times >= window.start) & (chunk.times < window.end))
    return inside if len(inside) else chunk.nearest_frames(np.array([window.start]))


def _obstacle(window: Clip, chunk: Clip, cuts: Sequence[int]) -> Missing | None:
    """Why a window cannot be judged, whoever is seen in it."""
    if any(window.start < chunk.times[cut] < window.end for cut in cuts):
        return "cut"
    step = round(STEP * window.sample_rate)
    heard = np.abs(window.waveform[: len(window.waveform) // step * step]).reshape(-1, step).max(axis=1)
    return "sound" if (heard >= SILENCE).mean() < 0.5 else None


def _in_sight(window: Clip, chunk: Clip, track: FaceTrack) -> bool:
    return len(window.frames) > 0 and track.found[_inside(window, chunk)].mean() >= 0.5


def _pictures(chunk: Clip, track: FaceTrack, frames: np.ndarray) -> np.ndarray:
    """Some frames of a face, ``(N, PORTRAIT, PORTRAIT, 3)`` uint8."""
    part = replace(chunk, frames=chunk.frames[frames], times=chunk.times[frames])
    return crop_face(
        part, replace(track, boxes=track.boxes[frames], found=track.found[frames]), PORTRAIT
    ).frames


def _movements(chunk: Clip, tracks: dict[int, FaceTrack]) -> dict[int, np.ndarray]:
    """For each face how far its mouth is open, ``(T,)``."""
    return {number: opening_of(crop_face(chunk, track, CROP).frames) for number, track in tracks.items()}


def _liveliness(opening: np.ndarray) -> float:
    """How much a mouth moves in a window; what drifts evenly is an error of the flow."""
    return float(detrend(opening).std())
