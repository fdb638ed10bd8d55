"""Scores of a file's windows -> its faces, the one that decides, and the parts that are forged or empty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise

import numpy as np

from avff_lib.verdict import Calibration, Face, FaceScore, Gap, Missing, Segment, Window

ENOUGH = 3  # windows in which a face must speak before it can decide over a file, if any speaks so long
SHORTEST_GAP = 0.5  # seconds without a face, or without a sound, that are worth stating


def cells(windows: Sequence[Window]) -> list[tuple[float, float]]:
    """The time that each window speaks for, in seconds: what is nearer to its middle than to another's.

    Windows overlap and their cells do not, so a forged part does not come out longer by the windows
    that only touch it.
    """
    middles = [(window.start + window.end) / 2 for window in windows]
    edges = [windows[0].start, *((a + b) / 2 for a, b in pairwise(middles)), windows[-1].end]
    return list(pairwise(edges))


def clip_score(raw: Sequence[float] | np.ndarray, calibration: Calibration) -> float:
    """Probabilities of windows as a model gives them ``(N,)`` -> one for all: their mean, calibrated.

    In this order, since the calibration was fitted on means of windows.
    """
    return float(calibration.apply(np.mean(raw)))


def faces_of(windows: Sequence[Window], calibration: Calibration) -> tuple[Face, ...]:
    """Every face of a file, in order of appearance."""
    seen: dict[int, list[tuple[Window, FaceScore]]] = {}
    for window in windows:
        for found in window.faces:
            seen.setdefault(found.face, []).append((window, found))
    faces = []
    for number, places in sorted(seen.items()):
        raw = [found.raw for _, found in places if found.speaks]
        score = clip_score(raw, calibration) if raw else None
        faces.append(Face(number, places[0][0].start, places[-1][0].end, len(raw), score))
    return tuple(faces)


def decisive(faces: Sequence[Face]) -> Face:
    """The face whose score is the file's: the most suspicious one that speaks.

    A video is forged if anybody in it is, so no mean over faces would do: a forged speaker among three
    genuine ones would pass. Faces that only listen do not count, since lips that rest while somebody
    else is heard disagree with the voice in genuine videos, too. Nor do faces that speak in fewer than
    `ENOUGH` windows, where another one speaks longer: the highest of many means over little is high by
    chance.

    Args:
        faces: at least one of which speaks.
    """
    enough = min(ENOUGH, max(face.windows for face in faces))
    return max((face for face in faces if face.windows >= enough), key=lambda face: face.score or 0.0)


def forged_segments(
    windows: Sequence[Window], threshold: float, calibration: Calibration
) -> tuple[Segment, ...]:
    """Where each face is judged fake: runs of windows at or above the threshold, as their `cells`.

    Windows overlap by half, so what is forged for long enough to be found is in two of them; a single
    one in a longer file is left out. The edges are as sure as a window is long.
    """
    segments = []
    for face in faces_of(windows, calibration):
        said = [_speaking(window, face.number) for window in windows]
        shortest = min(2, face.windows)
        for first, last in runs(found is not None and found.score >= threshold for found in said):
            if last - first >= shortest:
                times = cells(windows)[first:last]
                score = clip_score([found.raw for found in said[first:last]], calibration)
                segments.append(Segment(round(times[0][0], 3), round(times[-1][1], 3), face.number, score))
    return tuple(sorted(segments, key=lambda segment: segment.start))


def gaps_in(there: Iterable[bool], step: float, start: float, missing: Missing) -> Iterator[Gap]:
    """Stretches of `SHORTEST_GAP` or longer in which something is not there.

    Args:
        there: whether it is, once every ``step`` seconds from ``start`` on.
        step, start: in seconds.
        missing: what it is.
    """
    for first, last in runs(not value for value in there):
        if (last - first) * step >= SHORTEST_GAP - step / 2:
            yield Gap(round(start + first * step, 2), round(start + last * step, 2), missing)


def runs(values: Iterable[bool]) -> list[tuple[int, int]]:
    """Stretches of true values, each as its first index and the one after its last."""
    groups = (list(group) for _, group in groupby(enumerate(values), key=lambda pair: bool(pair[1])))
    return [(group[0][0], group[-1][0] + 1) for group in groups if group[0][1]]


def _speaking(window: Window, number: int) -> FaceScore | None:
    return next((found for found in window.faces if found.face == number and found.speaks), None)
