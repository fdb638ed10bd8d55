"""Labels of single windows: a partly fake clip also holds real windows."""

from __future__ import annotations

from collections import Counter

import numpy as np

from avff_lib.data.examples import Example
from avff_lib.data.manifest import Row
from avff_lib.data.shards import StoredExample
from avff_lib.errors import AVFFError
from avff_lib.preprocess.spec import InputSpec

MIN_FAKE_SHARE = 0.25  # of a window, at and above which it counts as fake
ROUNDING = 1e-3  # seconds of a fake part that may reach into a real window: a manifest gives three decimals
PLACES = 20  # positions in a clip that are tried for the labels of its windows
MIN_PLACES = 2  # of these positions that must give a label


def window_label(row: Row, start: float, duration: float) -> int | None:
    """1 if at least `MIN_FAKE_SHARE` of the window is fake, 0 if none of it is, None in between.

    A window without a label is neither real nor fake: it is used neither for training nor for evaluation.
    A fake clip with unknown segments counts as fake throughout.

    Args:
        row: that of the clip.
        start: start of the window, in seconds of the file.
        duration: length of the window, in seconds.
    """
    if row.label == 0 or not row.fake_segments:
        return row.label
    overlaps = (min(end, start + duration) - max(begin, start) for begin, end in row.fake_segments)
    fake = sum(max(0.0, overlap) for overlap in overlaps)
    if fake >= duration * MIN_FAKE_SHARE:
        return 1
    return 0 if fake < ROUNDING else None


def possible_labels(example: Example | StoredExample, spec: InputSpec) -> set[int]:
    """Labels that windows of a clip can have: a partly fake clip may also hold real windows.

    Labels found at fewer than one position in ten are left out, since searching for them is slow. The set is
    empty for a clip that is shorter than a window, or fake so briefly that hardly any window has a label.
    """
    if example.duration < spec.duration:
        return set()
    labels = (window_label(example.row, start, spec.duration) for start in _places(example, spec))
    counts = Counter(label for label in labels if label is not None)
    return {label for label, count in counts.items() if count >= MIN_PLACES}


def middle_window(example: Example | StoredExample, spec: InputSpec) -> tuple[float, int]:
    """Start, in seconds, and label of the middle window of a clip, or of the nearest window with a label.

    Raises:
        AVFFError: none of the windows tried has a label, or the clip is shorter than a window.
    """
    if example.duration < spec.duration:
        raise AVFFError(
            f"the speaker's face in {example.row.path} lasts {example.duration:.2f} s, a window "
            f"{spec.duration:g} s; leave the clip out"
        )
    middle = example.start + (example.duration - spec.duration) / 2
    for start in [middle, *sorted(_places(example, spec), key=lambda start: abs(start - middle))]:
        label = window_label(example.row, start, spec.duration)
        if label is not None:
            return start, label
    raise AVFFError(
        f"each window of {example.row.path} is fake by less than {MIN_FAKE_SHARE:.0%}, so none has a label; "
        "leave the clip out"
    )


def _places(example: Example | StoredExample, spec: InputSpec) -> list[float]:
    """Starts of windows spread evenly over a clip."""
    shares = (np.arange(PLACES) + 0.5) / PLACES
    return (example.start + shares * (example.duration - spec.duration)).tolist()
