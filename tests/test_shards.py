"""Shards give back what decoding gives, window by window; a folder that is not whole is refused or mended."""

import io
import json
import tarfile
import wave
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from avff_lib import cli
from avff_lib.data import shards
from avff_lib.data.dataset import AVDataset
from avff_lib.data.examples import Example, load_examples, speaker_clip
from avff_lib.data.loader import make_loader
from avff_lib.data.manifest import Row, read_manifest, write_manifest
from avff_lib.data.transforms import STRONG
from avff_lib.errors import AVFFError
from avff_lib.faces.tracked import FaceCrops, TrackedClip
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


def two_faces(seconds: int, size: int = 64) -> Example:
    """Two faces of drifting stripes; the first speaks, from half a second on, and freezes for a second."""
    times = np.arange(25 * seconds) / 25
    times = times[(times < 8) | (times > 9)]
    rng = np.random.default_rng(0)
    along = np.arange(size)

    def face(shown: np.ndarray, motion: float) -> FaceCrops:
        stripes = 128 + 100 * np.sin(along[:, None] / 3 + along / 5 + shown[:, None, None])
        frames = stripes[..., None] + rng.normal(0, 2, (len(shown), size, size, 3))
        return FaceCrops(
            times=shown,
            frames=np.clip(frames, 0, 255).astype(np.uint8),
            boxes=np.tile(np.array([0.1, 0.1, 0.5, 0.5], np.float32), (len(shown), 1)),
            detected=np.ones(len(shown), bool),
            rolls=np.zeros(len(shown), np.float32),
            mouth_motion=(motion * rng.standard_normal(len(shown))).astype(np.float32),
            views=np.zeros(0, np.uint8),
        )

    sound = (0.3 * rng.standard_normal(16_000 * seconds)).clip(-1, 1)
    piece = TrackedClip(
        times=times,
        waveform=(np.rint(sound * 2**15) / 2**15).astype(np.float32),
        sample_rate=16_000,
        start=0.0,
        duration=float(seconds),
        cuts=np.array([1 / 3]),
        faces={2: face(times[times > 0.5], 1.0), 3: face(times, 0.1)},
        frame_size=(100, 150),
    )
    return Example(Row(Path("a.mp4"), 0, "RVRA", "real", "a"), speaker_clip(piece), piece)


def store(example: Example, folder: Path, codec: shards.Codec) -> shards.StoredExample:
    folder.mkdir(exist_ok=True)
    writer = shards._PartWriter(folder / "shard-00000.tar", codec)
    entry = writer.add("00", example, {})
    writer.flush()
    return shards._stored(entry, folder / "shard-00000.tar", example.row)


