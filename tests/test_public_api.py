"""The names of the front door: the page that documents them is true, and all ways to load a detector work."""

from __future__ import annotations

import doctest
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import huggingface_hub
import pytest
import torch

import avff_lib
from avff_lib import AVFF, AVFFMAE, AVFFError, Detector
from avff_lib.models import checkpoint, hub
from avff_lib.models.checkpoint import SHIPPED_DIR

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "book/public_api.md"


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def sections(text: str) -> dict[str, str]:
    """What stands under each heading of the third level, up to the next heading of any level."""
    parts = re.split(r"^##+ ", text, flags=re.MULTILINE)
    return dict(part.split("\n", 1) for part in parts if part.startswith("`"))


def test_every_public_name_has_an_example_on_the_page():
    documented = {
        name: code_blocks(text, "python")
        for heading, text in sections(PAGE.read_text()).items()
        for name in re.findall(r"`(\w+)`", heading)
    }
    assert sorted(documented) == avff_lib.__all__
    for name, blocks in documented.items():
        assert any(name in block for block in blocks), f"no example uses {name}"


@pytest.mark.parametrize("page", [PAGE, PAGE.with_name("circulated_code.md")], ids=lambda page: page.stem)
def test_the_examples_of_a_page_give_what_it_shows(page, tmp_path, monkeypatch, capsys):
    text = page.read_text()
    commands = [shlex.split(line) for block in code_blocks(text, "bash") for line in block.splitlines()]
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        subprocess.run(command, cwd=tmp_path, env={**os.environ, "PATH": path}, check=True)
    monkeypatch.chdir(tmp_path)
    blocks = code_blocks(text, "python")
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page.name, str(page), 0)
    assert len(examples.examples) >= 3 * len(blocks) // 2
    result = doctest.DocTestRunner(verbose=False).run(examples)
    assert result.failed == 0, capsys.readouterr().out


def test_importing_the_library_imports_nothing_heavy():
    script = "import sys, avff_lib; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_front_door_knows_its_names_and_no_others():
    for name in avff_lib.__all__:
        assert getattr(avff_lib, name).__name__ == name
    assert set(avff_lib.__all__) < set(dir(avff_lib))
    with pytest.raises(AttributeError, match="nonsense"):
        avff_lib.nonsense  # noqa: B018


# -- Detector.from_pretrained --


def test_a_shipped_detector_is_loaded_by_name_in_evaluation_mode_on_a_device():
    model = Detector.from_pretrained("avffmae-tiny", device=torch.device("cpu"))
    assert type(model) is AVFFMAE
    assert not model.training
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    on_meta = Detector.from_pretrained("avff-tiny", device="meta")
    assert {parameter.device.type for parameter in on_meta.parameters()} == {"meta"}


def test_a_family_refuses_a_detector_of_another_one():
    assert type(AVFF.from_pretrained("avff-tiny")) is AVFF
    with pytest.raises(AVFFError, match="expected one of AVFFMAE"):
        AVFFMAE.from_pretrained("avff-tiny")


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_saved_detector_is_loaded_from_its_folder(mini, tmp_path, as_path):
    mini.save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"config.json", "model.safetensors"}
    model = Detector.from_pretrained(as_path(tmp_path / "saved"))
    assert model.config == mini.config
    for name, tensor in mini.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_shipped_folders_are_laid_out_as_repositories_on_the_hub():
    for folder in SHIPPED_DIR.iterdir():
        assert json.loads((folder / "config.json").read_text())["family"] in Detector.families
        assert {"model.safetensors", "README.md"} < {path.name for path in folder.iterdir()}


def test_a_hub_id_is_fetched_and_only_the_files_of_a_detector(monkeypatch):
    asked = {}

    def snapshot_download(name: str, **options) -> str:
        asked.update(options, name=name)
        return str(SHIPPED_DIR / "avff-tiny")

    monkeypatch.setattr(checkpoint, "snapshot_download", snapshot_download)
    monkeypatch.setattr(hub, "_hub_reachable", lambda: True)
    assert type(Detector.from_pretrained("someone/detector")) is AVFF
    assert asked["name"] == "someone/detector"
    assert asked["local_files_only"] is False
    assert asked["allow_patterns"] == ["config.json", "model.safetensors", "ood.safetensors"]


def test_a_hub_id_in_the_cache_is_loaded_offline(mini, tmp_path, monkeypatch):
    """The cache as huggingface_hub lays it out; nothing is asked of a network."""
    repository = tmp_path / "models--someone--detector"
    mini.save_pretrained(repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert Detector.from_pretrained("someone/detector").config == mini.config


def test_a_hub_id_that_cannot_be_fetched_is_refused_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(AVFFError) as raised:
        Detector.from_pretrained("someone/detector")
    message = str(raised.value)
    assert message.startswith("someone/detector cannot be loaded")
    assert "encoder" not in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["nonsense", "a/b/c", "/nowhere/model", "../model", "some one/detector"])
def test_a_name_that_is_nothing_is_refused_with_the_shipped_ones(name):
    with pytest.raises(AVFFError, match="expected avff-people or avff-tiny or avffmae-tiny"):
        Detector.from_pretrained(name)
