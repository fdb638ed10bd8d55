"""The training engine: nothing is lost, nothing depends on how a batch is shared, no switch changes the loss.

Run by ``torchrun`` this file is the training that `test_two_processes_are_one` compares.
"""

import json
import math
import multiprocessing
import resource
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MINI
from lightning_fabric import Fabric
from test_avff_mae import MINI as MAE_MINI
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils.data import Dataset

from avff_lib.data.dataset import WindowSample
from avff_lib.data.examples import Skipped
from avff_lib.data.manifest import Row
from avff_lib.errors import AVFFError
from avff_lib.models import AVFF, AVFFMAE, AVFFConfig, Detector
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.training import loop
from avff_lib.training.config import TrainConfig
from avff_lib.training.log import TrainingLogger, read_rows
from avff_lib.training.loop import fit, micro_batches
from avff_lib.training.objectives import classification_loss, pretraining_loss
from avff_lib.training.optim import layer_of, parameter_groups
from avff_lib.training.validation import best_record
from avff_lib.utils import distributed

FAMILIES = (AVFF, AVFFMAE)
RUN = TrainConfig(steps=6, batch_size=8, lr=1e-3, encoder_lr=1e-3, save_every=2)


def build(family: type[Detector], *, dropout: bool = True) -> Detector:
    torch.manual_seed(0)
    off = {} if dropout else {"attention_dropout": 0.0, "activation_dropout": 0.0}  # those without a module
    model = (
        AVFF(AVFFConfig(**{**MINI, "audio": MINI["audio"] | off}, dropout=0.1 * dropout))
        if family is AVFF
        else AVFFMAE(MAE_MINI)
    )
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and not dropout:
            module.p = 0.0
    return model


