"""Recipes, the plan of a dry run, and the logs of a run that was killed and went on."""

import copy
import csv
import math
import time
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import Dataset

from avff_lib.data.dataset import WindowSample
from avff_lib.data.manifest import Row
from avff_lib.errors import AVFFError
from avff_lib.training.config import TrainConfig
from avff_lib.training.dry_run import dry_run
from avff_lib.training.identity import INITIAL_MODEL
from avff_lib.training.log import TrainingLogger
from avff_lib.training.loop import fit
from avff_lib.training.objectives import classification_loss, pretraining_loss
from avff_lib.training.recipes import LRS3_CLIPS, RECIPES, make_config


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("family", ["AVFF", "AVFFMAE"])
@pytest.mark.parametrize("recipe", list(RECIPES))
def test_every_recipe_is_there_for_both_families_and_stages(recipe, family, stage):
    config = make_config(recipe, family, stage, {})
    assert config.warmup * config.steps >= 1
    assert config.batch_size % config.accumulate == 0
    if stage == 2:
        gentle = config.encoder_lr < config.lr or config.layer_decay < 1
        assert gentle, "stage two at the full rate makes the encoders forget stage one"


def test_the_papers_recipe_is_hundreds_of_epochs_of_lrs3():
    config = make_config("paper", "AVFFMAE", 1, {})
    epochs = config.steps * config.batch_size / LRS3_CLIPS
    assert epochs == pytest.approx(200, abs=0.01)
    assert (config.lr, config.batch_size) == (1.5e-4, 32)


def test_what_is_typed_takes_the_place_of_the_recipes_number_and_of_no_other():
    recipe, typed = (make_config("gpu", "AVFF", 2, change) for change in ({}, {"lr": 7e-5, "seed": 3}))
    changed = {name for name, value in asdict(typed).items() if value != asdict(recipe)[name]}
    assert changed == {"lr", "seed"}
    assert (typed.lr, typed.seed) == (7e-5, 3)


@pytest.mark.parametrize("family", ["AVFF", "AVFFMAE"])
def test_stage_two_is_validated_a_handful_of_times_on_a_laptop(family):
    config = make_config("laptop", family, 2, {})
    assert config.steps / config.validate_every == 4
    assert all(make_config(recipe, family, 2, {}).validate_every for recipe in RECIPES)
    assert not any(make_config(recipe, family, 1, {}).validate_every for recipe in RECIPES)


@pytest.mark.parametrize(
    ("stage", "typed", "said"), [(1, {"validate_every": 5}, "stage one"), (2, {"steps": 0}, "steps is 0")]
)
def test_an_override_that_makes_no_sense_is_refused(stage, typed, said):
    with pytest.raises(AVFFError, match=said):
        make_config("laptop", "AVFF", stage, typed)


# The logs.


def record(step: int) -> dict[str, float]:
    return {"step": step, "lr": 1e-3 / (step + 3), "loss": math.exp(-step / 7), "retrieval": step / 10}


def run(folder, first: int, last: int, total: int = 10) -> None:
    with TrainingLogger(folder, total, batch_size=8) as log:
        for step in range(first, last):
            log.step(record(step))


def test_the_csv_of_a_run_holds_its_records_to_the_last_digit(tmp_path):
    run(tmp_path, 0, 10)
    table = pd.read_csv(tmp_path / "log.csv", float_precision="round_trip")
    assert list(table["step"]) == list(range(10))
    for name in ("lr", "loss", "retrieval"):
        assert list(table[name]) == [record(step)[name] for step in range(10)]
    assert (table["windows_per_second"] > 0).all()


def test_a_killed_run_that_goes_on_has_every_step_once(tmp_path):
    log = TrainingLogger(tmp_path, 10, batch_size=8)
    for step in range(7):
        log.step(record(step))
    # Killed: nothing is closed, and the last line is half written. The last saved state was step 4's.
    log.file.write("7,0.0001,0.36")
    log.file.flush()
    log.tensorboard.flush()
    time.sleep(1.1)  # TensorBoard orders files by the second in which they were begun, a second process's too
    run(tmp_path, 5, 10)
    table = pd.read_csv(tmp_path / "log.csv", float_precision="round_trip")
    assert list(table["step"]) == list(range(10))
    assert list(table["loss"]) == [record(step)["loss"] for step in range(10)]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    scalars = events.Scalars("loss")
    assert [event.step for event in scalars] == list(range(10))
    assert [event.value for event in scalars] == pytest.approx([record(s)["loss"] for s in range(10)])
    assert {"lr", "retrieval", "windows_per_second"} <= set(events.Tags()["scalars"])


def test_a_run_that_starts_anew_in_a_used_folder_keeps_no_old_row(tmp_path):
    run(tmp_path, 0, 6)
    run(tmp_path, 0, 3)
    assert list(pd.read_csv(tmp_path / "log.csv")["step"]) == [0, 1, 2]


def test_a_value_that_comes_later_gets_a_column_and_earlier_rows_leave_it_empty(tmp_path):
    with TrainingLogger(tmp_path, 4, batch_size=8) as log:
        for step in range(4):
            log.step({**record(step), **({"validation": 0.5 + step / 100} if step % 2 else {})})
    table = pd.read_csv(tmp_path / "log.csv")
    assert table["validation"].isna().tolist() == [True, False, True, False]
    assert table["loss"].notna().all()
    with (tmp_path / "log.csv").open(newline="") as file:
        assert len({len(row) for row in csv.reader(file)}) == 1


