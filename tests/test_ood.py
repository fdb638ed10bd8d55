"""Out-of-distribution detection: files unlike everything that a detector was calibrated on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from avff_lib.errors import AVFFError
from avff_lib.models import Detector
from avff_lib.models.ood import (
    COVERAGE,
    CV_FOLDS,
    STREAM_OF,
    MahalanobisDetector,
    OODDetector,
    picture_statistics,
)


def clips(count: int, rng: np.random.Generator, identities: int = 30) -> tuple[np.ndarray, list[str]]:
    """Correlated features, in which the clips of a person lie together."""
    shape = np.eye(8) + 0.2 * np.random.default_rng(99).normal(size=(8, 8))
    who = rng.integers(identities, size=count)
    own = rng.normal(size=(identities, 8))
    return (0.6 * own[who] + rng.normal(size=(count, 8))) @ shape + 5, [f"p{n}" for n in who]


@pytest.fixture
def ood() -> OODDetector:
    features, identities = clips(100, np.random.default_rng(5))
    return OODDetector.fit({"audio_features": features, "visual_features": features[:, :3]}, identities)


def test_the_limit_holds_for_identities_that_it_was_not_fitted_on():
    detector, _ = MahalanobisDetector.fit(*clips(600, np.random.default_rng(0)))
    others, _ = clips(600, np.random.default_rng(1))
    assert (detector.distances(others) <= detector.limit).mean() == pytest.approx(COVERAGE, abs=0.03)


def test_distance_counts_in_units_of_what_is_usual_in_each_direction():
    features, identities = clips(4000, np.random.default_rng(2))
    apart, covariance = features - features.mean(axis=0), np.cov(features.T)
    expected = np.sqrt(np.einsum("nd,de,ne->n", apart, np.linalg.inv(covariance), apart) / 8)
    detector, _ = MahalanobisDetector.fit(features, identities)
    assert np.allclose(detector.distances(features), expected, rtol=0.03)


def test_an_unusual_combination_is_out_of_distribution_though_no_single_feature_is_unusual():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(500, 1)) @ np.ones((1, 4)) + 0.05 * rng.normal(size=(500, 4))
    detector, _ = MahalanobisDetector.fit(features, [f"p{n % 50}" for n in range(500)])
    usual, unusual = detector.distances(np.array([[1.5, 1.5, 1.5, 1.5], [0.5, -0.5, 0.5, -0.5]]))
    assert usual < detector.limit < unusual / 2


def test_each_stream_has_its_own_score(ood):
    audio, visual = (ood.detectors[name].mean for name in ("audio_features", "visual_features"))
    usual = ood.ood_scores({"audio_features": audio, "visual_features": visual})
    assert usual == {"audio": 0.0, "visual": 0.0, "joint": 0.0}
    shifted = ood.ood_scores({"audio_features": audio + 9, "visual_features": visual})
    assert shifted["audio"] > 1
    assert shifted["visual"] == 0


def test_a_stream_is_as_unusual_as_its_most_unusual_features():
    features, identities = clips(200, np.random.default_rng(6))
    kinds = ("visual_features", "visual_detail", "picture_statistics")
    detector = OODDetector.fit(dict.fromkeys(kinds, features), identities)
    given = dict.fromkeys(kinds, features.mean(axis=0))
    assert detector.ood_scores(given)["visual"] < 0.5
    for kind in kinds:
        assert detector.ood_scores(given | {kind: given[kind] + 9})["visual"] > 1


def test_who_is_somewhat_unusual_in_everything_is_out_of_distribution():
    rng = np.random.default_rng(8)
    known = {kind: rng.normal(size=(500, 8)) for kind in STREAM_OF}
    detector = OODDetector.fit(known, [f"p{n % 50}" for n in range(500)])
    somewhat = {kind: 0.85 * found.limit * np.ones(8) for kind, found in detector.detectors.items()}
    scores = detector.ood_scores(somewhat)
    assert scores["audio"] < 1
    assert scores["visual"] < 1
    assert scores["joint"] > 1


def test_all_features_together_let_as_many_clips_pass_as_one_alone():
    """Five kinds with a limit of their own would together flag five times as many."""
    rng = np.random.default_rng(7)
    kinds = tuple(STREAM_OF)
    known = {kind: rng.normal(size=(500, 4)) for kind in kinds}
    detector = OODDetector.fit(known, [f"p{n % 50}" for n in range(500)])
    fresh = {kind: rng.normal(size=(2000, 4)) for kind in kinds}
    passed = [
        max(detector.ood_scores({kind: fresh[kind][n] for kind in kinds}).values()) <= 1 for n in range(2000)
    ]
    assert np.mean(passed) == pytest.approx(COVERAGE, abs=0.015)


def test_statistics_of_pictures_tell_grain_and_colours_apart():
    rng = torch.Generator().manual_seed(0)
    smooth = torch.linspace(-1, 1, 64).expand(2, 6, 3, 64, 64)
    grainy = smooth + 0.1 * torch.randn(2, 6, 3, 64, 64, generator=rng)
    red = smooth + torch.tensor([0.3, 0.0, 0.0]).view(3, 1, 1)
    plain, grain, colour = (picture_statistics(frames) for frames in (smooth, grainy, red))
    assert plain.shape == (2, 6 + 2 + 8)
    assert (grain[:, -1] - plain[:, -1]).min() > 5  # power in the highest band
    assert (colour[:, 0] - plain[:, 0]).min() > 0.25
    assert torch.allclose(colour[:, 8:], plain[:, 8:], atol=0.5)  # a colour cast is no grain


def test_too_few_identities_give_no_detector():
    features, _ = clips(40, np.random.default_rng(4))
    few = [f"p{n % (CV_FOLDS - 1)}" for n in range(40)]
    assert OODDetector.fit({"audio_features": features}, few) is None


def test_a_checkpoint_keeps_its_detector_and_drops_an_old_one(mini, tmp_path, ood):
    mini.ood = ood
    mini.save_pretrained(tmp_path)
    loaded = Detector.from_pretrained(tmp_path).ood
    point = {"audio_features": np.arange(8.0), "visual_features": np.arange(3.0)}
    assert loaded.ood_scores(point) == pytest.approx(ood.ood_scores(point), rel=1e-5)
    mini.ood = None
    mini.save_pretrained(tmp_path)
    assert Detector.from_pretrained(tmp_path).ood is None


@pytest.mark.parametrize(
    "change",
    [
        {"audio_features.precision": torch.eye(2)},
        {"visual_features.limit": torch.zeros(1)},
        {"visual_features.limit": torch.ones(2)},
        {"visual_features.mean": None},
        {"hearing.mean": torch.ones(3)},
        {"joint.limit": torch.zeros(1)},
        {"joint.limit": None},
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
    with pytest.raises(AVFFError, match="has 8 audio_features, the model gives 5"):
        ood.ood_scores({"audio_features": np.zeros(5), "visual_features": np.zeros(3)})
