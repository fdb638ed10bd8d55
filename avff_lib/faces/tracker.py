"""The face tracker of a file: tracks that end at cuts, numbered consistently from one chunk to the next."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from avff_lib.faces.detect import SAME_FACE_IOU, box_iou
from avff_lib.faces.track import FaceTrack, prominence, track_faces
from avff_lib.media.clip import Clip

MAX_TRACKED_FACES = 8  # tracked at a time, the most prominent ones; in a crowd the speaker is unknown anyway
MAX_LOST_SECONDS = 1.0  # a face that is lost for longer gets a new number


class FaceTracker:
    """Numbers the faces of a file, from 1, while its overlapping chunks come in order.

    Faces are not recognised: a face keeps its number as long as its box overlaps with its last one. Only the
    last chunk is stored.
    """

    def __init__(self) -> None:
        self._count = 0
        self._cuts: list[float] = []  # seconds; of the last chunk and this one
        self._last: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # number -> times, boxes

    def update(self, chunk: Clip, cuts: list[int]) -> dict[int, FaceTrack]:
        """Track every face of the next chunk.

        Args:
            chunk: of the file.
            cuts: of the chunk, as `avff_lib.media.shots.detect_cuts` returns them.

        Returns:
            Tracks by number; a face that continues one of the last chunk has its number.
        """
        recent = [cut for cut in self._cuts if cut > chunk.start - MAX_LOST_SECONDS]
        self._cuts = recent + chunk.times[cuts].tolist()
        tracks: list[FaceTrack] = []
        for first, last in pairwise([0, *cuts, len(chunk.frames)]):
            shot = replace(chunk, frames=chunk.frames[first:last], times=chunk.times[first:last])
            tracks += [_pad(track, first, len(chunk.frames)) for track in track_faces(shot)]
        tracks = sorted(tracks, key=prominence, reverse=True)[:MAX_TRACKED_FACES]
        detections = [(chunk.times[track.detected], track.boxes[track.detected]) for track in tracks]

        overlaps = [
            (self._overlap(number, times, boxes), number, i)
            for number in self._last
            for i, (times, boxes) in enumerate(detections)
        ]
        numbers: dict[int, int] = {}  # index of a track -> its number
        for overlap, number, i in sorted(overlaps, reverse=True):
            if overlap >= SAME_FACE_IOU and i not in numbers and number not in numbers.values():
                numbers[i] = number
        new = [i for i in range(len(tracks)) if i not in numbers]
        for i in sorted(new, key=lambda i: (detections[i][0][0], i)):  # in order of appearance
            self._count += 1
            numbers[i] = self._count
        self._last = {numbers[i]: detection for i, detection in enumerate(detections)}
        return {numbers[i]: track for i, track in enumerate(tracks)}

    def _overlap(self, number: int, times: np.ndarray, boxes: np.ndarray) -> float:
        """IoU of a face of the last chunk and one of this chunk, where they are nearest in time.

        It is 0 if more than `MAX_LOST_SECONDS` or a cut lie between them.
        """
        last_times, last_boxes = self._last[number]
        nearest = int(np.abs(last_times - times[0]).argmin())
        earlier, later = sorted((last_times[nearest], times[0]))
        if later - earlier > MAX_LOST_SECONDS or any(earlier < cut <= later for cut in self._cuts):
            return 0.0
        return box_iou(last_boxes[nearest], boxes[0])


def _pad(track: FaceTrack, first: int, count: int) -> FaceTrack:
    """The track of a shot that starts at frame ``first`` of a chunk, as one of all ``count`` frames of it."""
    padding = (first, count - first - len(track.detected))
    boxes = np.pad(track.boxes, (padding, (0, 0)), mode="edge")
    return FaceTrack(boxes, np.pad(track.detected, padding), track.score)