class Drawn(Dataset[WindowSample]):
    """Eight random windows for each step; both streams follow one signal."""

    def __init__(self, family: type[Detector]) -> None:
        self.family = family

    def __getitem__(self, key: tuple[int, int]) -> WindowSample:
        step, row = key
        inputs, labels = self.batch(step)
        return WindowSample(inputs.frames[row], inputs.audio[row], int(labels[row]))

    def batch(self, step: int) -> tuple[ModelInputs, torch.Tensor]:
        generator = torch.Generator().manual_seed(step)
        signal = torch.randn(8, 16, generator=generator)  # a value for each frame
        side, length = (32, 16_000) if self.family is AVFF else (16, 64)
        # A flat picture has no detail, and which of many equal places is the strongest would be chance.
        noise = torch.randn(8, 3, side, side, generator=generator)
        frames = signal[:, :, None, None, None] + noise[:, None]  # (8, 16, 3, side, side)
        sound = signal.repeat_interleave(length // 16, dim=1) * torch.randn(8, length, generator=generator)
        if self.family is AVFFMAE:
            sound = 10 * sound[:, None] + 20 * torch.randn(8, 48, length, generator=generator)
        return ModelInputs(frames, sound), torch.tensor([0, 1] * 4)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


# --- nothing lost ---


def train_and_tell(family: type[Detector], out: Path, told, finish: bool) -> None:
    """A run with everything on that has a state; tells each step before it saves.

    One that must not finish waits in its last step: a machine that is slow to kill it cannot let it end.
    """
    torch.set_num_threads(1)
    model, inputs = build(family), Drawn(family).batch(0)[0]

    def tell(step: int, _: object) -> None:
        told.send(step)
        if step == config.steps - 1 and not finish:
            time.sleep(60)

    def score(model: Detector) -> float:
        with torch.no_grad():
            return float(model(inputs).std())

    config = replace(RUN, steps=12, save_every=3, keep_last=2, accumulate=2, ema=0.9, validate_every=4)
    fit(model, pretraining_loss, Drawn(family), config, out, tell, validate=score)
    torch.save(model.state_dict(), out / "weights.pt")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(family, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["avff_lib.training.loop", "avff_lib.preprocess.prepare", "pytest"])
    rng = np.random.default_rng(7)

    def start(folder: Path, *, finish: bool):
        hears, tells = context.Pipe(duplex=False)
        process = context.Process(target=train_and_tell, args=(family, folder, tells, finish))
        process.start()
        tells.close()
        return process, hears

    whole, _unheard = start(tmp_path / "whole", finish=True)
    firsts = []
    for _ in range(4):
        process, hears = start(tmp_path / "killed", finish=False)
        step = hears.recv()
        firsts.append(step)
        for _ in range(int(rng.integers(0, 11 - step))):
            step = hears.recv()
        time.sleep(rng.uniform(0.0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    last, hears = start(tmp_path / "killed", finish=True)
    firsts.append(hears.recv())
    for process in (whole, last):
        process.join()
        assert process.exitcode == 0
    assert all(first % 3 == 0 for first in firsts)
    assert firsts[-1] > 0
    weights = [torch.load(tmp_path / name / "weights.pt") for name in ("killed", "whole")]
    assert_equal(*weights)
    best = [Detector.from_pretrained(tmp_path / name / "best").state_dict() for name in ("killed", "whole")]
    assert_equal(*best)
    histories = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("killed", "whole")]
    assert histories[0] == histories[1]


def test_only_the_last_states_are_kept(tmp_path):
    fit(build(AVFF), classification_loss, Drawn(AVFF), replace(RUN, keep_last=2), tmp_path)
    assert [path.name for path in sorted(tmp_path.glob("state*"))] == [
        "state-00000004.pt",
        "state-00000006.pt",
    ]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_a_damaged_state_is_noticed_and_the_one_before_goes_on(damage, tmp_path, caplog):
    config, model = replace(RUN, keep_last=2), build(AVFF)
    history = fit(model, classification_loss, Drawn(AVFF), config, tmp_path)
    states = sorted(tmp_path.glob("state*"))
    damage(states[-1])
    again = build(AVFF)
    assert fit(again, classification_loss, Drawn(AVFF), config, tmp_path) == history
    assert "state-00000006.pt is damaged" in caplog.text
    assert_equal(weights(again), weights(model))
    for path in states:
        damage(path)
    caplog.clear()
    with pytest.raises(AVFFError, match="no saved state in"):
        fit(again, classification_loss, Drawn(AVFF), config, tmp_path)
    assert caplog.text.count("is damaged") == 2


def test_a_full_disk_is_one_sentence_and_the_state_before_goes_on(tmp_path):
    model, soft_and_hard = build(AVFF), resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step: int, record: dict[str, float]) -> None:
        if step == 3:  # the second state will find no room
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, soft_and_hard[1]))

    try:
        with pytest.raises(AVFFError, match=r"cannot be written to .*state-00000002.pt is whole") as error:
            fit(model, classification_loss, Drawn(AVFF), RUN, tmp_path / "full", fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft_and_hard)
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["state-00000002.pt"]
    resumed, whole = build(AVFF), build(AVFF)
    fit(resumed, classification_loss, Drawn(AVFF), RUN, tmp_path / "full")
    fit(whole, classification_loss, Drawn(AVFF), RUN, tmp_path / "whole")
    assert_equal(weights(resumed), weights(whole))


class Spoilt(Drawn):
    """At some steps the first row holds non-finite audio, and a clip could not be read."""

    def __init__(self, steps: set[int]) -> None:
        super().__init__(AVFF)
        self.steps = steps

    def __getitem__(self, key: tuple[int, int]) -> WindowSample:
        sample, (step, row) = super().__getitem__(key), key
        if row > 0 or step not in self.steps:
            return sample
        skipped = {step: Skipped(Row(Path("a.mp4"), 0, "RVRA", "real", "a"), "it is gone")}
        return replace(sample, audio=torch.full_like(sample.audio, math.nan), skipped=skipped)


def test_a_step_without_a_number_is_skipped_and_counted(tmp_path):
    model, after = build(AVFF), []
    history = fit(
        model, classification_loss, Spoilt({2, 4}), replace(RUN, max_skipped=1, ema=0.5), tmp_path,
        lambda step, record: after.append(weights(model)),
    )  # fmt: skip
    assert [record["skipped_steps"] for record in history] == [0, 0, 1, 1, 2, 2]
    assert [record["skipped_samples"] for record in history] == [0, 0, 1, 1, 2, 2]
    assert_equal(after[2], after[1])
    assert not torch.equal(after[3]["classifier.mlp.4.weight"], after[2]["classifier.mlp.4.weight"])
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


