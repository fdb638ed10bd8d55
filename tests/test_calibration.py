"""Calibration: what is fitted is found again, promises are kept, and older checkpoints stay as they were."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import binary_calibration_error

from avff_lib.data.examples import Example
from avff_lib.data.manifest import Row
from avff_lib.errors import AVFFError
from avff_lib.evaluation import evaluate as evaluation
from avff_lib.evaluation.calibration import (
    Reliability,
    balanced_weights,
    check_target_fpr,
    choose_threshold,
    clips_needed_for,
    cross_fit_errors,
    fit_platt_scaling,
    threshold_at_fpr,
    unsure_range,
)
from avff_lib.evaluation.metrics import risk_coverage_curve
from avff_lib.inference.prediction import FilePrediction
from avff_lib.inference.timeline import aggregate_scores
from avff_lib.media.clip import Clip
from avff_lib.models import AVFF
from avff_lib.models.calibration import Calibration
from avff_lib.models.checkpoint import CONFIG_NAME


def calibrated_scores(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels, half of either, and logits that are log-likelihood ratios: two Gaussians with unit variance."""
    distance = 2.0
    labels = np.repeat([0, 1], count)
    return labels, distance * rng.normal(distance * (labels - 0.5))


def test_temperature_and_bias_that_were_put_in_are_found():
    labels, logits = calibrated_scores(4000, np.random.default_rng(0))
    raw = expit((logits - 0.7) * 2.5)
    temperature, bias = fit_platt_scaling(labels, raw)
    assert temperature == pytest.approx(2.5, rel=0.06)
    assert bias == pytest.approx(0.7, abs=0.1)
    before, after = (
        Reliability.of(labels, raw),
        Reliability.of(labels, expit(logit(raw) / temperature + bias)),
    )
    assert after.ece < 0.02 < before.ece
    assert after.brier < before.brier


def test_temperature_is_a_logistic_regression_with_smoothed_labels():
    rng = np.random.default_rng(9)
    labels = (np.arange(90) % 3 > 0).astype(int)
    logits = rng.normal(labels - 0.5, 1.5)
    temperature, bias = fit_platt_scaling(labels, expit(logits))
    high, low = 61 / 62, 1 / 32
    chances = np.where(labels == 1, high, low)
    weights = np.concatenate([chances, 1 - chances]) * np.tile(balanced_weights(labels), 2) * 90
    twice = np.tile(logits, 2)[:, None]
    twin = LogisticRegression(C=np.inf, tol=1e-10).fit(twice, np.repeat([1, 0], 90), sample_weight=weights)
    assert 1 / temperature == pytest.approx(float(twin.coef_[0, 0]), rel=1e-4)
    assert bias == pytest.approx(float(twin.intercept_[0]), abs=1e-4)


def test_calibration_does_not_depend_on_how_many_fakes_there_are():
    labels, logits = calibrated_scores(4000, np.random.default_rng(1))
    kept = (labels == 1) | (np.arange(len(labels)) % 10 == 0)
    temperature, bias = fit_platt_scaling(labels[kept], expit(logits[kept]))
    assert temperature == pytest.approx(1.0, rel=0.15)
    assert bias == pytest.approx(0.0, abs=0.2)
    assert balanced_weights(labels[kept])[labels[kept] == 1].sum() == pytest.approx(0.5)


def test_uninformative_scores_become_undecided():
    labels = np.repeat([0, 1], 100)
    for scores in (np.full(200, 0.9), np.linspace(0.99, 0.01, 200)):  # all alike, and upside down
        temperature, bias = fit_platt_scaling(labels, scores)
        assert np.abs(expit(logit(scores) / temperature + bias) - 0.5).max() < 0.1


def test_few_clips_without_an_error_do_not_make_a_detector_certain():
    labels = np.array([0, 0, 1, 1])
    temperature, bias = fit_platt_scaling(labels, np.array([0.1, 0.2, 0.8, 0.9]))
    scores = expit(logit(np.array([0.2, 0.8])) / temperature + bias)
    assert 0.1 < scores[0] < 0.4
    assert 0.6 < scores[1] < 0.9