def again(dataset, out, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_SIZE", 4)
    return shards.write_shards(read_manifest(dataset / "manifest.csv"), out, root=dataset, workers=1)


def same_sound(found, expected):
    """Within a step of 24 bits."""
    return found.dtype == np.float32 and np.abs(found - expected).max() <= 2**-23


def test_shards_give_what_decoding_gives(dataset, made):
    decoded, _ = load_examples(read_manifest(dataset / "manifest.csv"), SPEC, workers=1)
    stored = shards.read_shards(made, SPEC)
    assert len(stored) == len(decoded) == 5
    for one, other in zip(stored, decoded, strict=True):
        assert vars(one.row) | {"path": None} == vars(other.row) | {"path": None}
        assert dataset / one.row.path == other.row.path
        for found, expected in ((one.clip, other.clip), (one.piece, other.piece)):
            assert (found.start, found.duration) == (expected.start, expected.duration)
            assert np.array_equal(found.times, expected.times)
            assert same_sound(found.waveform, expected.waveform)
        assert np.array_equal(one.clip.frames, other.clip.frames)
        for name in ("cuts", "frame_size", "sample_rate", "last"):
            assert np.array_equal(getattr(one.piece, name), getattr(other.piece, name)), name
        assert one.piece.faces.keys() == other.piece.faces.keys()
        for number, face in one.piece.faces.items():
            for name, array in vars(face).items():
                expected = getattr(other.piece.faces[number], name)
                assert array.dtype == expected.dtype
                assert np.array_equal(array, expected), name
    for augment in (None, replace(STRONG, pseudo_fake=0.5)):
        found, expected = (
            next(iter(make_loader(AVDataset(examples, SPEC, transforms=augment), batch_size=4, steps=1)))
            for examples in (stored, decoded)
        )
        assert torch.equal(found.inputs.frames, expected.inputs.frames)
        assert torch.allclose(found.inputs.audio, expected.inputs.audio, atol=1e-4)
        assert torch.equal(found.labels, expected.labels)


@pytest.mark.parametrize("codec", ["jpeg", "png"])
def test_a_window_is_cut_from_the_whole_clip_and_costs_no_more_than_its_own_bytes(
    tmp_path, codec, monkeypatch
):
    """Twenty seconds, of which one is read; the picture freezes in between, and two faces take turns."""
    example = two_faces(seconds=20)
    stored = store(example, tmp_path, codec)
    clip, read = stored.clip, []

    class Counted(io.FileIO):
        def read(self, size=-1):
            read.append(size)
            return super().read(size)

    monkeypatch.setattr(Path, "open", lambda path, *_, **__: Counted(path))
    moments = SPEC.frame_times
    for start in (clip.start, 3.21, 7.9, 8.3, clip.end - 1):
        cut = clip.window(start, 1.0)
        for times in (None, moments, np.zeros(0)):
            read.clear()
            window = stored.window(start, 1.0, times)
            rows = slice(None) if times is None else cut.nearest_frames(start + times)
            assert (window.start, window.duration) == (start, 1.0)
            assert np.array_equal(window.waveform, cut.waveform)
            assert np.array_equal(window.times, cut.times[rows])
            if len(window.times):
                assert np.array_equal(window.frames, cut.frames[rows])
            share = sum(read) / stored.shard.stat().st_size
            assert share < 0.15, share  # a twentieth of one of two faces, and where everything lies
            other = example.window(start, 1.0, times)
            assert np.array_equal(window.times, other.times)
            assert codec == "jpeg" or not len(window.times) or np.array_equal(window.frames, other.frames)


def test_crops_as_jpeg_take_a_third_of_the_bytes_and_look_alike(tmp_path):
    example = two_faces(seconds=2, size=224)
    stored = {codec: store(example, tmp_path / codec, codec) for codec in ("jpeg", "png")}
    sizes = {codec: other.members[-1][1] for codec, other in stored.items()}
    assert sizes["jpeg"] < sizes["png"] / 2
    assert np.array_equal(stored["png"].clip.frames, example.clip.frames)
    error = stored["jpeg"].clip.frames.astype(float) - example.clip.frames
    assert 0 < np.sqrt(np.mean(error**2)) < 3


def test_other_programs_read_shards_as_webdataset(dataset, made):
    import webdataset

    paths = sorted(str(path) for path in made.glob("*.tar"))
    samples = list(webdataset.WebDataset(paths, shardshuffle=False).decode())
    stored = shards.read_shards(made, SPEC)
    assert [sample["__key__"] for sample in samples] == [example.key for example in stored]
    for sample, example in zip(samples, stored, strict=True):
        assert sample["json"]["row"]["label"] == example.row.label
        faces, piece = sample["faces.npy"], example.piece
        assert np.array_equal(sample["times.npy"], piece.times)
        assert np.array_equal(faces["time"], piece.faces[1].times)
        first = np.frombuffer(sample["faces.mpng"], np.uint8)[: faces["end"][0]]
        assert np.array_equal(cv2.imdecode(first, cv2.IMREAD_COLOR_RGB), piece.faces[1].frames[0])
        with wave.open(io.BytesIO(sample["wav"])) as sound:
            assert (sound.getframerate(), sound.getnframes()) == (16_000, len(piece.waveform))
            pcm = np.frombuffer(sound.readframes(10), np.uint8).reshape(-1, 3).astype(int) @ [1, 2**8, 2**16]
            assert np.array_equal((pcm + 2**23) % 2**24 - 2**23, piece.waveform[:10] * 2**23)


def test_only_what_is_damaged_or_changed_is_made_anew(dataset, made, copy, monkeypatch):
    first, second = sorted(copy.glob("*.tar"))
    whole = second.read_bytes()
    damaged = bytearray(whole)
    damaged[-100] ^= 1
    second.write_bytes(bytes(damaged))
    kept = first.stat().st_mtime_ns
    again(dataset, copy, monkeypatch)
    assert first.stat().st_mtime_ns == kept
    assert second.read_bytes() == whole
    for path in made.iterdir():
        assert (copy / path.name).read_bytes() == path.read_bytes(), path.name
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
    first = copy / "shard-00000.tar"
    kept = first.stat().st_mtime_ns
    again(dataset, copy, monkeypatch)
    assert first.stat().st_mtime_ns == kept
    assert len(shards.read_shards(copy, SPEC)) == 5


def test_mending_that_is_interrupted_keeps_what_was_whole_behind_it(dataset, copy, monkeypatch):
    first, second = sorted(copy.glob("*.tar"))
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
        (lambda folder: (folder / "shard-00001.tar").unlink(), "missing or not whole"),
        (lambda folder: (folder / "shard-00001.tar").write_bytes(b"half"), "missing or not whole"),
        (lambda folder: (folder / "index.json").write_text("{"), "not an index"),
        (lambda folder: (folder / "index.json").write_text('{"format": 4}'), "it lacks complete"),
        (
            lambda folder: (folder / "index.json").write_text('{"format": 2}'),
            "is 2, expected 4.*again",
        ),
        (lambda folder: (folder / "index.json").unlink(), "avff prepare DATA"),
        (lambda folder: (folder / "shard-00001.json").unlink(), "cannot be read.*prepare again"),
        (lambda folder: (folder / "shard-00001.json").write_text('{"format": 4}'), "it lacks clips"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(copy, harm, said):
    harm(copy)
    with pytest.raises(AVFFError, match=said):
        shards.read_shards(copy, SPEC)


@pytest.mark.parametrize("member", range(5))
@pytest.mark.parametrize("harm", ["cut off", "zeros", "noise"])
def test_a_shard_that_is_damaged_later_says_so(copy, member, harm):
    example = shards.read_shards(copy, SPEC)[0]
    begin, size = example.members[member]
    content = bytearray(example.shard.read_bytes())
    if harm == "cut off":
        content = content[: begin + size // 2]
    else:
        noise = bytes(size) if harm == "zeros" else np.random.default_rng(0).bytes(size)
        content[begin : begin + size] = noise
    example.shard.write_bytes(content)
    readings = [
        lambda: example.clip,
        lambda: example.piece,
        lambda: example.window(example.start + 1.5, 1.0, SPEC.frame_times),
    ]
    for reading in readings:
        if member == 3 and harm != "cut off":  # any bytes are a sound
            assert np.isfinite(reading().waveform).all()
            continue
        with pytest.raises(AVFFError, match=r"run avff prepare again, which repairs it$") as error:
            reading()
        assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_flipped_byte_gives_a_clip_or_a_sentence(tmp_path):
    example = store(two_faces(seconds=2), tmp_path, "png")
    content = example.shard.read_bytes()
    rng, said = np.random.default_rng(0), []
    for _ in range(300):
        begin, size = example.members[rng.integers(5)]
        damaged = bytearray(content)
        damaged[begin + rng.integers(min(size, 400))] ^= 1 << rng.integers(8)
        example.shard.write_bytes(damaged)
        try:
            assert np.isfinite(example.window(0.7, 1.0, SPEC.frame_times).waveform).all()
            assert example.piece.faces
        except AVFFError as error:
            said.append(str(error))
    assert 30 < len(said) < 270
    assert all(sentence.endswith("run avff prepare again, which repairs it") for sentence in said)


def test_files_without_a_face_or_with_broken_sound_leave_nothing_in_a_shard(dataset, tmp_path, monkeypatch):
    def example_of(row, **_):
        yield two_faces(seconds=2)
        if row.path.name.startswith("00000"):
            raise AVFFError("no face was found in it")
        broken = two_faces(seconds=2)
        yield replace(broken, tracked=replace(broken.tracked, waveform=np.full(32_000, np.nan, np.float32)))

    monkeypatch.setattr(shards, "iter_examples", example_of)
    rows = read_manifest(dataset / "manifest.csv")[:2]
    skipped = shards.write_shards(rows, tmp_path, root=dataset, workers=1)
    assert {entry.reason for entry in skipped} == {
        "no face was found in it",
        "its audio holds non-finite samples",
    }
    with tarfile.open(tmp_path / "shard-00000.tar") as tar:
        assert tar.getnames() == []


def test_shards_for_other_models_are_refused_and_short_clips_left_out(made):
    with pytest.raises(AVFFError, match="image_size 64, the model wants 224"):
        shards.read_shards(made, InputSpec())
    assert shards.read_shards(made, InputSpec(image_size=64, duration=3.3)) == []


def test_an_index_leads_nowhere_outside_its_folder(copy):
    for name, change in (("index.json", outwards), ("shard-00000.json", outwards_of_a_part)):
        content = json.loads((copy / name).read_text())
        change(content)
        (copy / name).write_text(json.dumps(content))
    assert {example.shard.parent for example in shards.read_shards(copy, SPEC)} == {copy}


def outwards(index):
    index["shards"] = [f"../{name}" for name in index["shards"]]


def outwards_of_a_part(entry):
    entry["parts"][0]["file"] = "/etc/../../" + entry["parts"][0]["file"]


def test_prepare_and_train_by_the_command_line(dataset, tmp_path, capsys):
    stored, out = tmp_path / "stored", tmp_path / "out"
    assert cli.main(["prepare", str(dataset), "--out", str(stored), "--workers", "1"]) == 0
    said = capsys.readouterr()
    assert "5 of 6 clips" in said.out
    assert "cannot be read" in said.err
    for folder in (dataset, stored):
        command = ["train", "--data", str(folder), "--out", str(out / folder.name), "--steps", "2"]
        assert cli.main([*command, "--batch-size", "2"]) == 0
    one, other = (
        [step["loss"] for step in json.loads((out / folder.name / "history.json").read_text())]
        for folder in (dataset, stored)
    )
    assert len(one) == 2
    assert other == pytest.approx(one, abs=1e-4)
