"""Metrics against closed forms and slow twins."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from torchmetrics.functional import classification as tm

from avff_lib.data.manifest import Row
from avff_lib.evaluation.metrics import (
    METRICS,
    best_threshold,
    binary_metrics,
    bootstrap_auc,
    bootstrap_intervals,
    equal_error_rate,
    tpr_at_fpr,
)
from avff_lib.evaluation.summary import summarize


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
    assert metrics["tpr_at_1_fpr"] == pytest.approx(norm.cdf(1.5 - norm.ppf(0.99)), abs=2e-3)
    assert tpr_at_fpr(labels, scores, 0.2) == pytest.approx(norm.cdf(1.5 - norm.ppf(0.8)), abs=2e-3)
    assert best_threshold(labels, scores) == pytest.approx(0.75, abs=0.05)


def test_equal_error_rate_of_perfect_useless_and_inverted_scores():
    labels = np.array([0, 0, 1, 1])
    assert equal_error_rate(labels, np.array([0.1, 0.2, 0.8, 0.9])) == 0
    assert equal_error_rate(labels, np.array([0.5, 0.5, 0.5, 0.5])) == 0.5
    assert equal_error_rate(labels, np.array([0.9, 0.8, 0.2, 0.1])) == 1


def test_best_threshold_separates_what_can_be_separated():
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.7, 0.9])
    assert best_threshold(labels, scores) == pytest.approx(0.5)


def test_metrics_agree_with_torchmetrics():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    scores = np.round(rng.uniform(0, 1, 400) * 0.7 + 0.3 * labels, 2)  # with ties
    metrics = binary_metrics(labels, scores, 0.61)
    given = torch.tensor(scores), torch.tensor(labels)
    assert metrics["auc"] == pytest.approx(float(tm.binary_auroc(*given)), abs=1e-6)
    assert metrics["ap"] == pytest.approx(float(tm.binary_average_precision(*given)), abs=1e-6)
    at_99, _ = tm.binary_sensitivity_at_specificity(*given, min_specificity=0.99)
    assert metrics["tpr_at_1_fpr"] == pytest.approx(float(at_99), abs=1e-6)
    recalls = tm.multiclass_recall((given[0] >= 0.61).long(), given[1], num_classes=2, average="macro")
    assert metrics["balanced_accuracy"] == pytest.approx(float(recalls), abs=1e-6)


def row(label, category="RVRA", method="real", source="a", group=""):
    return Row(None, label, category, method, source, group=group)


def test_each_method_is_compared_with_all_real_clips():
    rows = [row(0), row(0), row(1, "FVRA", "swap"), row(1, "FVRA", "blend"), row(1, "RVFA", "shift")]
    summary = summarize(rows, np.array([0.1, 0.4, 0.9, 0.2, 0.3]), threshold=0.5)
    assert summary["by_method"]["swap"]["auc"] == 1
    assert summary["by_method"]["blend"]["auc"] == 0.5
    assert summary["by_category"]["FVRA"] == {
        "auc": 0.75, "ap": pytest.approx(5 / 6), "eer": 0.5, "tpr_at_1_fpr": 0.5, "balanced_accuracy": 0.75,
        "clips": 2, "real": 2, "identities": 1,
    }  # fmt: skip
    assert summary["counts"] == {"clips": 5, "real": 2, "fake": 3, "identities": 1}
    assert summary["confusion"] == {
        "true_negatives": 2, "false_positives": 0, "false_negatives": 2, "true_positives": 1
    }  # fmt: skip


def test_a_group_of_people_is_compared_with_its_own_real_clips():
    rows = [row(0, group="x"), row(1, "FVFA", "swap", "b", "x"), row(0, group="y"), row(0), row(0, group="z")]
    rows += [row(1, "FVFA", "swap", "c", "y")]
    summary = summarize(rows, np.array([0.6, 0.7, 0.8, 0.9, 0.1, 0.2]), threshold=0.5)
    assert [summary["by_group"][name]["auc"] for name in ("x", "y")] == [1, 0]
    assert summary["by_group"]["x"]["identities"] == 2
    assert "auc" not in summary["by_group"]["z"]
    assert any("group z has 1 real and 0 fake" in note for note in summary["notes"])


def test_undefined_metrics_are_left_out_with_a_note():
    summary = summarize([row(0), row(0, source="b")], np.array([0.1, 0.6]), threshold=0.5)
    assert set(METRICS) & set(summary) == set()
    assert "interval" not in summary
    assert summary["confusion"]["false_positives"] == 1
    assert summary["notes"] == ["None of the 2 clips is fake, so no metric that compares is defined."]


def test_notes_say_what_few_clips_and_few_people_cannot_tell():
    def notes(clips: int, identities: int) -> str:
        rows = [row(label, source=f"p{n % identities}") for n in range(clips) for label in (0, 1)]
        return " ".join(summarize(rows, np.linspace(0, 1, 2 * clips), 0.5)["notes"])

    assert "with 99 the TPR at 1 % FPR" in notes(99, 12)
    assert "draw among 9 people" in notes(100, 9)
    assert notes(100, 10) == ""


def test_one_class_alone_has_no_metrics_rather_than_wrong_ones():
    assert set(binary_metrics(np.zeros(3), np.ones(3), 0.5).values()) == {None}


@pytest.mark.parametrize("at_once", [10**6, 900])
def test_intervals_over_identities_equal_their_slow_twin(monkeypatch, at_once):
    monkeypatch.setattr("avff_lib.evaluation.metrics.BOOTSTRAP_CHUNK", at_once)  # in one part, and in many
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 40), rng.integers(0, 6, 40) / 5  # with ties
    identities = rng.integers(0, 8, 40)
    drawn = np.random.default_rng(1).multinomial(8, np.full(8, 1 / 8), size=200)
    draws = []
    for times in drawn:
        clips = np.concatenate(
            [np.flatnonzero(identities == identity) for identity in np.repeat(range(8), times)]
        )
        draws.append(binary_metrics(labels[clips], scores[clips], 0.5))
        assert draws[-1]["auc"] == roc_auc_score(labels[clips], scores[clips])
    found = bootstrap_intervals(labels, scores, identities, np.random.default_rng(1), 0.5, resamples=200)
    for name in METRICS:
        expected = np.quantile([draw[name] for draw in draws], [0.025, 0.975])
        assert found[name] == pytest.approx(tuple(expected)), name
    assert bootstrap_auc(labels, scores, identities, np.random.default_rng(1), resamples=200) == found["auc"]


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Sixty test sets of thirty people with two clips each, Gaussian scores: about 57 intervals hold it."""
    rng = np.random.default_rng(0)
    labels, identities = np.tile([0, 1], 30), np.repeat(range(30), 2)
    held = 0
    for _ in range(60):
        scores = rng.normal(labels * 1.5)
        low, high = bootstrap_auc(labels, scores, identities, rng, resamples=300)
        held += low <= norm.cdf(1.5 / np.sqrt(2)) <= high
    assert 51 <= held <= 60


def test_more_clips_of_the_same_people_do_not_narrow_the_interval():
    labels, scores = gaussian_scores(1.5, count=60)
    identities = np.arange(120)
    rng = np.random.default_rng(0)
    once = np.diff(bootstrap_auc(labels, scores, identities, rng))
    copied = [np.repeat(values, 5) for values in (labels, scores, identities)]
    assert np.diff(bootstrap_auc(*copied, rng)) == pytest.approx(once, rel=0.1)
    apart = bootstrap_auc(copied[0], copied[1], np.arange(600), rng)
    assert np.diff(apart) < 0.6 * once
