"""Losses against slow twins; a training run that learns, resumes, and stops with one sentence."""

import json
import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avff_lib import cli
from avff_lib.data.dataset import AVDataset
from avff_lib.data.examples import Example, load_examples
from avff_lib.data.fingerprint import fingerprint
from avff_lib.data.manifest import Row
from avff_lib.data.shards import FORMAT, INDEX_NAME, _PartWriter, _stored
from avff_lib.data.transforms import Augment
from avff_lib.errors import AVFFError
from avff_lib.evaluation import evaluate
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.models import Detector
from avff_lib.models.calibration import Calibration
from avff_lib.nn.losses import info_nce, masked_mse, retrieval_accuracy
from avff_lib.nn.sequences import pool_to_steps, subtract_temporal_mean
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.training import loop
from avff_lib.training.config import TrainConfig
from avff_lib.training.identity import run_identity
from avff_lib.training.loop import fit
from avff_lib.training.objectives import classification_loss, pretraining_loss
from avff_lib.training.optim import parameter_groups

MIRRORED = Augment()


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


def speaking_example(label: int, seed: int, split: str = "train", segments=()) -> Example:
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
    name, category = Path(f"data/{split}-{seed}-{label}.mp4"), "FVFA" if label else "RVRA"
    row = Row(name, label, category, "x", f"{split}{seed}", split=split, fake_segments=segments)
    return Example(row, clip)


def windows(examples: list[Example], model) -> AVDataset:
    return AVDataset(examples, model.spec, transforms=MIRRORED)


