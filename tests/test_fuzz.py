"""Broken files: each gets a result or one sentence, in bounded time and memory, and leaves nothing.

Media are scored by a process of their own, which this file is as well when it is run as a script: a decoder
that hangs or crashes cannot take the tests along. Manifests, configs and weights are read here.
"""

from __future__ import annotations

import copy
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import MINI, SMALLEST, SMALLEST_MAE

from avff_lib import cli
from avff_lib.data.manifest import CATEGORIES, SPLITS, Row, read_manifest, write_manifest
from avff_lib.errors import AVFFError
from avff_lib.inference.predictor import predict
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.models import AVFF, AVFFMAE, AVFFConfig, AVFFMAEConfig, Detector
from avff_lib.models.checkpoint import CONFIG_NAME, OOD_NAME, WEIGHTS_NAME
from avff_lib.models.ood import MahalanobisDetector, OODDetector
from avff_lib.preprocess.audio import log_mel, normalize_waveform
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.synth.face import Motion, render
from avff_lib.synth.portrait import Identity, Scene

CASES = 520
SEED = 5
CONTAINERS = ("mp4", "matroska", "mpegts", "flv")
NAMES = (
    "x.mp4",
    "x.avi",
    "x.mkv",
    "x.mpg",
    "x.ts",
    "x.flv",
    "x.mp3",
    "x.jpg",
    "x.txt",
    "x",
    "-x.mp4",
    "x y'\".mp4",
)
MAX_SECONDS = 20.0  # for one case; on a quiet core it takes a fifth of a second
MAX_GROWTH = 60e6  # bytes that the process may grow by from the first quarter of the cases to the last
WARM_UP = CASES // 4
READ_CASES = 300  # manifests, configs of each family, weights
MAX_READ_GROWTH = 200e6  # bytes


def speaking(rng: np.random.Generator) -> Clip:
    """1.1 s of a drawn face, 14 frames, and noise for a voice."""
    mouth = np.array([[0, 0.5, 0, 0, 0]])
    face = render(Identity.sample(rng), Scene.sample(rng), Motion.sample(rng, 1), mouth)[0]
    times = np.arange(14) / 12.5
    sound = rng.uniform(-0.3, 0.3, 17_920).astype(np.float32)
    return Clip(np.repeat(face[None, ::2, ::2], 14, axis=0), times, sound, 16_000, 0.0, 1.12)


def remux(source: Path, target: Path, container: str) -> bytes:
    """The same packets in another container."""
    with av.open(str(source)) as old, av.open(str(target), "w", format=container) as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    return target.read_bytes()


def as_avi(clip: Clip, target: Path) -> bytes:
    """The clip in older codecs, in a container that knows no timestamps."""
    with av.open(str(target), "w", format="avi") as new:
        video = new.add_stream("mpeg4", rate=Fraction(25, 2))
        video.height, video.width = clip.frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        audio = new.add_stream("pcm_s16le", rate=clip.sample_rate, layout="mono")
        for frame in clip.frames:
            new.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        samples = (32767 * clip.waveform).astype(np.int16)[None]
        sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        sound.sample_rate = clip.sample_rate
        new.mux([*video.encode(None), *audio.encode(sound), *audio.encode(None)])
    return target.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """One small film in every container, and files that are none."""
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(SEED)
    clip = speaking(rng)
    write_clip(clip, folder / "film.mp4")
    films = {name: remux(folder / "film.mp4", folder / f"film.{name}", name) for name in CONTAINERS}
    films["avi"] = as_avi(clip, folder / "film.avi")
    silent = replace(clip, waveform=np.zeros_like(clip.waveform))
    write_clip(silent, folder / "silent.mp4")
    others = {
        "silent": (folder / "silent.mp4").read_bytes(),
        "text": b"No film at all.\n" * 40,
        "noise": rng.bytes(4000),
        "zeros": bytes(4000),
        "playlist": b"#EXTM3U\n#EXTINF:1,\nfilm.mp4\n",
        "concat": b"ffconcat version 1.0\nfile film.mp4\n",
    }
    return films | others


