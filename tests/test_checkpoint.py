"""A checkpoint's files change together or not at all, and one from a stranger can do no harm."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import MINI, SMALLEST_MAE
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from avff_lib.errors import AVFFError
from avff_lib.models import AVFF, AVFFMAE, AVFFConfig, AVFFMAEConfig, Detector, checkpoint
from avff_lib.models.calibration import Calibration
from avff_lib.models.checkpoint import CONFIG_NAME, NEW_NAME, OOD_NAME, WEIGHTS_NAME
from avff_lib.models.ood import MahalanobisDetector, OODDetector

STEPS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link"}  # and files that are opened for writing
KILLED = 9


def numbered(number: int, *, ood: bool) -> AVFFMAE:
    """A model whose every part says which one it is."""
    model = AVFFMAE(replace(AVFFMAEConfig(**SMALLEST_MAE), trained_on=f"set {number}"))
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, number)
    stream = MahalanobisDetector(np.zeros(12), np.eye(12), float(number))
    kinds = {"audio_features": stream, "visual_features": stream}
    model.ood = OODDetector(kinds, 1.0) if ood else None
    return model


def number_of(folder: Path) -> int:
    """Which of the `numbered` ones a folder holds; it holds one of them, whole."""
    model = Detector.from_pretrained(folder)
    (number,) = {float(value) for parameter in model.parameters() for value in parameter.detach().unique()}
    assert model.config.trained_on == f"set {number:g}"
    assert model.ood is None if number % 2 else model.ood.detectors["audio_features"].limit == number
    return int(number)


def dies_at(step: int, model: Detector, folder: Path) -> bool:
    """Save in a process that is killed before its n-th step on the disk; whether it came that far."""
    child = os.fork()
    if child == 0:
        left = [step]

        def count(event: str, details: tuple) -> None:
            if event in STEPS or (event == "open" and details[2] & os.O_CREAT):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(KILLED)

        sys.addaudithook(count)
        model.save_pretrained(folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED


# Odd ones have no out-of-distribution detector: one is added, or taken away.
@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 3)])
def test_a_save_that_is_killed_leaves_the_old_checkpoint_or_the_new_one(tmp_path, old, new, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the system lives on, and this takes time
    models = {number: numbered(number, ood=number % 2 == 0) for number in (old, new, 4)}
    models[old].save_pretrained(tmp_path / "old")
    others = {"README.md": "card", "state-1.pt": "state", "best/config.json": "{}"}
    for name, text in others.items():
        (tmp_path / "old" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "old" / name).write_text(text)
    found = []
    folder, step = tmp_path / "0", 0
    while shutil.copytree(tmp_path / "old", folder) and dies_at(step, models[new], folder):
        found.append(number_of(folder))
        if step % 5 == 0:  # the next save goes through, and tidies up
            models[4].save_pretrained(folder)
            assert number_of(folder) == 4
            assert not (folder / NEW_NAME).exists()
        assert {name: (folder / name).read_text() for name in others} == others
        step, folder = step + 1, tmp_path / str(step + 1)
    assert number_of(folder) == new
    assert sorted(set(found)) == [old, new]
    assert found == sorted(found)  # from one step on it is the new one
    assert len(found) >= 20
    files = {CONFIG_NAME, WEIGHTS_NAME} | ({OOD_NAME} if new % 2 == 0 else set())
    assert {path.name for path in folder.iterdir()} == files | {"README.md", "state-1.pt", "best"}


def test_a_save_that_fails_leaves_the_old_checkpoint_and_no_rubbish(tmp_path, monkeypatch):
    numbered(2, ood=True).save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError, match="No space"):
        numbered(3, ood=False).save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_hard_links_files_are_copied(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("no links on this drive")

    monkeypatch.setattr(os, "link", fail)
    for number in (2, 3):
        numbered(number, ood=number == 2).save_pretrained(tmp_path)
        assert number_of(tmp_path) == number


def test_saving_and_loading_at_the_same_time_mixes_nothing(tmp_path):
    models = [numbered(number, ood=number % 2 == 0) for number in (1, 2)]
    models[0].save_pretrained(tmp_path)

    def save(model: Detector) -> None:
        for _ in range(15):
            model.save_pretrained(tmp_path)

    threads = [threading.Thread(target=save, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert number_of(tmp_path) in (1, 2)
    assert number_of(tmp_path) in (1, 2)
    assert {path.name for path in tmp_path.iterdir()} <= {CONFIG_NAME, WEIGHTS_NAME, OOD_NAME}


# -- checkpoints from strangers --


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, Path]:
    """A small checkpoint of each family."""
    folder = tmp_path_factory.mktemp("saved")
    AVFF(AVFFConfig(**MINI)).save_pretrained(folder / "AVFF")
    AVFFMAE(AVFFMAEConfig(**SMALLEST_MAE)).save_pretrained(folder / "AVFFMAE")
    return {name: folder / name for name in ("AVFF", "AVFFMAE")}


def edited(source: Path, target: Path, **changes: object) -> Path:
    """A copy with other values in its config; ``audio__x`` is the setting x of audio."""
    shutil.copytree(source, target)
    config = json.loads((target / CONFIG_NAME).read_text())
    for name, value in changes.items():
        place = config
        *outer, last = name.split("__")
        for part in outer:
            place = place[part]
        place[last] = value
    (target / CONFIG_NAME).write_text(json.dumps(config))
    return target


def assert_refused(folder: Path, sentence: str) -> None:
    with pytest.raises(AVFFError) as caught:
        Detector.from_pretrained(folder)
    message = str(caught.value)
    assert sentence in message
    assert "\n" not in message
    assert str(folder) in message
    assert len(message) < 600 + len(str(folder))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("visual__checkpoint_path", "weights.pt"),
        ("visual__pretrained", True),
        ("visual__pretrained_cfg", {"file": "weights.pt"}),
        ("visual__pretrained_cfg_overlay", {"url": "http://nowhere.invalid/x"}),
        ("visual__cache_dir", "/tmp"),
        ("visual__scriptable", True),
        ("visual__exportable", True),
        ("visual__num_classes", 3),
        ("visual__act_layer", "gelu"),
        ("audio__auto_map", {"AutoModel": "stranger/code--model.Model"}),
        ("audio__trust_remote_code", True),
        ("audio___attn_implementation", "stranger/kernel"),
        ("audio__attn_implementation", "stranger/kernel"),
        ("audio__name_or_path", "stranger/model"),
        ("audio__torch_dtype", "float16"),
        ("calibration__colour", 1),
    ],
)
def test_settings_that_are_not_known_are_refused(saved, tmp_path, name, value):
    folder = edited(saved["AVFF"], tmp_path / "c", **{name: value})
    where, setting = name.split("__", 1)
    assert_refused(folder, f"'{where}.{setting}' is not a setting of this version; remove it")


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:stranger/model", "local-dir:/tmp", "stranger/model", "../weights.pt", "", "vit",
        "vit_tiny_r_s16_p8_224.hf-hub:x", "vit_tiny_r_s16_p8_224.no_such_variant", "x" * 101, 7, None,
    ],
)  # fmt: skip
def test_only_names_that_timm_knows_are_passed_to_it(saved, tmp_path, name, monkeypatch):
    folder = edited(saved["AVFF"], tmp_path / "c", visual__model_name=name)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("timm was asked"))
    assert_refused(folder, "visual.model_name is ")


@pytest.mark.parametrize(
    ("family", "change", "sentence"),
    [
        ("AVFF", {"heads": 0}, "heads is 0; expected an integer, 1 to 256"),
        ("AVFF", {"heads": True}, "heads is True; expected an integer"),
        ("AVFF", {"dim": 32.0}, "dim is 32.0; expected an integer"),
        ("AVFF", {"dim": "32"}, "dim is '32'; expected an integer"),
        ("AVFF", {"dim": -32}, "dim is -32"),
        ("AVFF", {"frame_count": 10**9}, "frame_count is 1000000000; expected an integer, 1 to 256"),
        ("AVFF", {"frame_count": 2}, "the detail path needs 4 or more"),
        ("AVFF", {"image_size": 64}, "image_size is 64, visual takes 32"),
        ("AVFF", {"visual__patch_size": 5}, "expected a multiple of the patch_size 5"),
        ("AVFF", {"duration": float("nan")}, "duration is nan; expected a number"),
        ("AVFF", {"duration": float("inf")}, "duration is inf; expected a number"),
        ("AVFF", {"duration": 10**400}, "expected a number"),
        ("AVFF", {"dropout": None}, "dropout is None; expected a number, 0 to 1"),
        ("AVFF", {"mean": [0.5, 0.5]}, "expected 3 values"),
        ("AVFF", {"mean": [0.5, 0.5, "x"]}, "mean[2] is 'x'; expected a number"),
        ("AVFF", {"std": [0.5, 0.5, 0]}, "std[2] is 0; expected a number"),
        ("AVFF", {"threshold": float("nan")}, "threshold is nan"),
        ("AVFF", {"audio": [1]}, "audio is [1]; expected settings by name"),
        ("AVFF", {"audio__num_hidden_layers": 10**9}, "audio.num_hidden_layers is 1000000000"),
        ("AVFF", {"audio__num_attention_heads": 3}, "cannot be built"),
        ("AVFF", {"audio__hidden_act": "xielu"}, "expected one of gelu"),
        ("AVFF", {"audio__conv_dim": [16] * 10**5}, "expected a list of 1 to 16 values"),
        ("AVFF", {"audio__conv_dim": [16]}, "expected one of each for every layer"),
        ("AVFF", {"audio__conv_stride": [1] * 7}, "tokens; expected 1 to 4096"),
        ("AVFF", {"audio__conv_kernel": [8000] * 7}, "tokens; expected 1 to 4096"),
        ("AVFF", {"visual__depth": 10**9}, "visual.depth is 1000000000"),
        ("AVFF", {"visual__embed_dim": 8192, "visual__num_heads": 1}, "the config asks for"),
        ("AVFF", {"trained_on": "\x1b[2Jnothing"}, "expected a text"),
        ("AVFF", {"trained_on": "x" * 10_000}, "expected a text"),
        ("AVFF", {"calibration": 1}, "calibration is 1; expected settings by name"),
        ("AVFF", {"calibration__unsure": [0.1]}, "calibration.unsure is [0.1]; expected 2 values"),
        ("AVFF", {"calibration__temperature": "x"}, "calibration.temperature is 'x'"),
        ("AVFF", {"calibration__temperature": 0}, "the temperature is 0"),
        ("AVFF", {"calibration__bias": float("-inf")}, "calibration.bias is -inf"),
        ("AVFF", {"family": ["AVFF"]}, "names no known model family"),
        ("AVFFMAE", {"depth": 10**9}, "depth is 1000000000"),
        ("AVFFMAE", {"decoder_heads": 0}, "decoder_heads is 0"),
        ("AVFFMAE", {"frame_count": 10**9}, "frame_count is 1000000000"),
        ("AVFFMAE", {"video_patch": [2, 0, 16]}, "video_patch[1] is 0"),
        ("AVFFMAE", {"granularity": ["slice"]}, "expected one of slice, clip"),
        ("AVFFMAE", {"mel__n_fft": 2**16}, "less than twice the 20480 samples of a window"),
        ("AVFFMAE", {"mel__win_length": 1024}, "expected win_length or more"),
        ("AVFFMAE", {"mel__hop_length": 1, "mel__n_mels": 32}, "tokens; expected 1 to 4096"),
        ("AVFFMAE", {"mel__power": 2.0}, "'mel.power' is not a setting"),
        ("AVFFMAE", {"audio_std": 0.0}, "audio_std is 0.0"),
        ("AVFFMAE", {"critic_dim": 8192}, "the config asks for"),
    ],
    ids=str,
)
def test_numbers_out_of_all_proportion_and_other_types_are_refused(saved, tmp_path, family, change, sentence):
    assert_refused(edited(saved[family], tmp_path / "c", **change), sentence)


def test_a_model_larger_than_any_is_refused_before_it_takes_memory(saved, tmp_path, monkeypatch):
    huge = {"dim": 8184, "heads": 2, "depth": 256}  # 200 billion weights
    folder = edited(saved["AVFFMAE"], tmp_path / "c", **huge)
    built = []
    monkeypatch.setattr(
        AVFFMAE,
        "__init__",
        lambda *_, build=AVFFMAE.__init__: built.append(torch.zeros(0).device) or build(*_),
    )
    assert_refused(folder, "expected 4000000000 or fewer")
    assert [device.type for device in built] == ["meta"]


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", '"x"', "\ufeff{", "{" + " " * 2_000_000 + "}", "\0"])
def test_a_config_that_is_none_is_refused(saved, tmp_path, text):
    shutil.copytree(saved["AVFF"], tmp_path / "c")
    (tmp_path / "c" / CONFIG_NAME).write_text(text, encoding="utf-8")
    assert_refused(tmp_path / "c", CONFIG_NAME)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tensor: tensor.index_fill(0, torch.tensor([0]), torch.nan), "NaN or infinite"),
        (lambda tensor: tensor.index_fill(0, torch.tensor([0]), torch.inf), "NaN or infinite"),
        (lambda tensor: tensor.double() * 1e300, "NaN or infinite"),  # not in float32
        (lambda tensor: tensor.long(), "has the type I64"),
        (lambda tensor: tensor.bool(), "has the type BOOL"),
        (lambda tensor: tensor.to(torch.float8_e5m2), "has the type F8_E5M2"),
        (lambda tensor: tensor.to(torch.complex64), "has the type C64"),
        (lambda tensor: tensor[None], "the config asks for"),
    ],
    ids=["nan", "infinite", "huge", "long", "bool", "float8", "complex", "shape"],
)
def test_weights_of_another_kind_are_refused(saved, tmp_path, change, sentence):
    shutil.copytree(saved["AVFFMAE"], tmp_path / "c")
    weights = load_file(tmp_path / "c" / WEIGHTS_NAME)
    weights["classifier.1.weight"] = change(weights["classifier.1.weight"])
    save_file(weights, tmp_path / "c" / WEIGHTS_NAME)
    assert_refused(tmp_path / "c", sentence)


def test_a_name_with_a_line_break_does_not_break_the_sentence(saved, tmp_path):
    assert_refused(edited(saved["AVFFMAE"], tmp_path / "c", **{"a\nb": 1}), r"'a\nb' is not a setting")
    weights = load_file(saved["AVFFMAE"] / WEIGHTS_NAME) | {"a\nb": torch.zeros(1)}
    folder = shutil.copytree(saved["AVFFMAE"], tmp_path / "d")
    save_file(weights, folder / WEIGHTS_NAME)
    assert_refused(folder, r"first: 'a\nb'")


@pytest.mark.parametrize(
    "change",
    [
        {"audio_features.mean": torch.full((12,), torch.nan)},
        {"audio_features.precision": torch.full((12, 12), torch.inf)},
        {
            "audio_features.precision": -torch.eye(12)
        },  # every distance would be NaN, and NaN is above no limit
        {"audio_features.limit": torch.tensor([torch.inf])},
        {"audio_features.limit": torch.tensor([torch.nan])},
        {"audio_features.mean": torch.zeros(0), "audio_features.precision": torch.zeros(0, 0)},
        {"audio_features.mean": torch.zeros(()), "audio_features.precision": torch.zeros(())},
    ],
)
def test_an_out_of_distribution_detector_that_would_pass_everything_is_refused(tmp_path, change):
    numbered(2, ood=True).save_pretrained(tmp_path)
    save_file(load_file(tmp_path / OOD_NAME) | change, tmp_path / OOD_NAME)
    assert_refused(tmp_path, f"{OOD_NAME} cannot be read")


def test_a_calibration_of_an_older_version_is_read_with_the_defaults(saved, tmp_path):
    older = {"temperature": 2.0, "bias": 0.5, "unsure": [0.25, 0.5], "error_rate": 0.05, "clips": 3}
    older |= {"fpr": 0.1, "fnr": 0.2, "identities": 2}
    loaded = Detector.from_pretrained(edited(saved["AVFF"], tmp_path / "c", calibration=older)).config
    assert loaded.calibration == Calibration(
        temperature=2.0,
        bias=0.5,
        unsure=(0.25, 0.5),
        error_rate=0.05,
        clips=3,
        fpr=0.1,
        fnr=0.2,
        identities=2,
    )
    assert loaded.calibration.window_temperature == 1
    del older["unsure"]
    assert_refused(edited(saved["AVFF"], tmp_path / "d", calibration=older), "calibration.unsure is missing")


@pytest.mark.parametrize("name", ["AVFF", "AVFFMAE", "avff-tiny", "avffmae-tiny"])
def test_loading_asks_nobody_and_unpickles_nothing(saved, name, monkeypatch):
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked, or a file unpickled")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for owner, function in (
        (socket, "socket"),
        (socket, "create_connection"),
        (socket, "getaddrinfo"),
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
    ):
        monkeypatch.setattr(owner, function, forbidden)
    Detector.from_pretrained(saved.get(name, name))
