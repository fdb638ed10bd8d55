"""Out-of-distribution detection: files unlike everything that a detector was calibrated on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from avff_lib.errors import AVFFError
from avff_lib.models import Detector
from avff_lib.models.ood import COVERAGE, CV_FOLDS, MahalanobisDetector, OODDetector


def clips(count: int, rng: np.random.Generator, identities: int = 30) -> tuple[np.ndarray, list[str]]:
    """Correlated features, in which the clips of a person lie together."""
    shape = np.eye(8) + 0.2 * np.random.default_rng(99).normal(size=(8, 8))
    who = rng.integers(identities, size=count)
    own = rng.normal(size=(identities, 8))
    return (0.6 * own[who] + rng.normal(size=(count, 8))) @ shape + 5, [f"p{n}" for n in who]


@pytest.fixture
def ood() -> OODDetector:
    features, identities = clips(100, np.random.default_rng(5))
    return OODDetector.fit(features, features[:, :3], identities)


def test_the_limit_holds_for_identities_that_it_was_not_fitted_on():
    detector = MahalanobisDetector.fit(*clips(600, np.random.default_rng(0)))
    others, _ = clips(600, np.random.default_rng(1))
    assert (detector.distances(others) <= detector.limit).mean() == pytest.approx(COVERAGE, abs=0.03)


def test_distance_counts_in_units_of_what_is_usual_in_each_direction():
    features, identities = clips(4000, np.random.default_rng(2))
    apart, covariance = features - features.mean(axis=0), np.cov(features.T)
    expected = np.sqrt(np.einsum("nd,de,ne->n", apart, np.linalg.inv(covariance), apart) / 8)
    assert np.allclose(MahalanobisDetector.fit(features, identities).distances(features), expected, rtol=0.03)


def test_an_unusual_combination_is_out_of_distribution_though_no_single_feature_is_unusual():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(500, 1)) @ np.ones((1, 4)) + 0.05 * rng.normal(size=(500, 4))
    detector = MahalanobisDetector.fit(features, [f"p{n % 50}" for n in range(500)])
    usual, unusual = detector.distances(np.array([[1.5, 1.5, 1.5, 1.5], [0.5, -0.5, 0.5, -0.5]]))
    assert usual < detector.limit < unusual / 2


def test_each_stream_has_its_own_detector(ood):
    usual = ood.ood_scores(ood.audio.mean, ood.visual.mean)
    assert usual == {"audio": 0.0, "visual": 0.0}
    shifted = ood.ood_scores(ood.audio.mean + 9, ood.visual.mean)
    assert shifted["audio"] > 1
    assert shifted["visual"] == 0


def test_too_few_identities_give_no_detector():
    features, _ = clips(40, np.random.default_rng(4))
    assert OODDetector.fit(features, features, [f"p{n % (CV_FOLDS - 1)}" for n in range(40)]) is None


def test_a_checkpoint_keeps_its_detector_and_drops_an_old_one(mini, tmp_path, ood):
    mini.ood = ood
    mini.save_pretrained(tmp_path)
    loaded = Detector.from_pretrained(tmp_path).ood
    point = np.arange(8.0), np.arange(3.0)
    assert loaded.ood_scores(*point) == pytest.approx(ood.ood_scores(*point), rel=1e-5)
    mini.ood = None
    mini.save_pretrained(tmp_path)
    assert Detector.from_pretrained(tmp_path).ood is None


@pytest.mark.parametrize(
    "change",
    [
        {"audio.precision": torch.eye(2)},
        {"visual.limit": torch.zeros(1)},
        {"visual.limit": torch.ones(2)},
        {"visual.mean": None},
    ],
)
def test_a_file_that_holds_something_else_is_refused(mini, tmp_path, ood, change):
    mini.save_pretrained(tmp_path)
    path = tmp_path / "ood.safetensors"
    ood.save(path)
    arrays = load_file(path) | change
    save_file({name: tensor for name, tensor in arrays.items() if tensor is not None}, path)
    with pytest.raises(AVFFError, match=r"ood\.safetensors cannot be read"):
        Detector.from_pretrained(tmp_path)


def test_features_of_another_model_are_refused(ood):
    with pytest.raises(AVFFError, match="has 8 audio features, the model gives 5"):
        ood.ood_scores(np.zeros(5), np.zeros(3))