def test_reliability_agrees_with_torchmetrics_and_a_closed_form():
    rng = np.random.default_rng(3)
    labels, scores = rng.permutation(np.repeat([0, 1], 200)), rng.uniform(0, 1, 400)
    found = Reliability.of(labels, scores)
    expected = binary_calibration_error(torch.tensor(scores), torch.tensor(labels), n_bins=10)
    assert found.ece == pytest.approx(float(expected), abs=1e-6)
    assert found.brier == pytest.approx(np.mean((scores - labels) ** 2))
    # With more fakes than real clips both are those of a set in which the real clips are repeated.
    kept = (labels == 1) | (np.arange(400) % 4 == 0)
    unbalanced = Reliability.of(labels[kept], scores[kept])
    weights = balanced_weights(labels[kept])
    brier = brier_score_loss(labels[kept], scores[kept], sample_weight=weights)
    assert unbalanced.brier == pytest.approx(brier)
    real, fake = np.flatnonzero(kept & (labels == 0)), np.flatnonzero(labels == 1)
    repeated = np.concatenate([np.repeat(real, len(fake)), np.repeat(fake, len(real))])
    given = torch.tensor(scores[repeated]), torch.tensor(labels[repeated])
    assert unbalanced.ece == pytest.approx(float(binary_calibration_error(*given, n_bins=10)), abs=1e-5)
    assert unbalanced.brier == pytest.approx(np.mean((scores[repeated] - labels[repeated]) ** 2))
    # Labels drawn by a coin under scores that are uniform: ECE is the mean of |p - 1/2|, 1/4; Brier is 1/3.
    many = np.linspace(0, 1, 20_000)
    useless = Reliability.of(np.arange(20_000) % 2, many)
    assert useless.ece == pytest.approx(0.25, abs=0.001)
    assert useless.brier == pytest.approx(1 / 3, abs=0.001)


def test_ece_by_chance_is_that_of_a_calibrated_detector():
    rng = np.random.default_rng(8)
    scores = rng.uniform(0, 1, 300)
    measured, expected = [], []
    for turn in range(100):
        labels = rng.binomial(1, scores)
        measured.append(Reliability.of(labels, scores).ece)
        if turn < 10:  # each is a mean over 200 draws by itself
            expected.append(Reliability.ece_by_chance(labels, scores, rng))
    assert np.mean(expected) == pytest.approx(np.mean(measured), rel=0.1)


def test_reliability_of_scores_at_the_ends_and_of_one_class():
    found = Reliability.of(np.array([0, 1]), np.array([0.0, 1.0]))
    assert (found.ece, found.brier) == (0, 0)
    assert [entry["clips"] for entry in found.to_json()["bins"]] == [1, 1]
    json.dumps(found.to_json(), allow_nan=False)
    alone = Reliability.of(np.array([1, 1]), np.array([0.5, 0.7]))
    assert alone.weight.sum() == pytest.approx(1)
    assert alone.ece == pytest.approx(0.4)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_a_stated_false_positive_rate_is_kept_on_other_clips(rate):
    """Mean over many validation sets of the exact rate of each threshold."""
    rng = np.random.default_rng(4)
    kept = [1 - threshold_at_fpr(rng.uniform(0, 1, 40), rate) for _ in range(4000)]
    expected = int(rate * 41) / 41  # that of the k-th highest of 40, by symmetry
    assert np.mean(kept) == pytest.approx(expected, abs=0.003)
    assert np.mean(kept) <= rate + 0.002


def test_a_rate_that_so_few_clips_cannot_promise_is_refused():
    assert clips_needed_for(0.05) == 19
    assert threshold_at_fpr(np.arange(19) / 100, 0.05) > 0.18
    for rate, clips, message in (
        (0.05, 18, "needs 19 real"),
        (0.01, 40, "needs 99"),
        (1.5, 40, "between 0 and 1"),
    ):
        with pytest.raises(AVFFError, match=message):
            check_target_fpr(rate, clips)


def test_outside_of_the_unsure_range_either_error_is_rare():
    rng = np.random.default_rng(5)
    for distance in (0.0, 1.5, 6.0):  # useless, fair, and so good that the two ends change places
        errors = []
        for _ in range(300):
            labels = np.repeat([0, 1], 60)
            scores = expit(rng.normal(distance * (labels - 0.5)))
            low, high = unsure_range(labels, scores, threshold=0.5)
            assert low <= 0.5 <= high
            fresh = expit(rng.normal(distance * (labels - 0.5)))
            errors.append([(fresh[labels == 0] > high).mean(), (fresh[labels == 1] < low).mean()])
        assert (np.mean(errors, axis=0) <= 0.055).all()
    assert unsure_range(np.array([0, 1]), np.array([0.1, 0.9]), 0.5) == (0.0, 1.0)


def test_without_a_calibration_scores_stay_and_with_one_their_order_does():
    logits = np.linspace(-12, 12, 101)
    raw, calibration = expit(logits), Calibration(temperature=2.0, bias=1.0)
    assert np.array_equal(Calibration().apply(raw), raw)
    assert calibration.apply(raw) == pytest.approx(expit(logits / 2 + 1))
    assert (np.diff(calibration.apply(raw)) > 0).all()
    assert calibration.apply(np.float32([0, 1])).tolist() == [0, 1]
    assert aggregate_scores([0.2, 0.6], calibration) == pytest.approx(calibration.apply(0.4))
    windows = Calibration(temperature=2.0, bias=1.0, window_temperature=3.0, window_bias=-1.0)
    assert windows.apply_to_windows(raw) == pytest.approx(expit(logits / 3 - 1))
    assert windows.apply(raw) == pytest.approx(calibration.apply(raw))


