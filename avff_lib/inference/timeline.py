"""Scores of a file's windows -> scores of its faces, the deciding face, fake segments and gaps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise

import numpy as np

from avff_lib.inference.prediction import (
    FacePrediction,
    FaceScore,
    FakeSegment,
    Gap,
    Obstacle,
    WindowPrediction,
)
from avff_lib.models.calibration import Calibration

MIN_SPEAKING_WINDOWS = 3  # of a face that can decide a file's label, if any face has so many
MIN_SEGMENT_WINDOWS = 2  # of a fake segment, if the face has so many
MIN_GAP_SECONDS = 0.5  # without a face or audio; shorter gaps are not reported


def window_cells(windows: Sequence[WindowPrediction]) -> list[tuple[float, float]]:
    """The interval of each window, (start, end) in seconds: what is nearer to its middle than to any other's.

    Windows overlap and these intervals do not, so a fake segment is not extended by windows that only touch
    it.
    """
    middles = [(window.start + window.end) / 2 for window in windows]
    inner_edges = [(a + b) / 2 for a, b in pairwise(middles)]
    return list(pairwise([windows[0].start, *inner_edges, windows[-1].end]))


def aggregate_scores(raw: Sequence[float] | np.ndarray, calibration: Calibration) -> float:
    """Raw probabilities of windows ``(N,)`` -> one score: their mean, calibrated.

    In this order, since the calibration is fitted on means of windows.
    """
    return float(calibration.apply(float(np.mean(raw))))


def aggregate_faces(
    windows: Sequence[WindowPrediction], calibration: Calibration
) -> tuple[FacePrediction, ...]:
    """Scores and extents of all faces of a file, in order of appearance."""
    by_number: dict[int, list[tuple[WindowPrediction, FaceScore]]] = {}
    for window in windows:
        for face in window.faces:
            by_number.setdefault(face.face, []).append((window, face))
    faces = []
    for number, appearances in sorted(by_number.items()):
        raw = [face.raw for _, face in appearances if face.speaks]
        score = aggregate_scores(raw, calibration) if raw else None
        start, end = appearances[0][0].start, appearances[-1][0].end
        faces.append(FacePrediction(number, start, end, len(raw), score))
    return tuple(faces)


def select_face(faces: Sequence[FacePrediction]) -> FacePrediction:
    """The face whose score is the file's: the speaking one with the highest score.

    A video is fake if any face in it is, so no mean over faces would do: one fake speaker among three real
    ones would pass. Faces that only listen are ignored, since in real videos, too, resting lips disagree with
    somebody else's voice. So are faces that speak in fewer than `MIN_SPEAKING_WINDOWS` windows, where another
    one speaks in more: the highest of many means over few windows is high by chance.

    Args:
        faces: at least one of them speaks.
    """
    min_windows = min(MIN_SPEAKING_WINDOWS, max(face.windows for face in faces))
    candidates = [face for face in faces if face.windows >= min_windows]
    return max(candidates, key=lambda face: face.score or 0.0)


def find_fake_segments(
    windows: Sequence[WindowPrediction], threshold: float, calibration: Calibration
) -> tuple[FakeSegment, ...]:
    """Fake segments of each face: runs of windows with scores at or above the threshold, as `window_cells`.

    Windows overlap by half, so a fake part that is long enough to be detected is in two of them; single
    windows of a longer file are left out. Start and end are accurate to about a window's length.
    """
    segments = []
    for face in aggregate_faces(windows, calibration):
        cells = window_cells(windows)
        scores = [_speaking(window, face.number) for window in windows]
        min_windows = min(MIN_SEGMENT_WINDOWS, face.windows)
        for first, last in runs(score is not None and score.score >= threshold for score in scores):
            if last - first < min_windows:
                continue
            start, end = cells[first][0], cells[last - 1][1]
            raw = [score.raw for score in scores[first:last] if score is not None]
            segments.append(
                FakeSegment(round(start, 3), round(end, 3), face.number, aggregate_scores(raw, calibration))
            )
    return tuple(sorted(segments, key=lambda segment: segment.start))


def find_gaps(present: Iterable[bool], step: float, start: float, obstacle: Obstacle) -> Iterator[Gap]:
    """Gaps of `MIN_GAP_SECONDS` or more, in which something is not present.

    Args:
        present: whether it is, every ``step`` seconds from ``start`` on.
        step, start: in seconds.
        obstacle: what is missing.
    """
    for first, last in runs(not value for value in present):
        if (last - first) * step >= MIN_GAP_SECONDS - step / 2:
            yield Gap(round(start + first * step, 2), round(start + last * step, 2), obstacle)


def runs(values: Iterable[bool]) -> list[tuple[int, int]]:
    """Runs of true values, each as its first index and the one after its last."""
    groups = (list(group) for _, group in groupby(enumerate(values), key=lambda pair: bool(pair[1])))
    return [(group[0][0], group[-1][0] + 1) for group in groups if group[0][1]]


def _speaking(window: WindowPrediction, number: int) -> FaceScore | None:
    return next((face for face in window.faces if face.face == number and face.speaks), None)
