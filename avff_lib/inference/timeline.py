"""Scores of a file's windows -> scores of its faces and of the file, fake segments and gaps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise

import numpy as np
from scipy.special import expit, logit, logsumexp

from avff_lib.inference.prediction import (
    FacePrediction,
    FaceScore,
    FakeSegment,
    Gap,
    Obstacle,
    WindowPrediction,
)
from avff_lib.models.calibration import Calibration

MIN_SPEAKING_WINDOWS = 3  # of a face that counts for a file's score, if any face has so many
MIN_SEGMENT_WINDOWS = 2  # of a fake segment, if the face has so many
MIN_GAP_SECONDS = 0.5  # without a face or audio; shorter gaps are not reported


def window_cells(windows: Sequence[WindowPrediction]) -> list[tuple[float, float]]:
    """The interval of each window, (start, end) in seconds: times nearer to its middle than to any other's.

    Unlike windows, these intervals do not overlap, so windows that only touch a fake segment do not extend
    it.
    """
    middles = [(window.start + window.end) / 2 for window in windows]
    inner_edges = [(a + b) / 2 for a, b in pairwise(middles)]
    return list(pairwise([windows[0].start, *inner_edges, windows[-1].end]))


def aggregate_scores(raw: Sequence[float] | np.ndarray, calibration: Calibration) -> float:
    """Raw probabilities of a face's windows ``(N,)`` -> its score: their mean, calibrated.

    The mean comes first, since the calibration of files is fitted on means of windows.
    """
    return float(calibration.apply(calibration.pool(raw)))


def aggregate_faces(
    windows: Sequence[WindowPrediction], calibration: Calibration
) -> tuple[FacePrediction, ...]:
    """Scores and extents of all faces of a file, in order of appearance."""
    faces = []
    for number, rows in by_face(windows).items():
        raw = [score.raw for _, score in rows if score.speaks]
        score = aggregate_scores(raw, calibration) if raw else None
        first, last = rows[0][0], rows[-1][0]
        faces.append(FacePrediction(number, windows[first].start, windows[last].end, len(raw), score))
    return tuple(faces)


def by_face(windows: Sequence[WindowPrediction]) -> dict[int, list[tuple[int, FaceScore]]]:
    """For each face, in order of numbers, the indices of the windows it was scored in, and its scores."""
    found: dict[int, list[tuple[int, FaceScore]]] = {}
    for index, window in enumerate(windows):
        for face in window.faces:
            found.setdefault(face.face, []).append((index, face))
    return dict(sorted(found.items()))


def speaking_faces(faces: Sequence[FacePrediction]) -> list[FacePrediction]:
    """The faces that count for a file's score, the one with the highest score first.

    Faces that only listen do not count, since resting lips disagree with somebody else's voice in real videos
    too. Faces that speak in fewer than `MIN_SPEAKING_WINDOWS` windows do not count if another one speaks in
    more: means over few windows vary widely.

    Args:
        faces: of which at least one speaks.
    """
    min_windows = min(MIN_SPEAKING_WINDOWS, max(face.windows for face in faces))
    counted = [face for face in faces if face.windows >= max(min_windows, 1)]
    return sorted(counted, key=lambda face: -(face.score or 0.0))


def combine_faces(scores: Sequence[float]) -> float:
    """Scores of the faces that speak in a file ``(N,)`` -> the file's score.

    A video is fake if any face in it is. The odds of a calibrated score are a likelihood ratio; if one
    unknown face is fake, the likelihood ratio of the file is the mean over its faces. A single face keeps its
    score. The maximum would raise false alarms: over four real faces it exceeds a threshold almost four times
    as often as over one. The mean score would miss a fake speaker among three real ones.
    """
    logits = logit(np.clip(scores, 1e-12, 1 - 1e-12))
    return float(expit(logsumexp(logits) - np.log(len(logits))))


def find_fake_segments(
    windows: Sequence[WindowPrediction], calibration: Calibration
) -> tuple[FakeSegment, ...]:
    """Fake segments of each face: runs of windows at or above the threshold of windows, as `window_cells`.

    Windows overlap by half, so a fake part that is long enough to be detected is in two of them; single
    windows of a longer file are left out. Start and end are accurate to about a window's length.
    """
    if not windows:
        return ()
    segments, cells = [], window_cells(windows)
    for number, rows in by_face(windows).items():
        speaking = [(index, score) for index, score in rows if score.speaks]
        fake = [(i, score.score) for i, score in speaking if score.score >= calibration.window_threshold]
        min_windows = min(MIN_SEGMENT_WINDOWS, len(speaking))
        # Indices that follow one another differ from their rank by the same number.
        for _, ranked in groupby(enumerate(fake), key=lambda entry: entry[1][0] - entry[0]):
            run = [entry for _, entry in ranked]
            if len(run) < min_windows:
                continue
            start, end = cells[run[0][0]][0], cells[run[-1][0]][1]
            score = float(np.mean([value for _, value in run]))
            segments.append(FakeSegment(round(start, 3), round(end, 3), number, score))
    return tuple(sorted(segments, key=lambda segment: segment.start))


def find_gaps(present: Iterable[bool], step: float, start: float, obstacle: Obstacle) -> Iterator[Gap]:
    """Gaps of `MIN_GAP_SECONDS` or more, in which something is missing.

    Args:
        present: whether it is present, every ``step`` seconds from ``start`` on.
        step, start: in seconds.
        obstacle: what is missing.
    """
    for first, last in runs(not value for value in present):
        if (last - first) * step >= MIN_GAP_SECONDS - step / 2:
            yield Gap(round(start + first * step, 2), round(start + last * step, 2), obstacle)


def runs(values: Iterable[bool]) -> list[tuple[int, int]]:
    """Runs of true values, each as its first index and the index after its last."""
    groups = (list(group) for _, group in groupby(enumerate(values), key=lambda pair: bool(pair[1])))
    return [(group[0][0], group[-1][0] + 1) for group in groups if group[0][1]]
