"""Labels of single windows: a clip that is fake in part holds real windows, too."""

from __future__ import annotations

from collections import Counter

import numpy as np

from avff_lib.data.examples import Example
from avff_lib.data.manifest import Row
from avff_lib.data.shards import StoredExample
from avff_lib.preprocess.spec import InputSpec

MIN_FAKE_SHARE = 0.25  # of a window, from which on it counts as fake
MIN_PLACES = 2  # of the 20 places tried, that must give a label


def window_label(row: Row, start: float, duration: float) -> int:
    """1 if at least `MIN_FAKE_SHARE` of the window is fake, else 0.

    A fake clip whose segments are not known counts as fake throughout.

    Args:
        row: of the clip.
        start: of the window, in seconds of the file.
        duration: of the window, in seconds.
    """
    if row.label == 0 or not row.fake_segments:
        return row.label
    overlaps = (min(end, start + duration) - max(begin, start) for begin, end in row.fake_segments)
    return int(sum(max(0.0, overlap) for overlap in overlaps) >= duration * MIN_FAKE_SHARE)


def possible_labels(example: Example | StoredExample, spec: InputSpec) -> set[int]:
    """Labels that windows of a clip can have: a clip that is fake in part holds real windows too.

    Those that fewer than one place in ten would give are left out, since looking for them is slow.
    """
    starts = example.start + (np.arange(20) + 0.5) / 20 * (example.duration - spec.duration)
    counts = Counter(window_label(example.row, start, spec.duration) for start in starts)
    return {label for label, count in counts.items() if count >= MIN_PLACES}
