"""Everybody who is seen in a file: faces kept apart at cuts, and numbered from one chunk to the next."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np

from avff_lib.clip import Clip
from avff_lib.media.faces import SAME_FACE, FaceTrack, overlap, prominence, track_faces

MOST = 8  # faces followed at a time, the most prominent ones; a crowd has no speaker to judge
LOST = 1.0  # seconds after which a face that comes back counts as another
THUMBNAIL = 32  # pixels; at this size moving lips and heads hardly change a picture
STILL = 10.0  # grey levels by which a thumbnail's point may waver, as by compression, and not change
LEAST = 0.1  # of the picture; a smaller part in which anything changes is no picture between bars
CUT = 20.0  # grey levels by which a thumbnail changes at a cut, in the mean; speaking changes it by 1 to 2


def find_cuts(clip: Clip) -> list[int]:
    """Indices of the frames that begin a new shot, the first frame not among them.

    The measure is that of PySceneDetect's content detector (https://www.scenedetect.com), on RGB
    thumbnails, without the bars that may stand around the picture. A cut to a picture that is nearly the
    same, and a slow fade, are not found.
    """
    size = (THUMBNAIL, THUMBNAIL)
    small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in clip.frames]
    inside = _without_bars(np.stack(small).astype(np.float32))
    return [i for i, (a, b) in enumerate(pairwise(inside), start=1) if np.abs(b - a).mean() > CUT]


def _without_bars(frames: np.ndarray) -> np.ndarray:
    """Thumbnails ``(T, H, W, 3)`` cut to the rectangle in which anything changes.

    Left as they are where that is less than `LEAST`: then not bars stand still, but all save a mouth.
    """
    changing = np.ptp(frames, axis=0).max(axis=-1) > STILL  # (H, W)
    rows, columns = (np.flatnonzero(changing.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return frames
    part = frames[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return part if part[0].size >= LEAST * frames[0].size else frames


class Cast:
    """Numbers the faces of a file, from 1, while its chunks go by in order and overlap.

    Nobody is recognised: a face keeps its number as long as it stays about where it was. Only the last
    chunk is remembered.
    """

    def __init__(self) -> None:
        self._count = 0
        self._cuts: list[float] = []  # seconds; of the last chunk and this one
        self._last: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # number -> times, boxes

    def follow(self, chunk: Clip, cuts: list[int]) -> dict[int, FaceTrack]:
        """Track every face of a chunk that has ``cuts``, as `find_cuts` finds them -> tracks by number."""
        tracks = []
        self._cuts = [cut for cut in self._cuts if cut > chunk.start - LOST] + chunk.times[cuts].tolist()
        for first, last in pairwise([0, *cuts, len(chunk.frames)]):
            shot = replace(chunk, frames=chunk.frames[first:last], times=chunk.times[first:last])
            tracks += [_in_whole(track, first, len(chunk.frames)) for track in track_faces(shot)]
        tracks = sorted(tracks, key=prominence, reverse=True)[:MOST]
        seen = [(chunk.times[track.found], track.boxes[track.found]) for track in tracks]
        pairs = [(number, i) for number in self._last for i in range(len(tracks))]
        likeness = sorted(
            ((self._likeness(number, *seen[i]), number, i) for number, i in pairs), reverse=True
        )
        numbers: dict[int, int] = {}  # of the tracks
        for value, number, i in likeness:
            if value >= SAME_FACE and i not in numbers and number not in numbers.values():
                numbers[i] = number
        for i in sorted(set(range(len(tracks))) - set(numbers), key=lambda i: (seen[i][0][0], i)):
            self._count += 1
            numbers[i] = self._count
        self._last = {numbers[i]: place for i, place in enumerate(seen)}
        return {numbers[i]: track for i, track in enumerate(tracks)}

    def _likeness(self, number: int, times: np.ndarray, boxes: np.ndarray) -> float:
        """Overlap of a face of the last chunk with one of this chunk, where they are nearest in time."""
        before, places = self._last[number]
        nearest = int(np.abs(before - times[0]).argmin())
        earlier, later = sorted((before[nearest], times[0]))
        if later - earlier > LOST or any(earlier < cut <= later for cut in self._cuts):
            return 0.0
        return overlap(places[nearest], boxes[0])


def _in_whole(track: FaceTrack, first: int, count: int) -> FaceTrack:
    """The track of a shot that begins at frame ``first`` of a chunk of ``count`` frames, as the chunk's."""
    room = (first, count - first - len(track.found))
    return FaceTrack(np.pad(track.boxes, (room, (0, 0)), mode="edge"), np.pad(track.found, room), track.score)
