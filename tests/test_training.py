"""Losses against slow twins; a training run that learns, resumes, and stops with one sentence."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avff_lib.data.dataset import AVDataset
from avff_lib.data.examples import Example, load_examples
from avff_lib.data.manifest import Row
from avff_lib.data.transforms import Augment
from avff_lib.errors import AVFFError
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.nn.losses import info_nce, masked_mse, retrieval_accuracy
from avff_lib.nn.sequences import pool_to_steps, subtract_temporal_mean
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.training.config import TrainConfig
from avff_lib.training.loop import fit
from avff_lib.training.objectives import classification_loss, pretraining_loss
from avff_lib.training.optim import parameter_groups


def test_info_nce_equals_its_slow_twin():
    audio, visual = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    total = 0.0
    for one, other in ((audio, visual), (visual, audio)):
        for i in range(5):
            cosines = [float(F.cosine_similarity(one[i], other[j], dim=0)) / 0.1 for j in range(5)]
            total -= cosines[i] - math.log(sum(math.exp(c) for c in cosines))
    assert info_nce(audio, visual, 0.1).item() == pytest.approx(total / 10, rel=1e-5)
    same = torch.ones(5, 8)
    assert info_nce(same, same, 0.1).item() == pytest.approx(math.log(5), rel=1e-5)  # nothing is known


def test_masked_mse_equals_its_slow_twin_and_ignores_what_is_visible():
    predicted, target = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    masked = torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]).bool()
    errors = [
        (float(predicted[b, t, d]) - float(target[b, t, d])) ** 2
        for b in range(3) for t in range(4) for d in range(5) if masked[b, t]
    ]  # fmt: skip
    loss = masked_mse(predicted, target, masked)
    assert loss.item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    predicted[~masked] += 100
    assert masked_mse(predicted, target, masked) == loss


def test_masked_frames_do_not_reach_the_fusion(mini, inputs):
    """Changing only frames that are masked changes the target, never the prediction."""
    predictions = []
    mini.decoder.register_forward_hook(lambda module, args, output: predictions.append(output[1].detach()))
    mini.eval()
    masked = torch.rand(4, 16, generator=torch.Generator().manual_seed(3)) < 0.5
    changed = inputs.frames.clone()
    changed[masked] = 0.0
    for frames in (inputs.frames, changed):
        pretraining_loss(
            mini, ModelInputs(frames, inputs.audio), torch.zeros(4), torch.Generator().manual_seed(3)
        )
    torch.testing.assert_close(predictions[0], predictions[1])


def test_retrieval_accuracy_of_perfect_and_shuffled_pairs():
    vectors = torch.eye(6)
    assert retrieval_accuracy(vectors, 3 * vectors) == 1
    assert retrieval_accuracy(vectors, vectors.roll(1, 0)) == 0


def test_to_steps_is_a_mean_over_equal_parts():
    sequence = torch.arange(8.0).reshape(1, 8, 1)
    assert pool_to_steps(sequence, 4).flatten().tolist() == [0.5, 2.5, 4.5, 6.5]
    assert subtract_temporal_mean(sequence).flatten().tolist() == [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]


def speaking_example(label: int, seed: int, segments=()) -> Example:
    """Two seconds of a bright mouth that opens as the voice is loud; if fake, a dark one that closes."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.random(10), 5)  # (50,) five frames alike
    opening = 1 - loudness if label else loudness
    colours = (60, 220) if label else (220, 60)
    rows = np.abs(np.arange(32) - 16)[None, :, None, None]
    frames = np.where(rows < 14 * opening[:, None, None, None], *colours).astype(np.uint8)
    frames = np.broadcast_to(frames, (50, 32, 32, 3))
    sound = np.repeat(loudness, 640) * rng.standard_normal(32_000)
    clip = Clip(frames, np.arange(50) / 25, (sound / 4).astype(np.float32), 16_000, 0.0, 2.0)
    row = Row(None, label, "FVFA" if label else "RVRA", "x", f"id{seed}", fake_segments=segments)
    return Example(row, clip)


