"""Metrics against closed forms and slow twins."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from avff_lib.data.manifest import Row
from avff_lib.evaluation.metrics import (
    best_threshold,
    binary_metrics,
    bootstrap_auc,
    equal_error_rate,
    summarise,
)


def gaussian_scores(distance: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two classes at quantiles of two unit Gaussians, ``distance`` apart."""
    quantiles = norm.ppf((np.arange(count) + 0.5) / count)
    return np.repeat([0, 1], count), np.concatenate([quantiles, quantiles + distance])


def test_metrics_of_two_gaussians_have_their_closed_form():
    labels, scores = gaussian_scores(1.5)
    metrics = binary_metrics(labels, scores, threshold=0.75)
    assert metrics["auc"] == pytest.approx(norm.cdf(1.5 / np.sqrt(2)), abs=1e-3)
    assert metrics["eer"] == pytest.approx(norm.cdf(-0.75), abs=1e-3)
    assert metrics["balanced_accuracy"] == pytest.approx(norm.cdf(0.75), abs=1e-3)
    assert best_threshold(labels, scores) == pytest.approx(0.75, abs=0.05)


def test_equal_error_rate_of_perfect_useless_and_inverted_scores():
    labels = np.array([0, 0, 1, 1])
    assert equal_error_rate(labels, np.array([0.1, 0.2, 0.8, 0.9])) == 0
    assert equal_error_rate(labels, np.array([0.5, 0.5, 0.5, 0.5])) == 0.5
    assert equal_error_rate(labels, np.array([0.9, 0.8, 0.2, 0.1])) == 1


def test_best_threshold_separates_what_can_be_separated():
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.7, 0.9])
    assert best_threshold(labels, scores) == pytest.approx(0.5)


def test_each_method_is_judged_against_all_genuine_clips():
    def row(label, category="RVRA", method="real"):
        return Row(None, label, category, method, "a")

    rows = [row(0), row(0), row(1, "FVRA", "swap"), row(1, "FVRA", "blend"), row(1, "RVFA", "shift")]
    summary = summarise(rows, np.array([0.1, 0.4, 0.9, 0.2, 0.3]), threshold=0.5)
    assert summary["by_method"]["swap"]["auc"] == 1
    assert summary["by_method"]["blend"]["auc"] == 0.5
    assert summary["by_category"]["FVRA"] == {
        "auc": 0.75, "ap": pytest.approx(5 / 6), "eer": 0.5, "balanced_accuracy": 0.75, "clips": 2,
    }  # fmt: skip
    assert summary["counts"] == {"clips": 5, "genuine": 2, "fake": 3}


def test_one_class_alone_has_no_metrics_rather_than_wrong_ones():
    assert set(binary_metrics(np.zeros(3), np.ones(3), 0.5).values()) == {None}


def test_interval_over_identities_equals_its_slow_twin():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 40), rng.integers(0, 6, 40) / 5  # with ties
    people = rng.integers(0, 8, 40)
    drawn = np.random.default_rng(1).multinomial(8, np.full(8, 1 / 8), size=200)
    aucs = []
    for times in drawn:
        clips = np.concatenate([np.flatnonzero(people == person) for person in np.repeat(range(8), times)])
        aucs.append(roc_auc_score(labels[clips], scores[clips]))
    expected = np.quantile(aucs, [0.025, 0.975])
    found = bootstrap_auc(labels, scores, people, np.random.default_rng(1), resamples=200)
    assert found == pytest.approx(tuple(expected))


def test_more_clips_of_the_same_people_do_not_narrow_the_interval():
    labels, scores = gaussian_scores(1.5, count=60)
    people = np.arange(120)
    rng = np.random.default_rng(0)
    once = np.diff(bootstrap_auc(labels, scores, people, rng))
    copied = [np.repeat(values, 5) for values in (labels, scores, people)]
    assert np.diff(bootstrap_auc(*copied, rng)) == pytest.approx(once, rel=0.1)
    apart = bootstrap_auc(copied[0], copied[1], np.arange(600), rng)
    assert np.diff(apart) < 0.6 * once