def weights(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


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
    for entry, reason in zip(skipped, ("no face", "too short", "cannot be read"), strict=True):
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
    config, start = TrainConfig(steps=2, batch_size=4), weights(mini)
    dataset = windows(examples, mini)
    fit(mini, classification_loss, dataset, config, tmp_path)
    with pytest.raises(AVFFError, match=r"another initial model \(\w{12}, now \w{12}\); choose"):
        fit(mini, classification_loss, dataset, config, tmp_path)
    mini.load_state_dict(start)
    for changed, other, name in (
        (replace(config, lr=0.5), dataset, r"another lr \(0\.001, now 0\.5\)"),
        (config, windows(examples[1:], mini), "another dataset"),
        (config, AVDataset(examples, mini.spec), r"another flip in the augmentation \(0\.5, now 0\.0\)"),
    ):
        with pytest.raises(AVFFError, match=name):
            fit(mini, classification_loss, other, changed, tmp_path)
    with pytest.raises(AVFFError, match="holds 2 steps of this run, more than the 1 asked for"):
        fit(mini, classification_loss, dataset, replace(config, steps=1), tmp_path)
    torch.nn.init.constant_(mini.classifier.norm.weight, torch.nan)
    with pytest.raises(AVFFError, match="loss is nan at step 0"):
        fit(mini, classification_loss, dataset, config, tmp_path / "nan")


def test_a_run_is_what_its_weights_depend_on(mini, examples, tmp_path):
    config = TrainConfig(steps=4, batch_size=4)

    def in_folder(name: str) -> list[Example]:
        (tmp_path / name).mkdir()
        paths = [tmp_path / name / f"{number}.mp4" for number in range(len(examples))]
        for path in paths:
            path.write_bytes(b"video")
        return [replace(e, row=replace(e.row, path=path)) for e, path in zip(examples, paths, strict=True)]

    def identity(clips=None, *, objective=classification_loss, transforms=MIRRORED, **settings):
        dataset = AVDataset(clips or here, mini.spec, transforms=transforms)
        return run_identity(mini, objective, replace(config, **settings), dataset)

    def changed(row_changes: dict) -> list[Example]:
        return [replace(here[0], row=replace(here[0].row, **row_changes)), *here[1:]]

    here = in_folder("here")
    expected = identity()
    # Neither how far a run goes, and who reads for it, nor where its data lie.
    assert identity(steps=9, save_every=3, keep_last=2, num_workers=1) == expected
    assert identity(in_folder("elsewhere")) == expected
    mini.config = replace(mini.config, trained_on="something", threshold=0.3)
    assert identity() == expected
    assert identity(transforms=None) == identity(transforms=Augment(flip=0.0))

    def differs(other: dict) -> set[str]:
        assert other.keys() == expected.keys()
        return {name for name in other if other[name] != expected[name]}

    assert differs(identity(seed=1)) == {"seed"}
    assert differs(identity(objective=pretraining_loss)) == {"objective"}
    assert differs(identity(transforms=Augment(crop=0.1))) == {"crop in the augmentation"}
    for clips in (
        here[::-1],
        here[1:],
        changed({"label": 1}),
        changed({"source": "somebody"}),
        changed({"fake_segments": ((0.0, 1.0),)}),
        changed({"path": tmp_path / "here" / "other.mp4"}),
        [replace(here[0], clip=here[0].clip.window(0.0, 1.5)), *here[1:]],
    ):
        assert differs(identity(clips)) == {"dataset"}
    here[3].row.path.write_bytes(b"another video")
    assert differs(identity()) == {"dataset"}
    here[3].row.path.write_bytes(b"video")
    mini.config = replace(mini.config, dropout=0.3)
    assert differs(identity()) == {"initial model"}
    mini.config = replace(mini.config, dropout=0.1)
    with torch.no_grad():
        mini.classifier.mlp[4].bias += 1e-6
    assert differs(identity()) == {"initial model"}


def test_the_clips_of_a_shard_are_known_by_its_checksum(mini, examples, tmp_path):
    """No clip is read for that; a shard that was made anew of other videos has other contents."""

    def from_shard(folder: str, clips: list[Example]) -> str:
        (tmp_path / folder).mkdir()
        shard = tmp_path / folder / "shard-00000.tar"
        writer = _PartWriter(shard, "png")
        entries = [writer.add(f"{number:02d}-0", clip, {}) for number, clip in enumerate(clips)]
        writer.flush()
        index = {
            "complete": True,
            "image_size": 32,
            "region": "face",
            "sample_rate": 16_000,
            "shards": ["shard-00000.json"],
        }
        entry = {"parts": writer.written, "clips": [], "skipped": []}
        for name, content in ((INDEX_NAME, index), ("shard-00000.json", entry)):
            (shard.parent / name).write_text(json.dumps({"format": FORMAT, **content}))
        shard.unlink()
        clips = [_stored(entry, shard, example.row) for example, entry in zip(examples, entries, strict=True)]
        return fingerprint(clips, mini.spec)

    here = from_shard("here", examples)
    assert from_shard("elsewhere", examples) == here
    assert from_shard("other", examples[::-1]) != here
    assert fingerprint(examples, replace(mini.spec, image_size=64)) != fingerprint(examples, mini.spec)


def test_a_run_is_extended(mini, examples, tmp_path):
    """What it went stays as it is; from there on the learning rate is that of a run of the new length."""
    dataset, start = windows(examples, mini), weights(mini)
    short, long = (TrainConfig(steps=steps, batch_size=4, save_every=2, ema=0.5) for steps in (2, 4))

    def run(folder, config, on_step=None):
        mini.load_state_dict(start)
        history = fit(mini, classification_loss, dataset, config, tmp_path / folder, on_step)
        return history, weights(mini)

    before, after_two = run("extended", short)
    assert run("extended", short)[0] == before  # complete
    history, after_four = run("extended", replace(long, save_every=3, keep_last=3, num_workers=1))
    assert history[:2] == before
    whole, _ = run("whole", long)
    assert [record["lr"] for record in history[2:]] == [record["lr"] for record in whole[2:]]
    assert history[2]["lr"] > 0  # where that of the shorter run had come down to
    assert any(not torch.equal(after_four[name], tensor) for name, tensor in after_two.items())
    assert json.loads((tmp_path / "extended" / "history.json").read_text()) == history
    names = {path.name for path in (tmp_path / "extended").glob("state-*")}
    assert names == {f"state-0000000{steps}.pt" for steps in (2, 3, 4)}

    def kill(step, record):
        if step == 3:
            raise KeyboardInterrupt

    run("killed", short)
    with pytest.raises(KeyboardInterrupt):
        run("killed", long, kill)
    again, after_kill = run("killed", long)
    assert again == history
    assert all(torch.equal(after_kill[name], tensor) for name, tensor in after_four.items())


# --- the command ---


@pytest.fixture
def command(mini, tmp_path, monkeypatch, capsys):
    """Runs ``avff train`` from a saved model on clips in memory; returns the status and what was said."""
    mini.save_pretrained(tmp_path / "one")
    splits = {"train": (0, 1, 2), "val": (0, 1)}
    clips = {
        split: [speaking_example(label, seed, split) for seed in seeds for label in (0, 1)]
        for split, seeds in splits.items()
    }

    def examples_of(data, spec, wanted, few=False):
        return [clip for split in clips.values() for clip in split if wanted(clip.row)], []

    def run(*arguments: str, init="one", steps=4, **settings) -> tuple[int, str]:
        settings = {"batch_size": 4, "validate_every": 2} | settings
        options = [
            part
            for name, value in settings.items()
            if value is not None
            for part in (f"--{name}", str(value))
        ]
        folders = ["--data", "corpus", "--out", str(tmp_path / "two"), "--init", str(tmp_path / init)]
        status = cli.main(["train", *folders, "--steps", str(steps), *options, *arguments])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    # The package names the function train like its module.
    monkeypatch.setattr(import_module("avff_lib.cli.train"), "examples_of", examples_of)
    run.clips, run.out = clips, tmp_path / "two"
    return run


def test_what_validated_best_is_calibrated_and_saved(command, monkeypatch):
    """Of three validations the second one is perfect; the last model is another one."""
    scores = iter([[0.1, 0.2, 0.2, 0.1], [0.1, 0.9, 0.2, 0.8], [0.9, 0.1, 0.8, 0.2]])
    monkeypatch.setattr(evaluate, "score_examples", lambda model, examples: np.array(next(scores)))
    status, said = command(steps=6)
    assert status == 0
    assert "step 4 validated best, with an AUC of 1.000" in said
    saved, best = (Detector.from_pretrained(folder) for folder in (command.out, command.out / "best"))
    last = torch.load(command.out / "state-00000006.pt", weights_only=True)["model"]
    assert all(torch.equal(tensor, best.state_dict()[name]) for name, tensor in saved.state_dict().items())
    assert any(not torch.equal(tensor, last[name]) for name, tensor in saved.state_dict().items())
    assert saved.config.calibration.clips == 4
    assert saved.config.trained_on == best.config.trained_on == "6 clips of corpus"
    assert best.config.calibration.clips == 0


def test_nothing_is_lost_if_the_calibration_fails(command, mini, tmp_path, monkeypatch):
    def fail(*_):
        raise AVFFError("val.mp4 is damaged")

    mini.config = replace(mini.config, threshold=0.9, calibration=Calibration(temperature=2.0))
    mini.save_pretrained(tmp_path / "one")  # as if it had been calibrated for other data
    with monkeypatch.context() as broken:
        broken.setattr(evaluate, "calibrate", fail)
        status, said = command()
    assert status == 2
    assert f"avff: the trained model is saved in {command.out}, but cannot be calibrated (val.mp4 is" in said
    saved = Detector.from_pretrained(command.out)
    assert saved.config.threshold == 0.5
    assert saved.config.calibration == Calibration()

    monkeypatch.setattr(loop, "_update", fail)  # the run is complete
    assert command()[0] == 0
    again = Detector.from_pretrained(command.out)
    assert again.config.calibration.clips == 4
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in saved.state_dict().items())