def broken(whole: dict[str, bytes], index: int) -> tuple[str, bytes]:
    """Case number ``index``, the same on every run: a name, and what the file holds."""
    rng = np.random.default_rng([SEED, index])
    # Most of them are films; the rest is whatever else a file can be.
    kinds = [*CONTAINERS, "avi"] if rng.random() < 0.9 else list(whole)
    kind = kinds[rng.integers(len(kinds))]
    data, name = whole[kind], NAMES[0]
    if index % 6 == 5:
        name = NAMES[rng.integers(len(NAMES))]
    else:
        data = damaged(data, index % 6, rng)
    return f"{index:04d} {name}" if not name.startswith("-") else f"-{index:04d}.mp4", data


def damaged(whole: bytes, how: int, rng: np.random.Generator) -> bytes:
    """A file that lost or gained something, in one of five ways."""
    data = np.frombuffer(whole, np.uint8).copy()
    match how:
        case 0:  # cut off
            data = data[: rng.integers(len(data))]
        case 1:  # single bits flipped
            places = rng.integers(len(data), size=rng.integers(1, 65))
            data[places] ^= (1 << rng.integers(8, size=len(places))).astype(np.uint8)
        case 2:  # bits flipped in the header
            places = rng.integers(min(len(data), 800), size=rng.integers(1, 9))
            data[places] ^= (1 << rng.integers(8, size=len(places))).astype(np.uint8)
        case 3:  # a stretch overwritten with noise, or with nothing
            first = int(rng.integers(len(data)))
            stretch = data[first : first + int(rng.integers(1, 2000))]
            stretch[:] = 0 if rng.random() < 0.5 else rng.integers(256, size=len(stretch))
        case 4:  # a stretch cut out, or put in twice
            first, last = np.sort(rng.integers(len(data), size=2))
            parts = [data[:first], data[last:]] if rng.random() < 0.5 else [data[:last], data[first:]]
            data = np.concatenate(parts)
    return data.tobytes()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    AVFF(AVFFConfig(**MINI)).save_pretrained(folder)
    return folder


def test_broken_files_get_a_prediction_or_a_sentence(whole, model, tmp_path):
    for index in range(CASES):
        name, data = broken(whole, index)
        (tmp_path / name).write_bytes(data)
    before = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert len(before) == CASES
    here = set(os.listdir())
    command = [sys.executable, __file__, str(model), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CASES * 2, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert [case["name"] for case in cases] == sorted(before)
    for case in cases:
        if case["error"] is None:
            assert 0 <= case["score"] <= 1
        else:
            assert case["name"] in case["error"]
            assert "\n" not in case["error"]
            assert len(case["error"]) < 400 + len(str(tmp_path))
        assert case["seconds"] < MAX_SECONDS, case
    assert cases[-1]["memory"] - cases[WARM_UP]["memory"] < MAX_GROWTH
    # Both outcomes occur often, so the cases are neither all broken nor all intact.
    scored = sum(case["error"] is None for case in cases)
    assert CASES / 10 < scored < CASES * 9 / 10
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == before
    assert set(os.listdir()) == here


def test_the_command_ends_with_status_2_and_a_sentence_for_each(whole, model, tmp_path, capsys):
    clips = tmp_path / "clips"
    clips.mkdir()
    for index in (0, 1, 2, 4, 5, 6, 12, 18):
        (clips / f"{index}.mp4").write_bytes(broken(whole, index)[1])
    (clips / "text.mp4").write_bytes(whole["text"])
    options = ["--checkpoint", str(model), "--report", str(tmp_path / "page.html")]
    assert cli.main(["predict", str(clips), *options]) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert 1 <= sum(line.startswith(str(clips)) for line in printed.err.splitlines()) <= 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "page.html"]


# -- manifests, configs, weights --


def sentence_of(read: Callable[[], Any], check: Callable[[Any], None]) -> str | None:
    """The one sentence that reading ends with; None if it gives something, which is then checked."""
    try:
        check(read())
    except AVFFError as error:
        return str(error)
    return None


