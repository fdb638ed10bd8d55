"""Warning of files that are unlike everything a detector was calibrated on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from avff_lib.clip import AVFFError
from avff_lib.domain import FOLDS, INSIDE, Cloud, Domain
from avff_lib.models import Detector


def clips(count: int, rng: np.random.Generator, people: int = 30) -> tuple[np.ndarray, list[str]]:
    """Correlated features, in which the clips of a person lie together."""
    shape = np.eye(8) + 0.2 * np.random.default_rng(99).normal(size=(8, 8))
    who = rng.integers(people, size=count)
    own = rng.normal(size=(people, 8))
    return (0.6 * own[who] + rng.normal(size=(count, 8))) @ shape + 5, [f"p{n}" for n in who]


@pytest.fixture
def domain() -> Domain:
    features, people = clips(100, np.random.default_rng(5))
    return Domain.fit(features, features[:, :3], people)


def test_the_limit_holds_for_people_that_it_was_not_fitted_on():
    cloud = Cloud.fit(*clips(600, np.random.default_rng(0)))
    others, _ = clips(600, np.random.default_rng(1))
    assert (cloud.distances(others) <= cloud.limit).mean() == pytest.approx(INSIDE, abs=0.03)


def test_distance_counts_in_units_of_what_is_usual_in_each_direction():
    features, people = clips(4000, np.random.default_rng(2))
    apart, covariance = features - features.mean(axis=0), np.cov(features.T)
    expected = np.sqrt(np.einsum("nd,de,ne->n", apart, np.linalg.inv(covariance), apart) / 8)
    assert np.allclose(Cloud.fit(features, people).distances(features), expected, rtol=0.03)


def test_a_stranger_lies_outside_though_no_single_feature_is_unusual():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(500, 1)) @ np.ones((1, 4)) + 0.05 * rng.normal(size=(500, 4))
    cloud = Cloud.fit(features, [f"p{n % 50}" for n in range(500)])
    usual, strange = cloud.distances(np.array([[1.5, 1.5, 1.5, 1.5], [0.5, -0.5, 0.5, -0.5]]))
    assert usual < cloud.limit < strange / 2


def test_each_stream_is_measured_by_its_own_cloud(domain):
    usual = domain.strangeness(domain.sound.mean, domain.picture.mean)
    assert usual == {"sound": 0.0, "picture": 0.0}
    deaf = domain.strangeness(domain.sound.mean + 9, domain.picture.mean)
    assert deaf["sound"] > 1
    assert deaf["picture"] == 0


def test_too_few_people_give_no_domain():
    features, _ = clips(40, np.random.default_rng(4))
    assert Domain.fit(features, features, [f"p{n % (FOLDS - 1)}" for n in range(40)]) is None


def test_a_detector_keeps_its_domain_and_forgets_an_old_one(mini, tmp_path, domain):
    mini.domain = domain
    mini.save_pretrained(tmp_path)
    found = Detector.from_pretrained(tmp_path).domain
    point = np.arange(8.0), np.arange(3.0)
    assert found.strangeness(*point) == pytest.approx(domain.strangeness(*point), rel=1e-5)
    mini.domain = None
    mini.save_pretrained(tmp_path)
    assert Detector.from_pretrained(tmp_path).domain is None


@pytest.mark.parametrize(
    "change",
    [
        {"sound.precision": torch.eye(2)},
        {"picture.limit": torch.zeros(1)},
        {"picture.limit": torch.ones(2)},
        {"picture.mean": None},
    ],
)
def test_a_file_that_holds_something_else_is_refused(mini, tmp_path, domain, change):
    mini.save_pretrained(tmp_path)
    path = tmp_path / "domain.safetensors"
    domain.save(path)
    arrays = load_file(path) | change
    save_file({name: tensor for name, tensor in arrays.items() if tensor is not None}, path)
    with pytest.raises(AVFFError, match=r"domain\.safetensors cannot be read"):
        Detector.from_pretrained(tmp_path)


def test_features_of_another_model_are_refused(domain):
    with pytest.raises(AVFFError, match="has 8 features of the sound, the model gives 5"):
        domain.strangeness(np.zeros(5), np.zeros(3))