def test_a_file_is_the_mean_of_its_windows_or_of_their_logits():
    windows = np.float32([0.1, 0.5, 0.99])
    assert Calibration().pool(windows) == pytest.approx(0.53)
    by_logits = Calibration(pooling="logit").pool(windows)
    assert by_logits == pytest.approx(expit(np.log([1 / 9, 1, 99]).mean()), abs=1e-5)
    assert 0.9 < Calibration(pooling="logit").pool([1.0, 1.0, 0.5]) < 1  # no infinity at 1
    assert aggregate_scores(windows, Calibration(pooling="logit")) == by_logits


def test_a_calibration_is_saved_and_older_checkpoints_have_none(mini, tmp_path):
    calibration = Calibration(2.0, -0.5, 3.0, 0.2, 0.4, (0.2, 0.7), 0.05, 0.1, 0.2, 40, 12)
    mini.config = replace(mini.config, calibration=calibration)
    mini.save_pretrained(tmp_path)
    assert AVFF.from_pretrained(tmp_path).config == mini.config
    config = json.loads((tmp_path / CONFIG_NAME).read_text())
    del config["calibration"]
    (tmp_path / CONFIG_NAME).write_text(json.dumps(config))
    assert AVFF.from_pretrained(tmp_path).config == replace(mini.config, calibration=Calibration())


@pytest.mark.parametrize(
    "found",
    [
        *(3, [1.0], {"temperature": 2.0}, {"colour": "red", "unsure": None}),
        *({"bias": None, "unsure": None}, {"bias": float("nan"), "unsure": None}),
        {"unsure": None, "clips": 300},
    ],
)
def test_a_damaged_calibration_is_refused(mini, tmp_path, found):
    mini.save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG_NAME).read_text())
    (tmp_path / CONFIG_NAME).write_text(json.dumps({**config, "calibration": found}))
    with pytest.raises(AVFFError, match="calibration"):
        AVFF.from_pretrained(tmp_path)
    with pytest.raises(AVFFError, match="temperature is 0"):
        Calibration(temperature=0)
    with pytest.raises(AVFFError, match="unsure range"):
        Calibration(unsure=(0.7, 0.2))


def examples_like(labels, people: int | None = None) -> list[Example]:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 16_000).astype(np.float32)
    clip = Clip(np.zeros((25, 32, 32, 3), np.uint8), np.arange(25) / 25, noise, 16_000, 0.0, 1.0)
    return [
        Example(Row(Path(f"{n}.mp4"), int(label), "RVRA", "real", f"p{n % (people or len(labels))}"), clip)
        for n, label in enumerate(labels)
    ]


@pytest.fixture
def scripted(monkeypatch, mini):
    """A detector whose logits of clips are given; it calibrates and scores as any other."""

    def script(labels, logits, people=None):
        examples = examples_like(labels, people)
        raw = {example.row.path: float(expit(value)) for example, value in zip(examples, logits, strict=True)}

        def score(model, parts):
            row, calibration = parts[0].row, model.config.calibration
            value = raw[row.path]
            calibrated = float(calibration.apply(value))
            label = "fake" if calibrated >= model.config.threshold else "real"
            reasons = ("unsure",) if calibration.is_unsure(calibrated) else ()
            prediction = FilePrediction(
                str(row.path), "undetermined" if reasons else label, reasons, score=calibrated
            )
            window = np.array([value])
            features = {"audio_features": window, "visual_features": window}
            return evaluation.ClipScores(
                row, prediction, value, calibration.apply_to_windows(window), window, np.array([row.label]),
                features,
            )  # fmt: skip

        monkeypatch.setattr(evaluation, "_score_parts", score)
        return mini, examples

    return script


