"""Shards give back what decoding gives, bit for bit, and a folder that is not whole is refused or mended."""

import json

import numpy as np
import pytest
import torch

from avff_lib import cli
from avff_lib.data import shards
from avff_lib.data.dataset import AVDataset
from avff_lib.data.examples import load_examples
from avff_lib.data.loader import make_loader
from avff_lib.data.manifest import read_manifest, write_manifest
from avff_lib.data.transforms import STRONG
from avff_lib.errors import AVFFError
from avff_lib.models import AVFF
from avff_lib.preprocess.spec import InputSpec
from avff_lib.synth import write_corpus

SPEC = InputSpec(image_size=64)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Five real and fake clips, and one file that is no video."""
    out = tmp_path_factory.mktemp("dataset")
    rows = read_manifest(write_corpus(out, clips=6, identities=6, seed=1, workers=1))
    rows[2].path.write_bytes(b"no video")
    write_manifest([type(row)(**{**vars(row), "split": "train"}) for row in rows], out / "manifest.csv")
    return out


@pytest.fixture(scope="module")
def made(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_SIZE", 4)
        skipped = shards.write_shards(read_manifest(dataset / "manifest.csv"), out, root=dataset, workers=1)
    assert [entry.row.path.name for entry in skipped] == [
        read_manifest(dataset / "manifest.csv")[2].path.name
    ]
    return out


@pytest.fixture
def copy(made, tmp_path):
    """A copy of the shards that may be damaged."""
    for path in made.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def again(dataset, out, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_SIZE", 4)
    return shards.write_shards(read_manifest(dataset / "manifest.csv"), out, root=dataset, workers=1)


def test_shards_give_what_decoding_gives(dataset, made):
    decoded, _ = load_examples(read_manifest(dataset / "manifest.csv"), SPEC, workers=1)
    stored = shards.read_shards(made, SPEC)
    assert len(stored) == len(decoded) == 5
    for one, other in zip(stored, decoded, strict=True):
        assert vars(one.row) | {"path": None} == vars(other.row) | {"path": None}
        assert dataset / one.row.path == other.row.path
        for name in ("frames", "times", "waveform"):
            found, expected = getattr(one.clip, name), getattr(other.clip, name)
            assert found.dtype == expected.dtype
            assert np.array_equal(found, expected), name
        assert (one.clip.start, one.clip.duration) == (other.clip.start, other.clip.duration)
    found, expected = (
        next(iter(make_loader(AVDataset(examples, SPEC, transforms=STRONG), batch_size=4, steps=1)))
        for examples in (stored, decoded)
    )
    assert torch.equal(found.inputs.frames, expected.inputs.frames)
    assert torch.equal(found.inputs.audio, expected.inputs.audio)
    assert torch.equal(found.labels, expected.labels)


def test_only_what_is_damaged_or_changed_is_made_anew(dataset, made, copy, monkeypatch):
    first, second = sorted(copy.glob("*.safetensors"))
    whole = second.read_bytes()
    damaged = bytearray(whole)
    damaged[-100] ^= 1
    second.write_bytes(bytes(damaged))
    kept = first.stat().st_mtime_ns
    again(dataset, copy, monkeypatch)
    assert first.stat().st_mtime_ns == kept
    assert second.read_bytes() == whole
    assert (copy / "index.json").read_text() == (made / "index.json").read_text()
    assert not list(copy.glob("*.partial"))


def test_an_interrupted_run_is_no_dataset_and_can_go_on(dataset, made, copy, monkeypatch):
    make = shards._make_shard

    def killed(job, **rest):
        if job[0].name.startswith("shard-00001"):
            raise KeyboardInterrupt
        return make(job, **rest)

    for path in copy.iterdir():
        path.unlink()
    monkeypatch.setattr(shards, "parallel_map", lambda function, jobs, *_, **__: map(function, jobs))
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_make_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            again(dataset, copy, patch)
    with pytest.raises(AVFFError, match="a part of its dataset"):
        shards.read_shards(copy, SPEC)
    first = copy / "shard-00000.safetensors"
    kept = first.stat().st_mtime_ns
    again(dataset, copy, monkeypatch)
    assert first.stat().st_mtime_ns == kept
    assert len(shards.read_shards(copy, SPEC)) == 5


def test_mending_that_is_interrupted_keeps_what_was_whole_behind_it(dataset, copy, monkeypatch):
    first, second = sorted(copy.glob("*.safetensors"))
    first.unlink()
    kept = second.stat().st_mtime_ns
    monkeypatch.setattr(shards, "parallel_map", lambda function, jobs, *_, **__: map(function, jobs))
    with monkeypatch.context() as patch:
        digest = shards._sha256

        def killed(path):
            if path == second:
                raise KeyboardInterrupt
            return digest(path)

        patch.setattr(shards, "_sha256", killed)
        with pytest.raises(KeyboardInterrupt):
            again(dataset, copy, patch)
    again(dataset, copy, monkeypatch)
    assert second.stat().st_mtime_ns == kept
    assert len(shards.read_shards(copy, SPEC)) == 5


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "shard-00001.safetensors").unlink(), "missing or not whole"),
        (lambda folder: (folder / "shard-00001.safetensors").write_bytes(b"half"), "missing or not whole"),
        (lambda folder: (folder / "index.json").write_text("{"), "not an index"),
        (
            lambda folder: (folder / "index.json").write_text('{"format": 2}'),
            "it lacks complete",
        ),
        (lambda folder: (folder / "index.json").unlink(), "avff prepare DATA"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(copy, harm, said):
    harm(copy)
    with pytest.raises(AVFFError, match=said):
        shards.read_shards(copy, SPEC)


def test_a_shard_that_is_damaged_later_says_so(copy):
    example = shards.read_shards(copy, SPEC)[0]
    example.shard.write_bytes(b"\x00" * example.shard.stat().st_size)
    with pytest.raises(AVFFError, match="run avff prepare again"):
        _ = example.clip


def test_shards_for_other_models_are_refused_and_short_clips_left_out(made):
    with pytest.raises(AVFFError, match="image_size 64, the model wants 224"):
        shards.read_shards(made, InputSpec())
    assert shards.read_shards(made, InputSpec(image_size=64, duration=3.3)) == []


def test_an_index_leads_nowhere_outside_its_folder(copy):
    index = json.loads((copy / "index.json").read_text())
    index["shards"][0]["file"] = "../" + index["shards"][0]["file"]
    (copy / "index.json").write_text(json.dumps(index))
    assert shards.read_shards(copy, SPEC)[0].shard.parent == copy


def test_prepare_and_train_by_the_command_line(dataset, tmp_path, capsys):
    stored, out = tmp_path / "stored", tmp_path / "out"
    assert cli.main(["prepare", str(dataset), "--out", str(stored), "--workers", "1"]) == 0
    said = capsys.readouterr()
    assert "5 of 6 clips" in said.out
    assert "cannot be read" in said.err
    for folder in (dataset, stored):
        command = ["train", "--data", str(folder), "--out", str(out / folder.name), "--steps", "2"]
        assert cli.main([*command, "--batch-size", "2"]) == 0
    one, other = (AVFF.from_pretrained(out / folder.name).state_dict() for folder in (dataset, stored))
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name