def test_without_a_terminal_the_console_gets_lines_and_no_bar(tmp_path, capsys):
    run(tmp_path, 0, 10)
    said = capsys.readouterr().err
    assert said.count("\n") == 1  # ten steps take less than the time between two lines; the last is shown
    assert said.startswith("step 10/10  loss 0.276")
    assert "retrieval 90%" in said
    assert "windows/s" in said


def test_a_full_disk_ends_with_one_sentence(tmp_path):
    with TrainingLogger(tmp_path, 10, batch_size=8) as log:
        log.step(record(0))
        log.file = open("/dev/full", "w")  # noqa: SIM115
        log.table = csv.DictWriter(log.file, log.table.fieldnames)
        with pytest.raises(AVFFError, match="make room and run the same command again"):
            log.step(record(1))


def test_a_log_that_nothing_was_written_to_leaves_no_trace(tmp_path):
    TrainingLogger(tmp_path / "new", 10, batch_size=8).close()
    assert list(tmp_path.iterdir()) == []


# The plan.


class RandomWindows(Dataset[WindowSample]):
    """Noise of both labels."""

    def __getitem__(self, key: tuple[int, int]) -> WindowSample:
        step, row = key
        generator = torch.Generator().manual_seed(1000 * step + row)
        frames = torch.randn(16, 3, 32, 32, generator=generator)
        return WindowSample(frames, torch.randn(16_000, generator=generator), row % 2)


def a_plan(model, config, tmp_path, objective=classification_loss, **options):
    rows = [
        Row(tmp_path / f"{split}{n}.mp4", label, "FVFA" if label else "RVRA", method, "id", split=split)
        for split, count in (("train", 6), ("val", 2))
        for label, method in ((0, "real"), (1, "swap"))
        for n in range(count)
    ]
    return dry_run(model, objective, RandomWindows(), rows, 12, config, tmp_path / "run", **options)


def test_a_plan_counts_what_the_model_has_and_what_would_be_trained(mini, tmp_path):
    before = {name: tensor.clone() for name, tensor in mini.state_dict().items()}
    plan = a_plan(mini, TrainConfig(steps=30, batch_size=8, encoder_lr=0.0), tmp_path)
    assert {name: every for name, (every, _) in plan.parameters.items()} == {
        name: sum(p.numel() for p in part.parameters()) for name, part in mini.named_children()
    }
    trained = {name for name, (_, count) in plan.parameters.items() if count}
    # The encoders are frozen, and stage two has no use for the decoder.
    assert trained == {"detail", "fusion", "classifier"}
    assert plan.clips == {
        ("train", 0, "real"): 6, ("train", 1, "swap"): 6, ("val", 0, "real"): 2, ("val", 1, "swap"): 2
    }  # fmt: skip
    # It was tried out on a copy, and left nothing behind.
    assert all(torch.equal(tensor, before[name]) for name, tensor in mini.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in mini.parameters())
    assert list(tmp_path.iterdir()) == []


def test_a_plan_foresees_the_memory_of_a_larger_batch(mini, tmp_path):
    """A straight line through batches of 2 and 4 has to meet what 16 windows really keep."""
    from avff_lib.training.dry_run import _Trial

    config = TrainConfig(batch_size=16)
    plan = a_plan(mini, config, tmp_path, pretraining_loss)
    kept, _ = _Trial(mini, pretraining_loss, RandomWindows(), config).run(16)
    assert plan.activations == pytest.approx(kept, rel=0.02)
    halves = a_plan(mini, replace(config, accumulate=2), tmp_path, pretraining_loss)
    assert halves.activations < 0.6 * plan.activations
    twice = a_plan(mini, replace(config, checkpoint_blocks=True), tmp_path, pretraining_loss)
    assert twice.activations < 0.8 * plan.activations
    weights = sum(p.numel() for p in mini.parameters())
    assert plan.memory["weights"] == 4 * weights
    assert plan.memory["averaged weights"] == 0
    assert a_plan(mini, replace(config, ema=0.99), tmp_path).memory["averaged weights"] == 4 * weights


def test_a_plan_knows_the_run_in_its_folder(mini, tmp_path):
    config, out = TrainConfig(steps=2, batch_size=2), tmp_path / "run"
    fit(copy.deepcopy(mini), classification_loss, RandomWindows(), config, out)

    def folder(steps: int, **options) -> str:
        return a_plan(mini, replace(config, steps=steps), tmp_path, device="cpu", **options).folder

    assert folder(2) == f"{out} holds 2 steps of this run, which is all"
    assert folder(3) == f"{out} holds 2 steps of this run, and would go on from there"
    assert folder(1).startswith(f"{out} holds 2 steps of this run, more than the 1 asked for")
    mini.classifier.mlp[4].bias.data += 1
    assert folder(2).startswith(f"{out} holds a run with another initial model (")
    assert folder(2, unknown=[INITIAL_MODEL]) == f"{out} holds 2 steps of this run, which is all"
