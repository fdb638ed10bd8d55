"""`SyncNet`: lags have the right sign, constant offsets are stated and not punished, looks do not matter."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avff_lib import synth
from avff_lib.cli import main
from avff_lib.errors import AVFFError
from avff_lib.faces.tracked import iter_tracked
from avff_lib.inference.learned_sync import learned_sync_file
from avff_lib.inference.predictor import analyze_file, predict
from avff_lib.media.encode import write_clip
from avff_lib.models import Detector, SyncNet, SyncNetConfig
from avff_lib.models.calibration import Calibration
from avff_lib.nn.features import Features
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.report import Page


@pytest.fixture(scope="module")
def model() -> SyncNet:
    return SyncNet.tiny(0).eval()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    plan = synth.plan_corpus(clips=10, identities=6, seed=4, level="easy", methods=())[1]
    found = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_clip(synth.make_clip(plan), found)
    return found


def batch(seed: int = 0) -> ModelInputs:
    rng = torch.Generator().manual_seed(seed)
    frames = torch.rand(2, 50, 3, 48, 48, generator=rng) * 2 - 1
    return ModelInputs(frames, torch.rand(2, 64, 201, generator=rng) * 40 - 60)


def moved(frames: int) -> Features:
    """Features of streams that are alike, with the voice late by a number of frames."""
    visual = torch.randn(1, 90, 64, generator=torch.Generator().manual_seed(1))
    return Features(audio=visual[:, 20 - frames : 70 - frames], visual=visual[:, 20:70])


@pytest.mark.parametrize("frames", [-15, -7, 0, 2, 15])
def test_the_curve_peaks_where_the_voice_is(model, frames):
    curve = model.fuse(moved(frames)).mean(dim=1)[0]
    assert model.lags[int(curve.argmax())] == pytest.approx(frames / 25)
    assert curve.max() > 0.95


def test_each_lag_is_the_mean_over_the_pairs_that_there_are(model):
    features = model.encode(batch())
    streams = (features.visual, features.audio)
    visual, audio = (F.normalize(x - x.mean(dim=1, keepdim=True), dim=-1) for x in streams)
    similarity = visual @ audio.transpose(1, 2)
    curves = model.fuse(features).mean(dim=1)
    for lag in (-15, -4, 0, 9):
        means = torch.stack([matrix.diagonal(lag).mean() for matrix in similarity])
        torch.testing.assert_close(curves[:, lag + 15], means)


def test_an_offset_within_the_tolerance_is_not_punished(model):
    logits = {frames: model.forward_head(model.fuse(moved(frames))).item() for frames in range(-8, 9)}
    assert all((logit < -5) == (abs(frames) <= model.config.tolerance) for frames, logit in logits.items())
    assert all((logit > 5) == (abs(frames) > model.config.tolerance) for frames, logit in logits.items())


def test_what_does_not_move_and_the_colour_of_the_voice_do_not_matter(model):
    inputs = batch()
    beard = torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(3))
    microphone = 3 * torch.randn(64, 1, generator=torch.Generator().manual_seed(4))
    microphone -= microphone.mean()
    louder = ModelInputs(0.8 * inputs.frames + beard, inputs.audio - 10)
    for name in ("audio", "visual"):
        torch.testing.assert_close(
            getattr(model.encode(louder), name), getattr(model.encode(inputs), name), atol=2e-2, rtol=0
        )
    # As long as it moves no band below the floor of the dynamic range.
    flat = replace(inputs, audio=inputs.audio / 4)
    coloured = replace(flat, audio=flat.audio + microphone)
    torch.testing.assert_close(model.encode(coloured).audio, model.encode(flat).audio, atol=1e-3, rtol=0)


def test_stage_one_reaches_both_encoders():
    model = SyncNet.tiny(0)
    terms = model.pretraining_loss(batch(), torch.Generator().manual_seed(0))
    terms["loss"].backward()
    assert {"contrast", "retrieval", "feature_std"} <= terms.keys()
    # The last biases are constant in time, and so have no effect.
    weights = [weight for weight in model.parameters() if weight.ndim > 1]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)


def test_the_search_must_fit_the_window():
    with pytest.raises(AVFFError, match="max_lag is 25; expected more than the tolerance of 3"):
        SyncNetConfig(max_lag=25)


def test_a_saved_model_comes_back(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = Detector.from_pretrained(tmp_path)
    assert isinstance(again, SyncNet)
    torch.testing.assert_close(again(batch()), model(batch()), atol=0, rtol=0)


def test_the_mouth_is_in_the_middle_of_its_crops(path):
    (piece,) = iter_tracked(path, 48, region="mouth")
    left, top, right, bottom = piece.faces[1].boxes.mean(axis=0)
    (whole,) = iter_tracked(path, 48)
    face = whole.faces[1].boxes.mean(axis=0)
    assert face[0] < left < 0.5 < right < face[2]
    # The drawn mouth lies at two thirds of the frame's height.
    assert (top + bottom) / 2 == pytest.approx(0.69, abs=0.05)
    assert top > (face[1] + face[3]) / 2 - 0.05


def test_labels_name_synchrony_and_the_offset_is_stated(path):
    model = SyncNet.tiny(0).eval()
    assert predict(path, model).label == "undetermined"
    calibration = Calibration(unsure=(0.5, 0.5), error_rate=0.05, clips=1)
    for threshold, label in ((1e-6, "out of sync"), (1 - 1e-6, "in sync")):
        model.config = replace(model.config, threshold=threshold, calibration=calibration)
        file = predict(path, model)
        assert file.label == label
        assert file.offset in model.lags.tolist()


def test_the_learned_measure_is_the_curve_of_the_prediction(path, model, tmp_path):
    result = learned_sync_file(path, model)
    curve = analyze_file(path, model, views=False).features["fused_features"].numpy()
    assert (result.lag, result.correlation) == (model.lags[curve.argmax()], pytest.approx(curve.max()))
    assert result.confidence == pytest.approx(curve.max() - np.median(curve))
    (tmp_path / "text.mp4").write_text("no film")
    assert "text.mp4" in (learned_sync_file(tmp_path / "text.mp4", model).error or "")


def test_a_report_names_synchrony_and_not_forgery(path):
    pytest.importorskip("matplotlib")
    model = SyncNet.tiny(0).eval()
    calibration = Calibration(unsure=(0.5, 0.5), error_rate=0.05, clips=1)
    model.config = replace(model.config, threshold=1e-6, calibration=calibration)
    page = Page(model)
    page.add(analyze_file(path, model))
    html = page.html()
    assert '<p class="word">out of sync</p>' in html
    assert "The score is the probability of out of sync" not in html
    assert "1, fake" not in html


def test_the_command_measures_by_the_shipped_embedding(path, capsys):
    assert main(["sync", str(path), "--learned", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert abs(found["lag"]) <= 0.08
    assert found["confidence"] > 0.2
    measured = learned_sync_file(path, SyncNet.from_pretrained("avff-people"))
    assert found == {**asdict(measured), "warnings": list(measured.warnings)}