def test_a_finished_run_is_extended_and_saved_anew(command):
    assert command(validate_every=0)[0] == 0
    before = weights(Detector.from_pretrained(command.out))
    status, said = command(steps=6, validate_every=0, save_every=1, keep_last=2)
    assert status == 0
    assert "in 6 steps" in said
    after = Detector.from_pretrained(command.out)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in after.state_dict().items())
    assert after.config.calibration.clips == 4
    status, said = command(steps=4, validate_every=0)
    assert (status, "holds 6 steps of this run, more than the 4 asked for" in said) == (2, True)


def test_a_run_on_other_data_or_from_another_model_is_refused(command, mini, tmp_path):
    assert command(trained_on="the first data")[0] == 0
    mini.classifier.mlp[4].bias.data += 1
    mini.save_pretrained(tmp_path / "other")
    for arguments, message in (
        ({"init": "other"}, "a run with another initial model"),
        ({"augment": "light"}, "a run with another crop in the augmentation (0.0, now 0.1)"),
        ({"validate_every": 3}, "a run with another validate_every (2, now 3)"),
    ):
        status, said = command(trained_on="other data", **arguments)
        assert (status, message in said) == (2, True), said
    command.clips["train"].pop()
    status, said = command(trained_on="other data")
    assert (status, "a run with another dataset" in said) == (2, True), said
    assert Detector.from_pretrained(command.out).config.trained_on == "the first data"


def test_where_the_val_clips_are_of_one_class_the_last_model_is_saved(command):
    command.clips["val"] = command.clips["val"][::2]
    status, said = command()
    assert (status, "the 2 val clips are not of both classes" in said) == (2, True)
    status, said = command(validate_every=None)  # the recipe's
    assert (status, "validated best" in said, "threshold 0.50, not fitted" in said) == (0, False, True)
    command.clips["val"].clear()
    assert command(validate_every=0)[0] == 0


def test_windows_of_one_class_are_not_trained_on(command):
    """Each fake is fake for 0.2 s, which is less than a quarter of a window."""
    command.clips["train"] = [
        speaking_example(label, seed, segments=((1.0, 1.2),) if label else ())
        for seed in range(3)
        for label in (0, 1)
    ]
    status, said = command()
    assert (status, "hold windows of one class only" in said) == (2, True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused_before_anything_is_read(command):
    command.clips.clear()
    status, said = command(device="cuda")
    assert (status, "--device is cuda" in said) == (2, True)
    assert not command.out.exists()


def test_groups_freeze_encoders_and_spare_biases(mini):
    groups = parameter_groups(mini, TrainConfig(encoder_lr=0.0))
    trained = {id(p) for group in groups for p in group["params"]}
    assert all((id(p) in trained) == ("_encoder." not in name) for name, p in mini.named_parameters())
    assert all(p.ndim > 1 for group in groups if group["weight_decay"] for p in group["params"])


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"lr": 0.0}, {"encoder_lr": -1.0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(AVFFError, match=next(iter(wrong))):
        TrainConfig(**wrong)
