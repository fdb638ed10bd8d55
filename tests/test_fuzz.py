"""Broken files: each gets a prediction or one sentence, in bounded time and memory, and leaves nothing.

The cases are scored by a process of their own, which this file is as well when it is run as a script: a
decoder that hangs or crashes cannot take the tests along.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import MINI

from avff_lib import cli
from avff_lib.inference.predictor import predict
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.models import AVFF, AVFFConfig
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
    data = np.frombuffer(whole[kind], np.uint8).copy()
    name = NAMES[0]
    match index % 6:
        case 0:  # cut off
            data = data[: rng.integers(len(data))]
        case 1:  # single bits flipped
            places = rng.integers(len(data), size=rng.integers(1, 65))
            data[places] ^= (1 << rng.integers(8, size=len(places))).astype(np.uint8)
        case 2:  # bits flipped in the header
            places = rng.integers(min(len(data), 800), size=rng.integers(1, 9))
            data[places] ^= (1 << rng.integers(8, size=len(places))).astype(np.uint8)
        case 3:  # another name
            name = NAMES[rng.integers(len(NAMES))]
        case 4:  # a stretch overwritten with noise, or with nothing
            first = int(rng.integers(len(data)))
            stretch = data[first : first + int(rng.integers(1, 2000))]
            stretch[:] = 0 if rng.random() < 0.5 else rng.integers(256, size=len(stretch))
        case 5:  # a stretch cut out, or put in twice
            first, last = np.sort(rng.integers(len(data), size=2))
            parts = [data[:first], data[last:]] if rng.random() < 0.5 else [data[:last], data[first:]]
            data = np.concatenate(parts)
    return f"{index:04d} {name}" if not name.startswith("-") else f"-{index:04d}.mp4", data.tobytes()


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
            assert 0 <= case["prediction"] <= 1
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


def main(model: str, folder: str) -> None:
    """Score every file of a folder and print a line of JSON for each."""
    detector = AVFF.from_pretrained(model)
    for path in sorted(Path(folder).iterdir(), key=lambda path: path.name):
        begin = time.monotonic()
        report = predict(path, detector)
        line = {
            "name": path.name,
            "prediction": report.prediction,
            "error": report.error,
            "seconds": time.monotonic() - begin,
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
