"""The shipped checkpoints on people they have never met, drawn anew: they hold what the book says of them."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avff_lib.data.loader import WindowBatches, load_examples
from avff_lib.data.manifest import read_manifest
from avff_lib.evaluation.evaluate import score_example, score_examples
from avff_lib.evaluation.metrics import binary_metrics
from avff_lib.models import Detector
from avff_lib.objectives import stage_one
from avff_lib.predict import CHECKPOINTS, load_detector
from avff_lib.synth import write_corpus

RESULTS = Path(__file__).parents[1] / "results"
NAMES = ("avff-tiny", "avffmae-tiny")
# Clips of twenty people: near an AUC of 0.95 the standard error is about 0.03, and three of them are this.
BAND = 0.1


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Twenty genuine and thirty forged clips of another seed than the training corpus."""
    manifest = write_corpus(tmp_path_factory.mktemp("fresh"), clips=50, identities=20, seed=99, workers=1)
    return load_examples(read_manifest(manifest), load_detector().spec, workers=1)[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_checkpoint_finds_fakes_among_strangers_as_well_as_is_stated(fresh, name):
    stated = json.loads((RESULTS / f"{name}.json").read_text())
    auc = next(run["auc"] for run in stated["runs"] if run["seed"] == stated["shipped"])
    labels = np.array([example.row.label for example in fresh])
    measured = binary_metrics(labels, score_examples(load_detector(name), fresh), 0.5)["auc"]
    assert abs(measured - auc) < BAND


@pytest.mark.parametrize("name", NAMES)
def test_strangers_lie_in_the_domain_and_a_hiss_does_not(fresh, name):
    model, rng = load_detector(name), np.random.default_rng(0)

    def strangeness(example) -> dict[str, float]:
        scored = score_example(model, example)
        return model.domain.strangeness(scored.sound, scored.picture)

    people = [strangeness(example) for example in fresh]
    assert np.mean([max(found.values()) > 1 for found in people]) < 0.15
    hiss = (rng.standard_normal(len(fresh[0].clip.waveform)) / 10).astype(np.float32)
    found = strangeness(replace(fresh[0], clip=replace(fresh[0].clip, waveform=hiss)))
    assert found["sound"] > 1.5
    assert found["picture"] == pytest.approx(people[0]["picture"])


@pytest.mark.parametrize("name", NAMES)
def test_what_stage_one_left_knows_which_slice_of_sound_belongs_to_a_stranger(fresh, name):
    model = Detector.from_pretrained(CHECKPOINTS / name / "stage-one").eval()
    genuine = [example for example in fresh if example.row.label == 0]
    windows, labels = WindowBatches(genuine, model.spec, batch_size=20, seed=0)(0)
    found = stage_one(model, windows, labels, torch.Generator().manual_seed(0))["retrieval"]
    assert found > 5 / (20 * 8)  # five times chance


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_checkpoint_is_small_and_its_card_says_what_was_measured(name):
    model = load_detector(name)
    for weights in (CHECKPOINTS / name).rglob("*.safetensors"):
        assert weights.stat().st_size < 12e6
    assert "real person" in model.config.trained_on
    stated = json.loads((RESULTS / f"{name}.json").read_text())
    card = runpy.run_path(str(RESULTS / "model_card.py"))["model_card"](name, model, stated)
    assert (CHECKPOINTS / name / "README.md").read_text() == card
