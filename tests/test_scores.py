"""The stored scores that chapters 15 and 16 compute from."""

import json
from pathlib import Path

import numpy as np

from avff_lib.evaluation.metrics import binary_metrics
from avff_lib.inference.timeline import aggregate_scores
from avff_lib.models.calibration import Calibration

RESULTS = Path(__file__).parents[1] / "results"


def test_stored_scores_are_of_other_people_in_either_split():
    stored = json.loads((RESULTS / "scores-avff-tiny.json").read_text())
    for split, count in (("val", 300), ("test", 600)):
        table = stored[split]
        assert {len(column) for column in table.values()} == {count}
        assert set(table["label"]) == {0, 1}
        for label, method, (start, end), windows, fake in zip(
            *(table[key] for key in ("label", "method", "segment", "windows", "window_labels")), strict=True
        ):
            assert (label == 0) == (method == "real") == (start == end) == (set(fake) == {0})
            assert len(windows) == len(fake)
            assert 0 <= min(windows) <= max(windows) <= 1
    assert not set(stored["val"]["identity"]) & set(stored["test"]["identity"])


def test_stored_scores_give_the_results_of_the_shipped_detector():
    stored = json.loads((RESULTS / "scores-avff-tiny.json").read_text())["test"]
    trained = json.loads((RESULTS / "avff-tiny.json").read_text())
    scores = np.array([aggregate_scores(windows, Calibration()) for windows in stored["windows"]])
    auc = binary_metrics(np.array(stored["label"]), scores, 0.5)["auc"]
    (shipped,) = (run for run in trained["runs"] if run["seed"] == trained["shipped"])
    assert abs(auc - shipped["auc"]) < 1e-4
