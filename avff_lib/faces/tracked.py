"""A media file -> `TrackedClip`: the crops of every face, and the audio, frame by frame.

Whole frames are kept for `avff_lib.faces.track.LOOKAHEAD` seconds and then cut down to the faces in them, so
memory depends neither on the length of a file nor, after that, on the size of its picture. All processing of
faces starts here: prediction, evaluation, and the preparation of training data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from avff_lib.faces.crop import crop_picture
from avff_lib.faces.mouth import MOUTH_CROP_SIZE, MouthMotion, mouth_activity, speaking_rank
from avff_lib.faces.track import LOOKAHEAD, FaceBox, FaceTracker, TrackedFrame
from avff_lib.media.clip import Clip
from avff_lib.media.decode import iter_pieces
from avff_lib.media.facts import MediaObserver
from avff_lib.media.picture import ArrayPicture, Picture

Region = Literal["face", "mouth"]
PIECE_SECONDS = 8.0  # of a file in memory at once
MAX_ROLL = 60.0  # degrees; upright faces stay below 45; a face turned further is not scored


@dataclass(frozen=True, eq=False)
class FaceCrops:
    """One face through a clip; N consecutive frames of the clip show it.

    Attributes:
        times: ``(N,)`` float64, of these frames, in seconds.
        frames: ``(N, S, S, 3)`` uint8, square crops.
        boxes: ``(N, 4)`` float32, left, top, right, bottom of the cropped region, as shares of the picture's
            width and height.
        detected: ``(N,)`` bool, whether the face was detected in the keyframes around the frame.
        rolls: ``(N,)`` float32, degrees by which the head is turned in the picture.
        mouth_motion: ``(N,)`` float32, change of the mouth's opening since the last frame; measured while
            there is more than one face, else 0.
        views: ``(N, MOUTH_CROP_SIZE, MOUTH_CROP_SIZE, 3)`` uint8, crops for display; empty if not requested.
        lip_motion: ``(N,)`` float32, like ``mouth_motion``, but always measured, with the fast method; empty
            if not requested.
    """

    times: np.ndarray
    frames: np.ndarray
    boxes: np.ndarray
    detected: np.ndarray
    rolls: np.ndarray
    mouth_motion: np.ndarray
    views: np.ndarray
    lip_motion: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def __getitem__(self, rows: np.ndarray | slice) -> FaceCrops:
        """Some of the frames."""
        views, lip_motion = (kept[rows] if len(kept) else kept for kept in (self.views, self.lip_motion))
        return FaceCrops(
            self.times[rows],
            self.frames[rows],
            self.boxes[rows],
            self.detected[rows],
            self.rolls[rows],
            self.mouth_motion[rows],
            views,
            lip_motion,
        )

    @property
    def activity(self) -> float:
        """How much the mouth moves; see `avff_lib.faces.mouth.mouth_activity`."""
        return mouth_activity(self.mouth_motion.cumsum())

    @property
    def is_upright(self) -> bool:
        """Whether the face is upright in most of the frames, by `MAX_ROLL`."""
        return bool(np.median(np.abs(self.rolls)) <= MAX_ROLL)


@dataclass(frozen=True, eq=False)
class TrackedClip:
    """A stretch of a file as the crops of its faces and its audio, on one clock.

    Attributes:
        times: ``(T,)`` float64, of all frames, in seconds.
        waveform: ``(S,)`` float32, mono, in [-1, 1]; its first sample is at ``start``.
        sample_rate: in Hz.
        start, duration: of the stretch, in seconds.
        cuts: ``(C,)`` float64, times of the frames that begin a new shot.
        faces: by number, as `avff_lib.faces.track.FaceTracker` returns them.
        frame_size: height and width of the picture, in pixels.
        last: whether the file ends with this stretch.
        warnings: one sentence for each missing or doubtful piece.
    """

    times: np.ndarray
    waveform: np.ndarray
    sample_rate: int
    start: float
    duration: float
    cuts: np.ndarray
    faces: dict[int, FaceCrops]
    frame_size: tuple[int, int]
    last: bool = True
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_face(cls, clip: Clip) -> TrackedClip:
        """A whole file of one face, from a clip whose frames are its crops."""
        count = len(clip.times)
        face = FaceCrops(
            times=clip.times,
            frames=clip.frames,
            boxes=np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1)),
            detected=np.ones(count, bool),
            rolls=np.zeros(count, np.float32),
            mouth_motion=np.zeros(count, np.float32),
            views=np.zeros(0, np.uint8),
        )
        return cls(
            times=clip.times,
            waveform=clip.waveform,
            sample_rate=clip.sample_rate,
            start=clip.start,
            duration=clip.duration,
            cuts=np.zeros(0),
            faces={1: face},
            frame_size=(clip.frames.shape[1], clip.frames.shape[2]),
            warnings=clip.warnings,
        )

    @property
    def end(self) -> float:
        """End of the stretch, in seconds."""
        return self.start + self.duration

    def window(self, start: float, duration: float) -> TrackedClip:
        """The part in [start, start + duration), with the frame that is shown when it begins.

        Raises:
            ValueError: it reaches outside the clip.
        """
        # `Clip.window` knows which frames and samples belong to a window; here their indices are enough.
        index = np.arange(len(self.times))
        plain = Clip(index, self.times, self.waveform, self.sample_rate, self.start, self.duration)
        part = plain.window(start, duration)
        first, last = (part.times[0], part.times[-1]) if len(part.times) else (start, start)
        faces = {}
        for number, face in self.faces.items():
            begin, end = np.searchsorted(face.times, first), np.searchsorted(face.times, last, side="right")
            faces[number] = face[begin:end]  # a view
        return replace(
            self,
            times=part.times,
            waveform=part.waveform,
            start=start,
            duration=duration,
            cuts=self.cuts[(self.cuts > start) & (self.cuts < start + duration)],
            faces={number: face for number, face in faces.items() if len(face.times)},
        )

    def face_clip(self, number: int) -> Clip:
        """The crops of one face with all of the audio."""
        face = self.faces[number]
        return Clip(face.frames, face.times, self.waveform, self.sample_rate, self.start, self.duration)

    def speaker(self) -> int | None:
        """Number of the face whose mouth moves most, weighted by its time in sight; None without a face."""

        def rank(number: int) -> tuple[float, float]:
            face = self.faces[number]
            return speaking_rank(face.activity, face.boxes, face.detected)

        return max(self.faces, key=rank, default=None)


def join(pieces: Sequence[TrackedClip]) -> TrackedClip:
    """Consecutive pieces of a file as one."""
    numbers = sorted({number for piece in pieces for number in piece.faces})

    def through(number: int) -> FaceCrops:
        parts = [vars(piece.faces[number]) for piece in pieces if number in piece.faces]
        return FaceCrops(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})

    return replace(
        pieces[-1],
        times=np.concatenate([piece.times for piece in pieces]),
        waveform=np.concatenate([piece.waveform for piece in pieces]),
        start=pieces[0].start,
        duration=pieces[-1].end - pieces[0].start,
        cuts=np.concatenate([piece.cuts for piece in pieces]),
        faces={number: through(number) for number in numbers},
        warnings=tuple(dict.fromkeys(warning for piece in pieces for warning in piece.warnings)),
    )


def crop_again(piece: TrackedClip, clip: Clip, size: int) -> TrackedClip:
    """The same faces at the same positions, cut out of other frames.

    Args:
        piece: gives the positions of the faces.
        clip: whole frames of the same time, with the audio to use instead.
        size: side of the crops, in pixels.
    """
    width_and_height = np.tile(clip.frames.shape[2:0:-1], 2)
    faces = {}
    for number, face in piece.faces.items():
        shown = clip.frames[clip.nearest_frames(face.times)]
        crops = [
            crop_picture(ArrayPicture(frame), box * width_and_height, (size,))[0]
            for frame, box in zip(shown, face.boxes, strict=True)
        ]
        faces[number] = replace(face, frames=np.stack(crops))
    return replace(piece, waveform=clip.waveform, faces=faces)


def iter_tracked(
    path: Path | str,
    size: int,
    *,
    region: Region = "face",
    seconds: float = PIECE_SECONDS,
    sample_rate: int = 16_000,
    min_duration: float = 0.0,
    audio_stream: int | None = None,
    views: bool = False,
    observer: MediaObserver | None = None,
) -> Iterator[TrackedClip]:
    """Decode a file once, and yield it as consecutive pieces that hold the faces and the audio.

    Args:
        path: of the file.
        size: side of the crops, in pixels.
        region: of a face that the crops show, with its boxes; see `avff_lib.preprocess.spec.InputSpec`.
        seconds: length of a piece; the last one may be shorter.
        sample_rate: rate that the audio is resampled to, in Hz.
        min_duration: shortest length of the file, in seconds.
        audio_stream: see `avff_lib.media.decode.read_clip`.
        views: whether to keep larger crops for display.
        observer: receives everything that is decoded; with one, `FaceCrops.lip_motion` is also measured.

    Raises:
        MediaError: the file cannot be decoded (see `avff_lib.media.decode.read_clip`), or is too short.
    """
    crops = _Collector(size, region, views, lips=observer is not None)
    pieces = iter_pieces(
        path,
        seconds,
        crops.consume,
        lookahead=2 * LOOKAHEAD,  # twice, for videos of few frames per second
        sample_rate=sample_rate,
        min_duration=min_duration,
        audio_stream=audio_stream,
        observer=observer,
    )
    for clip, last in pieces:
        yield crops.cut(clip, last)


@dataclass(eq=False)
class _Face:
    """The crops of one face that were not passed on yet, as lists for the columns of `FaceCrops`."""

    rows: list[tuple[float, np.ndarray, np.ndarray, bool, float, float, np.ndarray, float]] = field(
        default_factory=list
    )
    motion: MouthMotion = field(default_factory=MouthMotion)
    lips: MouthMotion = field(default_factory=lambda: MouthMotion(fast=True))


class _Collector:
    """Tracks the frames of a file, and cuts the faces out of them."""

    def __init__(self, size: int, region: Region, views: bool, lips: bool) -> None:
        self._size, self._region, self._views, self._lips = size, region, views, lips
        self._tracker = FaceTracker()
        self._faces: dict[int, _Face] = {}
        self._cuts: list[float] = []
        self._frame_size = (0, 0)
        self._tracked = -np.inf  # seconds; time of the last frame that was cut out

    def consume(self, picture: Picture, time: float) -> np.ndarray:
        """Take the next frame; return its thumbnail, which replaces it in clips."""
        self._frame_size = picture.size
        self._add(self._tracker.update(picture, time))
        return picture.thumbnail

    def cut(self, clip: Clip, last: bool) -> TrackedClip:
        """The next piece; ``clip`` has its times, audio and warnings."""
        end = np.inf if last else clip.times[-1] if len(clip.times) else -np.inf
        if last:
            self._add(self._tracker.finish())
        elif self._tracked < end:  # despite the lookahead, so the picture freezes
            self._add(self._tracker.release())
        faces = {}
        for number, face in list(self._faces.items()):
            inside = [row for row in face.rows if row[0] <= end]
            face.rows = face.rows[len(inside) :]
            if inside:
                faces[number] = _crops(inside)
            if not inside and not face.rows:
                del self._faces[number]  # it was gone for a whole piece
        cuts = [time for time in self._cuts if time <= end]
        self._cuts = self._cuts[len(cuts) :]
        return TrackedClip(
            times=clip.times,
            waveform=clip.waveform,
            sample_rate=clip.sample_rate,
            start=clip.start,
            duration=clip.duration,
            cuts=np.array(cuts, dtype=np.float64),
            faces=dict(sorted(faces.items())),
            frame_size=self._frame_size,
            last=last,
            warnings=clip.warnings,
        )

    def _add(self, frames: Sequence[TrackedFrame]) -> None:
        for frame in frames:
            self._tracked = frame.time
            if frame.cut:
                self._cuts.append(frame.time)
            several = len(frame.faces) > 1
            for number, found in frame.faces.items():
                self._crop(number, frame, found, several)

    def _crop(self, number: int, frame: TrackedFrame, found: FaceBox, several: bool) -> None:
        face = self._faces.setdefault(number, _Face())
        on_face = self._region == "face"
        needed = self._views or several or (self._lips and not on_face)
        looked_at = (MOUTH_CROP_SIZE,) if needed else ()
        box = found.box if on_face else found.mouth
        if on_face:
            crop, *view = crop_picture(frame.picture, box, (self._size, *looked_at))
        else:
            (crop,) = crop_picture(frame.picture, box, (self._size,))
            view = crop_picture(frame.picture, found.box, looked_at)
        motion = 0.0
        if several:
            motion = face.motion.update(view[0])
        else:
            face.motion.reset()  # for the next crop, this one will be too old for comparison
        shown = view[0] if self._views else np.zeros(0, np.uint8)
        box = box / np.tile(frame.picture.size[::-1], 2)
        lip_motion = np.nan
        if self._lips:  # the face is cropped anyway; cropping it in another size takes as long as the flow
            seen = cv2.resize(crop, (MOUTH_CROP_SIZE, MOUTH_CROP_SIZE)) if on_face else view[0]
            lip_motion = face.lips.update(seen)
        face.rows.append((frame.time, crop, box, found.detected, found.roll, motion, shown, lip_motion))


def _crops(rows: Sequence[tuple]) -> FaceCrops:
    times, crops, boxes, detected, rolls, motion, views, lip_motion = zip(*rows, strict=True)
    return FaceCrops(
        times=np.array(times),
        frames=np.stack(crops),
        boxes=np.stack(boxes).astype(np.float32),
        detected=np.array(detected),
        rolls=np.array(rolls, np.float32),
        mouth_motion=np.array(motion, np.float32),
        views=np.stack(views) if views[0].size else np.zeros(0, np.uint8),
        lip_motion=np.array([] if np.isnan(lip_motion[0]) else lip_motion, np.float32),
    )
