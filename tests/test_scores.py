"""The scores that chapter 12 calibrates by: what the file holds, and how far clips are from each other."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

RESULTS = Path(__file__).parents[1] / "results"
sys.path.insert(0, str(RESULTS))  # the scripts are run from their folder, and are no package

import scores  # noqa: E402


def test_a_clip_is_measured_against_all_others():
    features = np.array([[0.0, 0.0], [2.0, 4.0], [4.0, 8.0], [30.0, 4.0]])
    found = scores.spread(features)
    np.testing.assert_allclose(found["mean"], [9.0, 4.0])
    # The last one is 28 from the mean of the others, whose deviation is sqrt(8 / 3), in one of two features.
    assert found["distances"][3] == pytest.approx(28 / np.sqrt(8 / 3) / np.sqrt(2), abs=1e-5)
    assert max(found["distances"][:3]) < found["distances"][3]


def test_stored_scores_are_of_other_people_in_either_split():
    stored = json.loads((RESULTS / "scores-avff-tiny.json").read_text())
    for split, count in scores.COUNTS.items():
        table = stored[split]
        assert {len(column) for column in table.values()} == {count}
        assert set(table["label"]) == {0, 1}
        for label, method, (start, end) in zip(
            table["label"], table["method"], table["segment"], strict=True
        ):
            assert (label == 0) == (method == "real") == (start == end)
        windows = np.array(table["windows"])
        assert ((windows >= 0) & (windows <= 1)).all()
    assert not set(stored["val"]["person"]) & set(stored["test"]["person"])
    assert len(stored["features"]["mean"]) == len(stored["features"]["std"])
    assert len(stored["features"]["distances"]) == scores.COUNTS["val"]