@pytest.mark.parametrize(("spoilt", "allowed", "at"), [({0}, 0, 0), ({1, 3, 4}, 1, 4), ({0, 1, 2}, 2, 2)])
def test_too_many_in_a_row_stop_the_run(spoilt, allowed, at, tmp_path):
    config = replace(RUN, max_skipped=allowed, save_every=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the schedule wonders that the optimiser did nothing
        for _ in range(2):  # a second try goes on from a state behind the first skipped ones
            with pytest.raises(AVFFError, match=f"the loss is nan at step {at}; lower the learning rate"):
                fit(build(AVFF), classification_loss, Spoilt(spoilt), config, tmp_path)


def test_a_folder_of_another_stage_or_model_is_refused(tmp_path):
    fit(build(AVFF), pretraining_loss, Drawn(AVFF), RUN, tmp_path)
    with pytest.raises(AVFFError, match=r"another objective \(pretraining_loss, now classification_loss\)"):
        fit(build(AVFF), classification_loss, Drawn(AVFF), RUN, tmp_path)
    with pytest.raises(AVFFError, match=r"another family \(AVFF, now AVFFMAE\)"):
        fit(build(AVFFMAE), pretraining_loss, Drawn(AVFFMAE), RUN, tmp_path)
    wider = AVFF(AVFFConfig(**{**MINI, "dim": 64}))
    with pytest.raises(AVFFError, match="another initial model"):
        fit(wider, pretraining_loss, Drawn(AVFF), RUN, tmp_path)


# --- what a step is made of ---


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_changes_memory_and_nothing_else(family):
    model = build(family).train()
    inputs, labels = Drawn(family).batch(0)
    kept: dict[bool, list[int]] = {False: [], True: []}
    gradients = []
    for on, sizes in kept.items():
        model.set_grad_checkpointing(on)
        model.zero_grad()
        torch.manual_seed(5)
        with saved_tensors_hooks(partial(remember, sizes), lambda tensor: tensor):
            logged = pretraining_loss(model, inputs, labels, torch.Generator().manual_seed(1))
        logged["loss"].backward()
        found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        gradients.append(found | {"loss": logged["loss"].detach()})
    assert_equal(*gradients)
    assert sum(kept[True]) < 0.9 * sum(kept[False])


def remember(sizes: list[int], tensor: torch.Tensor) -> torch.Tensor:
    sizes.append(tensor.nbytes)
    return tensor


def test_micro_batches_make_the_same_step(tmp_path):
    """Without dropout, and with a loss that is a mean over windows: no contrast, no batch normalisation."""
    found = []
    for accumulate in (1, 4):
        model = build(AVFF, dropout=False)
        model.detail.eval()
        model.detail.train = lambda mode=True, detail=model.detail: detail
        config = replace(RUN, steps=3, accumulate=accumulate)
        history = fit(model, classification_loss, Drawn(AVFF), config, tmp_path / str(accumulate))
        found.append([record["loss"] for record in history])
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_every_row_has_one_owner():
    config = TrainConfig(batch_size=24, accumulate=3)
    for world_size in (1, 2, 4):
        rows = [
            row for rank in range(world_size)
            for share in micro_batches(config, rank, world_size) for row in range(24)[share]
        ]  # fmt: skip
        assert sorted(rows) == list(range(24))
    with pytest.raises(
        AVFFError, match="5 processes x 3 micro-batches cannot share; choose a multiple of 15"
    ):
        micro_batches(config, 0, 5)


def test_the_average_equals_its_slow_twin(tmp_path):
    model, steps = build(AVFF), []
    fit(
        model, classification_loss, Drawn(AVFF), replace(RUN, ema=0.3), tmp_path,
        lambda step, record: steps.append(weights(model)),
    )  # fmt: skip
    for name, tensor in model.named_parameters():
        average = steps[0][name]
        for updates, step in enumerate(steps[1:], start=1):
            keep = min(0.3, (1 + updates) / (10 + updates))
            average = keep * average + (1 - keep) * step[name]
        torch.testing.assert_close(tensor, average)
    assert not torch.equal(model.classifier.mlp[4].weight, steps[-1]["classifier.mlp.4.weight"])


# --- validation ---


def validated(out: Path, scores: list[float | Exception], on_step=None, *, log=None, **changed):
    """A run that validates every two steps, with these results in turn; history, weights that were scored."""
    seen = []

    def validate(candidate: Detector) -> float:
        assert not candidate.training
        seen.append(weights(candidate))
        score = scores[len(seen) - 1]
        if isinstance(score, Exception):
            raise score
        return score

    config = replace(RUN, **{"batch_size": 4, "validate_every": 2, **changed})
    model, data = build(AVFF), Drawn(AVFF)
    history = fit(model, classification_loss, data, config, out, on_step, log=log, validate=validate)
    assert model.training
    return history, seen


def stop(step: int, record: dict[str, float]) -> None:
    """Kills a run after its fourth step and a validation, before its state is saved."""
    if step == 3:
        raise KeyboardInterrupt


def best_of(folder: Path) -> dict[str, torch.Tensor]:
    return Detector.from_pretrained(folder / "best").state_dict()


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_model_that_validates_best_is_kept(ema, tmp_path):
    history, seen = validated(tmp_path, [0.1, 0.9, 0.5], ema=ema)
    assert {record["step"]: record.get("validation") for record in history} == {
        0: None, 1: 0.1, 2: None, 3: 0.9, 4: None, 5: 0.5,
    }  # fmt: skip
    assert best_record(history) is history[3]
    assert_equal(best_of(tmp_path), seen[1])


@pytest.mark.parametrize(("later", "best"), [([0.3, 0.2], 0.3), ([0.05, 0.02], 0.1)])
def test_the_best_model_is_one_that_the_history_tells_of(later, best, tmp_path):
    """Killed between the best model and the state; what comes after that may differ from what was lost."""
    with pytest.raises(KeyboardInterrupt):
        validated(tmp_path, [0.1, 0.9], stop)
    _, others = validated(tmp_path / "two", [0.1, 0.9, 0.5])
    assert_equal(best_of(tmp_path), others[1])  # which the state does not know
    history, seen = validated(tmp_path, later)
    assert best_record(history)["validation"] == best
    assert_equal(best_of(tmp_path), seen[0] if best == 0.3 else others[0])


def test_a_score_that_is_no_number_makes_no_model_the_best(tmp_path):
    history, seen = validated(tmp_path / "some", [math.nan, 0.4, math.inf])
    assert best_record(history) is history[3]
    assert_equal(best_of(tmp_path / "some"), seen[1])
    history, _ = validated(tmp_path / "none", [math.nan] * 3)
    assert math.isnan(history[5]["validation"])
    assert best_record(history) is None
    assert not (tmp_path / "none" / "best").exists()


def test_a_validation_that_fails_is_made_up_for_when_the_run_is_resumed(tmp_path):
    whole, expected = validated(tmp_path / "whole", [0.1, 0.7, 0.5])
    told: list[int] = []

    def go_on(scores: list[float | Exception]):
        with TrainingLogger(tmp_path / "run", RUN.steps, RUN.batch_size) as log:
            return validated(
                tmp_path / "run", scores, lambda step, _: told.append(step), log=log, save_every=100
            )

    message = (
        r"^the model of step 4 cannot be validated \(it is damaged\); its state is saved in .*run: fix this"
    )
    with pytest.raises(AVFFError, match=message):
        go_on([0.1, AVFFError("it is damaged")])
    with pytest.raises(ValueError, match="a mistake"):
        go_on([ValueError("a mistake")])
    assert [path.name for path in (tmp_path / "run").glob("state*")] == ["state-00000004.pt"]
    history, seen = go_on([0.7, 0.5])
    assert history == whole
    assert_equal(seen[0], expected[1])
    assert_equal(best_of(tmp_path / "run"), expected[1])
    assert told == list(range(6))
    rows = read_rows(tmp_path / "run" / "log.csv")
    assert [int(row["step"]) for row in rows] == list(range(6))
    assert [row["validation"] for row in rows] == ["", "0.1", "", "0.7", "", "0.5"]


def test_a_run_that_is_to_end_where_it_was_stopped_is_validated_there(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        validated(tmp_path, [0.1], stop, save_every=1, validate_every=4)
    history, seen = validated(tmp_path, [0.2], save_every=1, validate_every=4, steps=3)
    assert [record.get("validation") for record in history] == [None, None, 0.2]
    assert_equal(best_of(tmp_path), seen[0])


def test_an_extended_run_keeps_its_best_model(tmp_path):
    _, seen = validated(tmp_path, [0.1, 0.9, 0.5])
    history, _ = validated(tmp_path, [0.8], steps=8)
    assert [record.get("validation") for record in history[1::2]] == [0.1, 0.9, 0.5, 0.8]
    assert_equal(best_of(tmp_path), seen[1])


def test_a_run_that_was_not_validated_cannot_be_from_its_middle_on(tmp_path):
    """Its best model may have gone by."""
    config = replace(RUN, batch_size=4, validate_every=2)
    fit(build(AVFF), classification_loss, Drawn(AVFF), config, tmp_path)
    with pytest.raises(AVFFError, match=r"another validate_every \(0, now 2\)"):
        validated(tmp_path, [0.1])


# --- devices ---


def on_a_gpu(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor, device="cuda")


@pytest.mark.parametrize("objective", [classification_loss, pretraining_loss])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_loss_is_computed_where_the_model_is(family, objective, monkeypatch):
    """On a GPU that is not there: its tensors have no values, but refuse to meet those of the CPU."""
    monkeypatch.setattr(FakeTensor, "__bool__", lambda tensor: False)  # no feature has collapsed
    monkeypatch.setattr(torch.autograd, "grad", lambda output, inputs, **_: (torch.zeros_like(inputs),))
    model, (inputs, labels) = build(family), Drawn(family).batch(0)
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()):
        model.to("cuda")
        moved = ModelInputs(on_a_gpu(inputs.frames), on_a_gpu(inputs.audio))
        logged = objective(model, moved, on_a_gpu(labels), torch.Generator())
        assert {value.device.type for value in logged.values()} == {"cuda"}
        with pytest.raises(RuntimeError, match="device"):
            objective(model, inputs, labels, torch.Generator())


def test_every_batch_is_taken_to_the_model(monkeypatch, tmp_path):
    class Moving(Fabric):
        def to_device(self, obj):
            if isinstance(obj, torch.nn.Module):
                return super().to_device(obj)
            return [moved.append(tensor.clone()) or moved[-1] for tensor in obj]

    def objective(model, inputs, labels, generator):
        met.extend([inputs.frames, inputs.audio, labels])
        return classification_loss(model, inputs, labels, generator)

    moved, met = [], []
    monkeypatch.setattr(loop, "make_fabric", lambda precision, device: Moving(accelerator=device))
    fit(build(AVFF), objective, Drawn(AVFF), replace(RUN, steps=2, accumulate=2), tmp_path, device="cpu")
    assert len(met) == len(moved) == 12
    assert all(one is other for one, other in zip(met, moved, strict=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(AVFFError, match="the device is cuda, but no GPU can be used; take auto or cpu"):
        fit(build(AVFF), classification_loss, Drawn(AVFF), RUN, tmp_path, device="cuda")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("audio_encoder.backbone.feature_extractor.conv_layers.3.conv.weight", 0),
        ("audio_encoder.backbone.encoder.pos_conv_embed.conv.bias", 0),
        ("audio_encoder.backbone.encoder.layers.0.attention.k_proj.weight", 1),
        ("audio_encoder.backbone.encoder.layers.11.final_layer_norm.bias", 12),
        ("audio_encoder.project.weight", 13),
        ("visual_encoder.backbone.cls_token", 0),
        ("visual_encoder.backbone.patch_embed.backbone.stages.2.blocks.8.conv1.weight", 0),
        ("visual_encoder.backbone.blocks.4.mlp.fc1.weight", 5),
        ("visual_encoder.backbone.norm.weight", 13),
        ("audio_encoder.class_token", 0),
        ("visual_encoder.patch_embed.proj.weight", 0),
        ("visual_encoder.blocks.11.attn.qkv.weight", 12),
        ("visual_encoder.norm.bias", 13),
    ],
)
def test_a_parameters_place_in_its_encoder(name, place):
    assert layer_of(name, 12) == place


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_learn_slower_towards_the_stem(family):
    model = family.tiny()
    depth = 2 if family is AVFF else 4
    groups = parameter_groups(model, TrainConfig(lr=1.0, encoder_lr=0.5, layer_decay=0.5))
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    found = {name: rate[id(p)] for name, p in model.named_parameters() if id(p) in rate}
    for encoder in ("audio_encoder.", "visual_encoder."):
        rates = {found[name] for name in found if name.startswith(encoder)}
        assert rates == {0.5 * 0.5**power for power in range(depth + 2)}
    assert {found[name] for name in found if "_encoder." not in name} == {1.0}
    blocks = [found[n] for n in found if n.startswith("visual_encoder.") and n.endswith("attn.proj.weight")]
    assert blocks == [0.5 * 0.5 ** (depth - index) for index in range(depth)]
    for name, p in model.named_parameters():
        spared = p.ndim <= 1 or name.endswith(("cls_token", "pos_embed"))
        assert name.startswith("critic.") or (decay[id(p)] == 0) == spared, name


@pytest.mark.parametrize(
    "wrong",
    [
        {"accumulate": 0},
        {"batch_size": 6, "accumulate": 4},
        {"layer_decay": 0.0},
        {"ema": 1.0},
        {"keep_last": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(AVFFError, match=next(iter(wrong))):
        TrainConfig(**wrong)


# --- more than one process ---

CLOSE = {"adversarial": 1e-4, "grad_norm": 1e-3, "weights": 0.1}  # sums of many, or free to drift


def in_process_0(candidate: Detector) -> float:
    assert distributed.rank() == 0
    return 0.5


def runs_to_compare(out: Path) -> dict[str, list[dict[str, float]]]:
    """Both families in stage one and one in stage two, in this process or in those of a launcher."""
    histories = {}
    for family, objective, accumulate in (
        (AVFF, pretraining_loss, 1),
        (AVFFMAE, pretraining_loss, 1),
        (AVFF, classification_loss, 2),
    ):
        name = f"{family.__name__}-{objective.__name__}"
        config = replace(RUN, accumulate=accumulate, ema=0.9, layer_decay=0.8, validate_every=4)
        model = build(family, dropout=False)
        if distributed.rank() > 0:  # the weights of process 0 are those that count
            torch.nn.init.normal_(next(model.parameters()))
        histories[name] = fit(model, objective, Drawn(family), config, out / name, validate=in_process_0)
        size = sum(p.detach().abs().sum().item() for p in model.parameters())
        histories[name].append({"weights": size})
    return histories


def test_two_processes_are_one(tmp_path):
    """The same losses, negatives and statistics; also for who hides more, and with a critic."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launched = subprocess.Popen(
        [*command, __file__, str(tmp_path / "two")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    alone = runs_to_compare(tmp_path / "one")
    output, _ = launched.communicate(timeout=300)
    assert launched.returncode == 0, output[-3000:]
    both = [json.loads((tmp_path / f"two-{rank}.json").read_text()) for rank in range(2)]
    assert both[0] == both[1]
    for name, history in alone.items():
        for found, expected in zip(both[0][name], history, strict=True):
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                assert found[key] == pytest.approx(value, abs=CLOSE.get(key, 1e-5)), (name, expected, key)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    found = runs_to_compare(folder)
    folder.with_name(f"two-{distributed.rank()}.json").write_text(json.dumps(found))
