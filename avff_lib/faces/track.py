"""`FaceTracker`: the faces of a video, found in keyframes, linked by overlap, and smoothed, frame by frame.

People are not recognised: a face keeps its number as long as its box overlaps its last one. The absence of a
face is explicit: a frame without faces has no boxes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from avff_lib.faces.detect import LONG_SIDE, SAME_FACE_IOU, box_iou, find_faces, is_upside_down
from avff_lib.media.clip import Clip
from avff_lib.media.picture import ArrayPicture, Picture
from avff_lib.media.shots import ShotDetector

KEYFRAME_INTERVAL = 0.2  # seconds between two frames in which faces are detected
LOOKAHEAD = 1.0  # seconds of video after a frame that smooth its boxes
MAX_LOST_SECONDS = 1.0  # a face that is lost for longer gets a new number
MAX_TRACKED_FACES = 8  # at a time, the largest ones; in a crowd the speaker is unknown anyway
TIME_TOLERANCE = 1e-3  # seconds; containers round the times of frames
CENTER_SIGMA = 0.2  # seconds, of the Gaussian that smooths the position of a box
# The box grows with the opening mouth; a crop that grew with it would hide that motion.
SIZE_SIGMA = 0.8
# Pixels, longer side of the picture in which faces are searched. Nine in ten faces of 16 pixels are found
# there, so in 1080p the smallest are 24 pixels wide. At 1920, a network takes half a gigabyte.
DETECTION_SIZES = (LONG_SIDE, 640, 1280)
SEARCH_INTERVAL = 1.0  # seconds between two searches in larger pictures, while there is no face


@dataclass(frozen=True, eq=False)
class FaceBox:
    """Position of a face in one frame.

    Attributes:
        box: ``(4,)`` float32, left, top, right, bottom in pixels, smoothed; before its first and after its
            last detection, up to `LOOKAHEAD`, the nearest box is repeated.
        mouth: ``(4,)`` float32, the same for a square from below the nose to the chin.
        detected: whether the face was detected in the keyframes around this frame.
        score: mean confidence of the detector, in [0, 1].
        roll: degrees by which the head is turned in the picture; 0 is upright, 180 upside down.
    """

    box: np.ndarray
    mouth: np.ndarray
    detected: bool
    score: float
    roll: float


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """A frame with the faces in it.

    Attributes:
        picture: the frame.
        time: in seconds.
        cut: whether it begins a new shot.
        faces: by number.
    """

    picture: Picture
    time: float
    cut: bool
    faces: dict[int, FaceBox]


class FaceTracker:
    """Tracks every face of a video frame by frame; the frames of `LOOKAHEAD` seconds wait inside.

    Tracks end at cuts. A face that is detected in only one of a shot's keyframes is dropped as a false
    detection. Faces are numbered from 1 in order of appearance.
    """

    def __init__(self) -> None:
        self._shots = ShotDetector()
        self._waiting: deque[tuple[Picture, float, bool]] = deque()  # with time, and whether a shot begins
        self._keyframes: list[float] = []  # of the shot, from `LOOKAHEAD` before the waiting frames on
        self._tracks: list[_Track] = []  # of the shot
        self._count = 0  # of the numbers given
        self._search = _FaceSearch()

    def update(self, picture: Picture, time: float) -> list[TrackedFrame]:
        """Take the next frame.

        Args:
            picture: the frame.
            time: in seconds, later than that of the last one.

        Returns:
            The frames that are now `LOOKAHEAD` seconds old, in order.
        """
        cut = self._shots.update(picture.thumbnail)
        ready: list[TrackedFrame] = []
        if cut:
            ready = self.finish()
        elif self._waiting and time > self._waiting[-1][1] + LOOKAHEAD:
            ready = self.release()
        self._waiting.append((picture, time, cut))
        if not self._keyframes or time > self._keyframes[-1] + KEYFRAME_INTERVAL - TIME_TOLERANCE:
            self._detect(picture, time)
        while self._waiting[0][1] <= time - LOOKAHEAD:
            ready.append(self._locate(*self._waiting.popleft()))
        self._forget()
        return ready

    def release(self) -> list[TrackedFrame]:
        """The waiting frames, if the picture freezes for longer than `LOOKAHEAD`."""
        if self._waiting and self._waiting[-1][1] > self._keyframes[-1]:
            self._detect(*self._waiting[-1][:2])
        ready = [self._locate(*frame) for frame in self._waiting]
        self._waiting.clear()
        return ready

    def finish(self) -> list[TrackedFrame]:
        """The waiting frames, at the end of a shot or of the video."""
        if len(self._keyframes) == 1 and self._waiting:
            picture, time, _ = self._waiting[-1]
            if time > self._keyframes[-1]:
                self._detect(picture, time)
            else:  # no second keyframe can confirm a face
                self._number(self._tracks, picture)
        ready = self.release()
        self._keyframes.clear()
        self._tracks.clear()
        return ready

    def _detect(self, picture: Picture, time: float) -> None:
        """Find the faces of a keyframe, and continue their tracks or begin new ones."""
        previous = self._keyframes[-1] if self._keyframes else time
        self._keyframes.append(time)
        faces = self._search.find(picture, time)
        areas = (faces[:, 2:4] - faces[:, :2]).prod(axis=1)
        for face in faces[np.sort(np.argsort(-areas)[:MAX_TRACKED_FACES])]:  # the most confident first
            earliest = min(previous, time - MAX_LOST_SECONDS - TIME_TOLERANCE)
            candidates = [track for track in self._tracks if earliest <= track.times[-1] < time]
            overlaps = [box_iou(face, track.faces[-1]) for track in candidates]
            if overlaps and max(overlaps) >= SAME_FACE_IOU:
                track = candidates[int(np.argmax(overlaps))]
            else:
                track = _Track()
                self._tracks.append(track)
            track.add(time, face)
        self._number([track for track in self._tracks if track.detections > 1], picture)

    def _number(self, tracks: list[_Track], picture: Picture) -> None:
        for track in tracks:
            if track.number == 0:
                self._count += 1
                track.number = self._count
                track.upside_down = self._search.is_upside_down(picture, track.faces[-1])

    def _locate(self, picture: Picture, time: float, cut: bool) -> TrackedFrame:
        index = bisect_left(self._keyframes, time)
        around = self._keyframes[max(0, index - 1) : index + 1]
        if around[-1] == time:
            around = [time]
        faces = {
            track.number: track.at(time, around)
            for track in self._tracks
            if track.number and track.first - LOOKAHEAD <= time <= track.times[-1] + LOOKAHEAD
        }
        return TrackedFrame(picture, time, cut, dict(sorted(faces.items())))

    def _forget(self) -> None:
        """Drop detections and keyframes that no waiting frame needs for smoothing."""
        oldest = self._waiting[0][1] - LOOKAHEAD
        # One earlier keyframe is kept, however old, since it shows what was visible last.
        while len(self._keyframes) > 2 and self._keyframes[1] < oldest:
            self._keyframes.pop(0)
        self._tracks = [track for track in self._tracks if track.times[-1] >= self._keyframes[0]]
        for track in self._tracks:
            track.forget(self._keyframes[0])


@dataclass(eq=False)
class _Track:
    """Detections of one face in the last seconds.

    Attributes:
        number: 0 until the face is confirmed.
        first: time of the first detection.
        detections: number of all detections.
        upside_down: whether the face is upside down; tested once, when it is confirmed.
        times: of the keyframes with a detection, in seconds.
        faces: the faces at these times, as `avff_lib.faces.detect.find_faces` returns them.
    """

    number: int = 0
    first: float = 0.0
    detections: int = 0
    upside_down: bool = False
    times: list[float] = field(default_factory=list)
    faces: list[np.ndarray] = field(default_factory=list)

    def add(self, time: float, face: np.ndarray) -> None:
        if not self.detections:
            self.first = time
        self.detections += 1
        self.times.append(time)
        self.faces.append(face)

    def forget(self, before: float) -> None:
        while len(self.times) > 1 and self.times[1] <= before:
            self.times.pop(0)
            self.faces.pop(0)

    def at(self, time: float, keyframes: list[float]) -> FaceBox:
        """Position of the face at a time, given the keyframes next to it."""
        faces = np.array(self.faces)  # (K, 10)
        distances = np.abs(np.array(self.times) - time)
        near = distances <= max(LOOKAHEAD, distances.min())
        faces, distances = faces[near], distances[near]

        def smoothed(values: np.ndarray, sigma: float) -> np.ndarray:
            # Relative to the nearest one, since far away all weights would be 0.
            exponents = (distances**2 - distances.min() ** 2) / (2 * sigma**2)
            weights = np.exp(-exponents)
            return weights @ values / weights.sum()

        def smoothed_box(corners: np.ndarray) -> np.ndarray:  # (K, 4)
            center = smoothed((corners[:, :2] + corners[:, 2:]) / 2, CENTER_SIGMA)
            size = smoothed(corners[:, 2:] - corners[:, :2], SIZE_SIGMA)
            return np.concatenate([center - size / 2, center + size / 2]).astype(np.float32)

        turns = np.radians(faces[:, 5])
        roll = float(np.degrees(np.arctan2(np.sin(turns).mean(), np.cos(turns).mean())))
        roll = 180.0 if self.upside_down and abs(roll) <= 90 else roll
        detected = all(keyframe in self.times for keyframe in keyframes)
        score = float(faces[:, 4].mean())
        return FaceBox(smoothed_box(faces[:, :4]), smoothed_box(faces[:, 6:]), detected, score, roll)


class _FaceSearch:
    """Finds faces in keyframes: in a small picture and, if it shows none, in larger ones."""

    def __init__(self) -> None:
        self._size = DETECTION_SIZES[0]  # the last size that showed faces
        self._searched = -np.inf  # seconds; time of the last search in larger pictures

    def find(self, picture: Picture, time: float) -> np.ndarray:
        """Faces ``(N, 10)`` as `avff_lib.faces.detect.find_faces` returns them."""
        faces = _find(picture, self._size)
        if len(faces) or time < self._searched + SEARCH_INTERVAL:
            return faces
        self._searched = time
        longest = max(picture.size)
        sizes = [size for smaller, size in pairwise((0, *DETECTION_SIZES)) if smaller < longest]
        for size in sizes:
            if size != self._size and len(faces := _find(picture, size)):
                self._size = size
                return faces
        return faces

    def is_upside_down(self, picture: Picture, face: np.ndarray) -> bool:
        """Whether a face that was just found is upside down."""
        image, scale = _shrunk(picture, self._size)
        return is_upside_down(image, _scaled(face, scale), self._size)


def _find(picture: Picture, long_side: int) -> np.ndarray:
    image, scale = _shrunk(picture, long_side)
    return _scaled(find_faces(image, long_side), 1 / scale)


def _scaled(faces: np.ndarray, factor: float) -> np.ndarray:
    """Faces ``(..., 10)`` in a picture of another size; confidence and roll stay."""
    return faces * np.array([factor] * 4 + [1, 1] + [factor] * 4, np.float32)


def _shrunk(picture: Picture, long_side: int) -> tuple[np.ndarray, float]:
    """The picture with a longer side of at most ``long_side``, and the factor by which it was shrunk."""
    height, width = picture.size
    scale = long_side / max(height, width)
    if scale >= 1:
        return picture.rgb(), 1.0
    return picture.shrunk(round(height * scale), round(width * scale)), scale


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """One face through a clip in memory.

    Attributes:
        boxes: ``(T, 4)`` float32, left, top, right, bottom in pixels, smoothed; where the face is missing,
            the nearest box is repeated.
        detected: ``(T,)`` bool, whether the face was detected in the keyframes around this frame.
        score: mean confidence of the detector, in [0, 1].
    """

    boxes: np.ndarray
    detected: np.ndarray
    score: float


def track_faces(clip: Clip) -> list[FaceTrack]:
    """Track each face of a clip with `FaceTracker`.

    Args:
        clip: frames ``(T, H, W, 3)``.

    Returns:
        One track per face, in order of appearance; empty if there is none.

    Raises:
        AVFFError: the detector's weights are not installed.
    """
    tracker = FaceTracker()
    tracked: list[TrackedFrame] = []
    for frame, time in zip(clip.frames, clip.times.tolist(), strict=True):
        tracked += tracker.update(ArrayPicture(frame), time)
    tracked += tracker.finish()
    numbers = sorted({number for frame in tracked for number in frame.faces})
    return [_through_clip(tracked, number) for number in numbers]


def _through_clip(tracked: list[TrackedFrame], number: int) -> FaceTrack:
    found = {i: frame.faces[number] for i, frame in enumerate(tracked) if number in frame.faces}
    known, every = np.array(list(found)), np.arange(len(tracked))
    corners = np.array([face.box for face in found.values()])  # (N, 4)
    boxes = np.stack([np.interp(every, known, corner) for corner in corners.T], axis=1).astype(np.float32)
    detected = np.isin(every, [i for i, face in found.items() if face.detected])
    return FaceTrack(boxes, detected, float(np.mean([face.score for face in found.values()])))