@contextmanager
def bounded() -> Iterator[list[str | None]]:
    """Collects the outcome of each case; both kinds must occur often, and memory may not grow."""
    outcomes: list[str | None] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield outcomes
    assert len(outcomes) >= READ_CASES
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MAX_READ_GROWTH
    sentences = [outcome for outcome in outcomes if outcome is not None]
    assert len(outcomes) / 20 < len(sentences) < len(outcomes) * 19 / 20
    assert not any("\n" in sentence or len(sentence) > 1000 for sentence in sentences)


MANIFEST = """path,label,category,method,source,targets,split,fake_segments,group
clips/a.mp4,1,FVFA,swap,anna,bert;carl,train,0.5-1.25;2-3,"women, 30"
b.mp4,0,RVRA,real,bert,,val,,men
"c, d.mp4",fake,,,,,,,
é.mp4,real,,,,,test,,
"""
PIECES = (
    *("\0", '"', ",", ";", "\r", "\n", "\ufeff", "../", "/", "nan", "inf", "-", "5-2", "1-2", "1e400"),
    *(
        "x" * 200_000,
        "\x1b[2J",
        "path",
        "label",
        "0",
        "1",
        "2",
        "real",
        "fake",
        "\u2028",
        " ",
        "RVRA",
        "=1+1",
    ),
)


def test_broken_manifests_give_rows_or_a_sentence(tmp_path):
    path = tmp_path / "manifest.csv"

    def check(rows: list[Row]) -> None:
        for row in rows:
            assert row.path.is_relative_to(tmp_path)
            assert ".." not in row.path.parts
            assert row.label in (0, 1)
            assert row.category in CATEGORIES
            assert row.split in SPLITS
            assert all(0 <= start < end < np.inf for start, end in row.fake_segments)
            assert row.label or not row.fake_segments
        write_manifest(rows, tmp_path / "again.csv")
        assert read_manifest(tmp_path / "again.csv") == rows

    with bounded() as outcomes:
        for index in range(READ_CASES):
            rng = np.random.default_rng([SEED, 1, index])
            if index % 2:
                data = damaged(MANIFEST.encode(), int(rng.integers(5)), rng)
            else:  # something put in, or in the place of a field
                parts = re.split("([,\n])", MANIFEST)
                for _ in range(int(rng.integers(1, 3))):
                    parts[rng.integers(len(parts))] = PIECES[rng.integers(len(PIECES))]
                data = "".join(parts).encode()
            path.write_bytes(data)
            outcomes.append(sentence_of(lambda: read_manifest(path), check))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of each family, as small as it can be."""
    folder = tmp_path_factory.mktemp("small")
    for model in (AVFF(AVFFConfig(**SMALLEST)), AVFFMAE(AVFFMAEConfig(**SMALLEST_MAE))):
        stream = MahalanobisDetector(np.zeros(model.config.dim), np.eye(model.config.dim), 1.0)
        model.ood = OODDetector({"audio_features": stream, "visual_features": stream}, 1.0)
        model.save_pretrained(folder / type(model).__name__)
    return {path.name: path for path in folder.iterdir()}


def check_that_it_scores(model: Detector) -> None:
    """A window goes through, and what comes out is a number."""
    spec = model.spec
    audio = torch.rand(round(spec.duration * spec.sample_rate)) - 0.5
    audio = log_mel(audio, spec.sample_rate, spec.mel) if spec.audio == "mel" else normalize_waveform(audio)
    frames = torch.rand(1, spec.frame_count, 3, spec.image_size, spec.image_size)
    with torch.no_grad():
        features = model.forward_features(ModelInputs(frames, audio[None]))
        logit = model.forward_head(model.fuse(features))
    assert logit.shape == (1,)
    point = np.zeros(model.config.dim)
    scores = model.ood.ood_scores({"audio_features": point, "visual_features": point})
    assert all(np.isfinite(list(scores.values())))


VALUES = (
    *(
        0,
        1,
        2,
        3,
        7,
        16,
        10**9,
        10**400,
        -1,
        0.5,
        1.5,
        1e-300,
        1e300,
        float("nan"),
        float("inf"),
        -float("inf"),
    ),
    *(
        None,
        True,
        False,
        "",
        "x",
        "1",
        "\n",
        "a" * 5000,
        [],
        {},
        [0],
        [1, 2, 3],
        [1e308] * 3,
        {"x": {}},
        [[]] * 9,
    ),
)
KEYS = ("checkpoint_path", "pretrained", "auto_map", "name_or_path", "a\nb", "", "dim", "img_size", "depth")


def places(config: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: what holds it, and its key or index there."""
    if not isinstance(config, dict | list):
        return []
    keys = list(config) if isinstance(config, dict) else range(len(config))
    return [(config, key) for key in keys] + [place for key in keys for place in places(config[key])]