def test_calibrate_keeps_the_promise_that_it_writes_down(scripted):
    labels, logits = calibrated_scores(100, np.random.default_rng(6))
    model, examples = scripted(labels, 3 * logits + 1)
    evaluation.calibrate(model, examples)
    found = model.config.calibration
    assert (found.temperature, found.bias) == (pytest.approx(3, rel=0.3), pytest.approx(-1 / 3, abs=0.4))
    scores = evaluation.score_examples(model, examples)  # calibrated
    assert found.fpr == pytest.approx((scores[labels == 0] >= model.config.threshold).mean(), abs=0.06)
    assert found.fnr == pytest.approx((scores[labels == 1] < model.config.threshold).mean(), abs=0.06)
    assert (found.clips, found.identities) == (200, 200)
    # A clip is one window here, so both are fitted to the same numbers.
    assert (found.window_temperature, found.window_bias) == (found.temperature, found.bias)
    assert found.window_threshold == pytest.approx(model.config.threshold)
    metrics = evaluation.evaluate(model, examples)
    assert metrics["selective"]["fpr"] <= found.error_rate
    assert metrics["selective"]["fnr"] <= found.error_rate
    unsure = metrics["selective"]["reasons"]["unsure"]
    assert metrics["selective"]["coverage"] == pytest.approx(1 - unsure / 200)
    assert metrics["skipped"] == []
    before = asdict(model.config)
    evaluation.calibrate(model, examples)  # what was there is forgotten, not built upon
    assert asdict(model.config) == before


def test_calibrate_to_a_stated_false_positive_rate(scripted):
    labels, logits = calibrated_scores(50, np.random.default_rng(7))
    model, examples = scripted(labels, logits)
    evaluation.calibrate(model, examples, target_fpr=0.1)
    scores = evaluation.score_examples(model, examples)[labels == 0]
    assert (scores >= model.config.threshold).mean() == 4 / 50  # four of 50 and the next one: 5 of 51
    before = model.config
    with pytest.raises(AVFFError, match="needs 99 real validation clips, there are 50"):
        evaluation.calibrate(model, examples, target_fpr=0.01)
    assert model.config == before


def test_calibrate_without_one_of_the_classes_forgets_what_other_weights_had(scripted):
    model, examples = scripted([0, 0], [0.0, 1.0])
    model.config = replace(model.config, threshold=0.9, calibration=Calibration(temperature=3.0))
    evaluation.calibrate(model, examples)
    assert (model.config.threshold, model.config.calibration) == (0.5, Calibration())


def test_evaluate_lists_the_clips_that_cannot_be_scored(mini):
    class Unreadable(Example):
        @property
        def clip(self):
            raise AVFFError("the shard is gone")

    readable = examples_like([0, 1])
    row = Row(Path("gone.mp4"), 1, "RVFA", "voice", "p3")
    broken = object.__new__(Unreadable)
    object.__setattr__(broken, "row", row)
    metrics = evaluation.evaluate(mini, [*readable, broken])
    assert metrics["counts"] == {"clips": 2, "real": 1, "fake": 1, "identities": 2}
    assert metrics["skipped"] == [{"path": "gone.mp4", "reason": "the shard is gone"}]
    with pytest.raises(AVFFError, match="none of the 1 files can be scored; the first one: the"):
        evaluation.evaluate(mini, [broken])
    with pytest.raises(AVFFError, match="none of the 0 files can be scored"):
        evaluation.evaluate(mini, [])


# -- errors for other people, and abstention --


def test_errors_on_the_clips_that_chose_the_threshold_flatter_and_cross_fitting_does_not():
    """Scores without any information: a threshold fitted to twenty clips looks better than a coin."""
    flattering, honest = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels, raw = np.tile([0, 1], 10), rng.uniform(0.01, 0.99, 20)
        threshold = choose_threshold(labels, raw, None)
        flattering.append(((raw >= threshold) != labels).mean())
        fpr, fnr = cross_fit_errors(labels, raw, np.arange(20))
        honest.append((fpr + fnr) / 2)
    assert np.mean(flattering) < 0.42
    assert np.mean(honest) == pytest.approx(0.5, abs=0.03)


def test_cross_fitting_leaves_whole_people_out():
    """Each person's clips lie on one side, so that a fit which has seen the person knows the answer."""
    people = np.repeat(np.arange(10), 4)
    labels = np.repeat(np.arange(10) % 2, 4)
    raw = np.where(labels == 1, 0.6, 0.4) + 0.3 * (people % 3 - 1) * np.where(labels == 1, -1, 1)
    by_person, by_clip = cross_fit_errors(labels, raw, people), cross_fit_errors(labels, raw, np.arange(40))
    assert sum(by_person) >= sum(by_clip)
    assert cross_fit_errors(labels, raw, np.zeros(40)) == (None, None)
    assert cross_fit_errors(labels, raw, people, target_fpr=0.01) == (None, None)


def test_risk_falls_with_coverage_if_confidence_means_anything():
    wrong = np.array([False, True, False, False, True])
    coverage, risk = risk_coverage_curve(wrong, np.array([0.9, 0.1, 0.8, 0.7, 0.2]))
    assert coverage.tolist() == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert risk == pytest.approx([0, 0, 0, 1 / 4, 2 / 5])