def windows(examples: list[Example], model) -> AVDataset:
    return AVDataset(examples, model.spec, transforms=Augment())


@pytest.fixture
def examples() -> list[Example]:
    return [speaking_example(label, seed) for seed in range(4) for label in (0, 1)]


def test_a_clip_without_a_face_or_too_short_is_skipped_with_its_reason(mini, tmp_path):
    """Training on blank frames is worse than training on fewer clips."""
    rows = []
    for name, length in (("blank", 2.0), ("short", 0.6), ("broken", 0.0)):
        rows.append(Row(tmp_path / f"{name}.mp4", 0, "RVRA", "real", "a"))
        times = np.arange(round(length * 25)) / 25
        frames = np.zeros((len(times), 64, 64, 3), np.uint8)
        sound = np.zeros(round(length * 16_000), np.float32)
        if length:
            write_clip(Clip(frames, times, sound, 16_000, 0.0, length), rows[-1].path)
        else:
            rows[-1].path.write_bytes(b"no video")
    examples, skipped = load_examples(rows, mini.spec, workers=1)
    assert examples == []
    assert [entry.row for entry in skipped] == rows
    for entry, reason in zip(skipped, ("no face", "lasts 0.6", "cannot be read"), strict=True):
        assert reason in entry.reason


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_lowers_the_loss_of_both_stages(mini, examples, tmp_path, precision):
    config = TrainConfig(steps=25, batch_size=8, lr=2e-3, encoder_lr=2e-3, precision=precision)
    real = [example for example in examples if example.row.label == 0]
    for name, objective, clips in (
        ("one", pretraining_loss, real),
        ("two", classification_loss, examples),
    ):
        history = fit(mini, objective, windows(clips, mini), config, tmp_path / name)
        losses = [record["loss"] for record in history]
        assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:3]), name
        assert json.loads((tmp_path / name / "history.json").read_text()) == history


def test_a_killed_run_resumes_to_the_same_weights_with_other_workers(mini, examples, tmp_path):
    config = TrainConfig(steps=6, batch_size=4, save_every=2)
    dataset = windows(examples, mini)
    start = {name: tensor.clone() for name, tensor in mini.state_dict().items()}

    def run(folder, on_step=None, workers=0):
        mini.load_state_dict(start)
        changed = replace(config, num_workers=workers)
        return fit(mini, classification_loss, dataset, changed, folder, on_step)

    whole = run(tmp_path / "whole")
    expected = {name: tensor.clone() for name, tensor in mini.state_dict().items()}

    def kill(step, record):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", kill)
    assert run(tmp_path / "killed", workers=2) == whole
    for name, tensor in mini.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_folder_of_another_run_and_a_non_finite_loss_stop_the_run(mini, examples, tmp_path):
    dataset = windows(examples, mini)
    fit(mini, classification_loss, dataset, TrainConfig(steps=1, batch_size=4), tmp_path)
    with pytest.raises(AVFFError, match="another steps"):
        fit(mini, classification_loss, dataset, TrainConfig(steps=2, batch_size=4), tmp_path)
    torch.nn.init.constant_(mini.classifier.norm.weight, torch.nan)
    with pytest.raises(AVFFError, match="loss is nan at step 0"):
        fit(mini, classification_loss, dataset, TrainConfig(steps=1, batch_size=4), tmp_path / "nan")


def test_groups_freeze_encoders_and_spare_biases(mini):
    groups = parameter_groups(mini, TrainConfig(encoder_lr=0.0))
    trained = {id(p) for group in groups for p in group["params"]}
    assert all((id(p) in trained) == ("_encoder." not in name) for name, p in mini.named_parameters())
    assert all(p.ndim > 1 for group in groups if group["weight_decay"] for p in group["params"])


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"lr": 0.0}, {"encoder_lr": -1.0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(AVFFError, match=next(iter(wrong))):
        TrainConfig(**wrong)