def change(config: Any, rng: np.random.Generator) -> None:
    """Change one thing in a config."""
    owner, key = (found := places(config))[rng.integers(len(found))]
    match rng.integers(5):
        case 0:
            owner[key] = VALUES[rng.integers(len(VALUES))]
        case 1 if isinstance(owner[key], int | float):
            owner[key] = type(owner[key])(owner[key] * 2.0 ** rng.integers(-3, 4))
        case 2 if isinstance(owner, dict):
            owner[KEYS[rng.integers(len(KEYS))]] = VALUES[rng.integers(len(VALUES))]
        case 3:
            other, its = found[rng.integers(len(found))]
            owner[key] = copy.deepcopy(other[its])
        case _:
            del owner[key]


@pytest.mark.parametrize("family", ["AVFF", "AVFFMAE"])
def test_broken_configs_give_a_model_or_a_sentence(small, family, tmp_path):
    folder = shutil.copytree(small[family], tmp_path / "c")
    whole = (folder / CONFIG_NAME).read_text()
    with bounded() as outcomes:
        for index in range(READ_CASES):
            rng = np.random.default_rng([SEED, 2, index])
            if index % 4:
                config = json.loads(whole)
                change(config, rng)
                data = json.dumps(config).encode()
            else:
                data = damaged(whole.encode(), int(rng.integers(5)), rng)
            (folder / CONFIG_NAME).write_bytes(data)
            outcomes.append(sentence_of(lambda: Detector.from_pretrained(folder), check_that_it_scores))


def test_broken_weights_give_a_model_or_a_sentence(small, tmp_path):
    folder = shutil.copytree(small["AVFF"], tmp_path / "c")
    whole = {name: (folder / name).read_bytes() for name in (WEIGHTS_NAME, OOD_NAME)}
    others = [
        *whole.values(),
        *((small["AVFFMAE"] / name).read_bytes() for name in whole),
        b"",
        b"PK\3\4",
        bytes(64),
    ]
    with bounded() as outcomes:
        for index in range(READ_CASES):
            rng = np.random.default_rng([SEED, 3, index])
            name = list(whole)[index % 2]
            if index % 20 < 2:
                data = others[rng.integers(len(others))]
            elif index % 20 < 6:  # the header is JSON, with its length in front
                length = int.from_bytes(whole[name][:8], "little")
                header = json.loads(whole[name][8 : 8 + length])
                change(header, rng)
                text = json.dumps(header).encode()
                length = len(text) if rng.random() < 0.8 else int(rng.integers(2**63))
                data = length.to_bytes(8, "little") + text + whole[name][8 + len(text) :]
            else:
                data = damaged(whole[name], int(rng.integers(5)), rng)
            for file, original in whole.items():
                (folder / file).write_bytes(data if file == name else original)
            outcomes.append(sentence_of(lambda: Detector.from_pretrained(folder), check_that_it_scores))


def main(model: str, folder: str) -> None:
    """Score every file of a folder and print a line of JSON for each."""
    detector = AVFF.from_pretrained(model)
    for path in sorted(Path(folder).iterdir(), key=lambda path: path.name):
        begin = time.monotonic()
        report = predict(path, detector)
        line = {
            "name": path.name,
            "score": report.score,
            "error": report.error,
            "seconds": time.monotonic() - begin,
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
