"""The shipped checkpoint on people it has never met, drawn anew: it holds what the book says of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from avff_lib.data.loader import load_examples
from avff_lib.data.manifest import read_manifest
from avff_lib.evaluation.evaluate import score_examples
from avff_lib.evaluation.metrics import binary_metrics
from avff_lib.predict import load_detector
from avff_lib.synth import write_corpus

RESULTS = Path(__file__).parents[1] / "results" / "avff-tiny.json"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Twenty genuine and thirty forged clips of another seed than the training corpus."""
    manifest = write_corpus(tmp_path_factory.mktemp("fresh"), clips=50, identities=20, seed=99, workers=1)
    return load_examples(read_manifest(manifest), load_detector().spec, workers=1)[0]


def test_the_shipped_checkpoint_finds_fakes_among_strangers(fresh):
    stated = json.loads(RESULTS.read_text())
    auc = next(run["auc"] for run in stated["runs"] if run["seed"] == stated["shipped"])
    labels = np.array([example.row.label for example in fresh])
    measured = binary_metrics(labels, score_examples(load_detector(), fresh), 0.5)["auc"]
    # Fifty clips of twenty people: the standard error of an AUC near the stated one is about 0.07.
    assert abs(measured - auc) < 0.2
    assert measured > 0.55


def test_the_shipped_checkpoint_is_small_and_says_what_it_was_trained_on():
    model = load_detector()
    folder = RESULTS.parents[1] / "avff_lib" / "checkpoints" / "avff-tiny"
    assert (folder / "model.safetensors").stat().st_size < 12e6
    assert "real person" in model.config.trained_on
    assert (folder / "README.md").is_file()
