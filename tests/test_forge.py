"""Pseudo-fakes from genuine recordings: each method changes what it says and nothing else."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from avff_lib.cli import main
from avff_lib.data.manifest import Row, read_manifest, write_manifest
from avff_lib.errors import AVFFError
from avff_lib.forge import FAKES, METHODS, forge
from avff_lib.forge.face import Face, Region, blend, find_face
from avff_lib.forge.make import make_clip
from avff_lib.forge.methods import needs_take
from avff_lib.forge.plan import ForgePlan, plan_clips
from avff_lib.forge.recording import MIN_SECONDS, SHIFT, Recording, Stretch, Take, inspect
from avff_lib.forge.voice import revoiced
from avff_lib.forge.write import COMMENT
from avff_lib.media.decode import probe, read_clip
from avff_lib.media.encode import write_clip
from avff_lib.synth import make_clip as draw_clip
from avff_lib.synth import plan_corpus
from avff_lib.synth.forgeries import segment_weight

SECONDS = 2.3  # of a drawn recording
SEGMENT = (0.3, 1.2)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> list[Row]:
    """Three recordings of one drawn person and two of another, in folders of their names."""
    folder = tmp_path_factory.mktemp("recorded")
    (plan, other) = plan_corpus(2, 6, seed=2, level="easy", methods=[])
    rows = []
    for person, takes in ((replace(plan, source=0), 3), (replace(other, source=1), 2)):
        (folder / f"person{person.source}").mkdir()
        for take in range(takes):
            clip = draw_clip(replace(person, corpus_seed=7, seed=10 + take)).window(0.0, SECONDS)
            path = folder / f"person{person.source}" / f"take{take}.mp4"
            write_clip(clip, path, crf=16)
            rows.append(Row(path, 0, "RVRA", "real", f"person{person.source}"))
    return rows


@pytest.fixture(scope="module")
def takes(recorded) -> list[Recording]:
    return [Recording.draw(row, Stretch(0.0, SECONDS), 3, i) for i, row in enumerate(recorded)]


@pytest.fixture(scope="module")
def take(takes) -> Take:
    return Take(takes[0])


def plan_of(method: str, takes: list[Recording], segment=None) -> ForgePlan:
    donor = takes[1] if needs_take(METHODS[method]) else takes[3] if METHODS[method].needs_donor else None
    segment = segment or (0.0, takes[0].duration)
    return ForgePlan("clip.mp4", method, takes[0], donor, None if method == "real" else segment, 5)


def imaginary(people: dict[str, tuple[int, str]], seconds: float = 3.0) -> list[Recording]:
    """So many recordings of each person, without files."""
    rows = [
        Row(Path(f"{name}-{take}-{seconds}.mp4"), 0, "RVRA", "real", name, split=split)
        for name, (count, split) in people.items()
        for take in range(count)
    ]
    return [Recording.draw(row, Stretch(0.0, seconds), 0, i) for i, row in enumerate(rows)]


CROWD = {
    **{f"a{i}": (5, "train") for i in range(8)},
    **{f"b{i}": (5, "val") for i in range(4)},
    **{f"c{i}": (5, "test") for i in range(4)},
}


# --- the plan


def test_methods_and_real_clips_are_balanced_in_each_split():
    plans, notes = plan_clips(imaginary(CROWD), clips=None, seed=1, methods=FAKES)
    assert notes == []
    assert plans == plan_clips(imaginary(CROWD), clips=None, seed=1, methods=FAKES)[0]
    assert plans != plan_clips(imaginary(CROWD), clips=None, seed=2, methods=FAKES)[0]
    assert len({plan.path for plan in plans}) == len({plan.seed for plan in plans}) == len(plans) == 200
    for split, clips in (("train", 100), ("val", 50), ("test", 50)):
        count = Counter(plan.method for plan in plans if plan.recording.row.split == split)
        assert count.total() == pytest.approx(clips, abs=2)
        assert count["real"] == pytest.approx(0.4 * clips, abs=1)
        assert max(count[name] for name in FAKES) - min(count[name] for name in FAKES) <= 2
    used = Counter((plan.recording.row.path, plan.method) for plan in plans)
    assert set(used.values()) == {1}


def test_donors_are_of_the_same_split_and_last_long_enough():
    recordings = imaginary(CROWD) + imaginary({"a0": (2, "train"), "long": (1, "train")}, seconds=6.0)
    plans, _ = plan_clips(recordings, clips=None, seed=1, methods=FAKES)
    lent = [plan for plan in plans if plan.donor]
    assert {plan.method for plan in lent} == {
        name for name in FAKES if METHODS[name].needs_donor or needs_take(METHODS[name])
    }
    for plan in lent:
        assert plan.donor.row.split == plan.recording.row.split
        assert plan.donor.row.path != plan.recording.row.path
        assert (plan.donor.row.source == plan.recording.row.source) == needs_take(METHODS[plan.method])
        assert plan.donor.duration >= plan.recording.duration


def test_fewer_clips_keep_the_shares_of_the_splits():
    plans, _ = plan_clips(imaginary(CROWD), clips=40, seed=1, methods=FAKES)
    assert len(plans) == 40
    assert Counter(plan.recording.row.split for plan in plans if plan.method == "real") == {
        "train": 8,
        "val": 4,
        "test": 4,
    }


def test_what_people_cannot_supply_is_left_out_with_a_sentence():
    alone = {"train": 9, "val": 3, "test": 3}
    recordings = [
        replace(recording, row=replace(recording.row, source="she"))
        for recording in imaginary({split: (count, split) for split, count in alone.items()})
    ]
    plans, notes = plan_clips(recordings, clips=None, seed=0, methods=FAKES)
    assert {plan.method for plan in plans} == {"real", *FAKES} - {"foreign_voice"}
    assert len(notes) == 1
    assert notes[0].startswith("foreign_voice is left out in train, val, test: it takes two people")
    with pytest.raises(AVFFError, match="no train clip can be forged by foreign_voice"):
        plan_clips(recordings, clips=None, seed=0, methods=["foreign_voice"])


def test_a_method_is_not_used_twice_for_a_recording():
    plans, notes = plan_clips(imaginary(CROWD), clips=None, seed=0, methods=["revoiced"])
    assert Counter(plan.method for plan in plans) == {"real": 80, "revoiced": 80}
    assert notes == ["160 clips are made and not 200: no method is used twice for a recording"]


def test_a_shifted_voice_begins_wherever_a_real_one_does():
    drawn = [
        Recording.draw(Row(Path("a.mp4"), 0, "RVRA", "real", "a"), Stretch(2.0, 3.0), 0, i)
        for i in range(2000)
    ]
    begins, shifted = (np.array([getattr(item, name) for item in drawn]) for name in ("begin", "shifted"))
    for places in (begins, shifted):
        assert places.min() >= 2.0
        assert places.max() + drawn[0].duration <= 5.0
    shift = np.abs(begins - shifted)
    assert SHIFT[0] <= shift.min() < shift.max() <= SHIFT[1]
    np.testing.assert_allclose(
        np.quantile(begins, (0.1, 0.5, 0.9)), np.quantile(shifted, (0.1, 0.5, 0.9)), atol=0.04
    )


# --- the clips


@pytest.mark.parametrize("method", FAKES)
def test_a_fake_differs_from_its_real_twin_only_where_it_is_fake(method, takes, take):
    segment = SEGMENT if METHODS[method].partial else (0.0, takes[0].duration)
    real, fake = (make_clip(plan_of(name, takes, segment), take) for name in ("real", method))
    assert fake.frames.shape == real.frames.shape
    assert len(fake.waveform) == len(real.waveform) == 27_200
    np.testing.assert_array_equal(fake.times, real.times)

    moved = np.abs(fake.frames.astype(int) - real.frames).max(axis=-1)  # (T, H, W)
    heard = np.abs(fake.waveform - real.waveform)
    picture = segment_weight(real.times - real.start, segment, takes[0].duration) > 0
    sound = segment_weight(np.arange(len(heard)) / 16_000, segment, takes[0].duration) > 0
    assert not moved[~picture].any()
    assert not heard[~sound].any()
    if METHODS[method].category[0] == "F":
        assert (moved[picture].max(axis=(1, 2)) > 4).mean() > 0.8
        assert (moved > 0).any(axis=0).mean() < 0.5  # of the picture
    else:
        assert not moved.any()
    assert (heard[sound].mean() > 1e-3) == (METHODS[method].category[2] == "F")


def test_a_shifted_voice_is_the_own_one_from_elsewhere(takes, take):
    clip = make_clip(plan_of("shifted_voice", takes), take)
    whole = read_clip(takes[0].row.path).waveform
    start = round(takes[0].shifted * 16_000)
    np.testing.assert_allclose(clip.waveform, whole[start : start + len(clip.waveform)], atol=1e-6)


def test_a_foreign_voice_is_that_of_the_donors_real_clip(takes, take):
    clip = make_clip(plan_of("foreign_voice", takes), take)
    np.testing.assert_array_equal(clip.waveform, Take(takes[3]).cut(takes[3].duration).waveform)


@pytest.mark.parametrize("method", ["revoiced", "dubbed"])
def test_a_vocoder_changes_neither_level_nor_peaks(method, takes, take):
    real, fake = (make_clip(plan_of(name, takes), take).waveform for name in ("real", method))
    assert np.sqrt(np.mean(fake**2)) == pytest.approx(np.sqrt(np.mean(real**2)), rel=1e-3)
    assert np.abs(fake).max() == pytest.approx(np.abs(real).max(), rel=0.02)


def test_a_vocoder_leaves_pauses_as_they_are():
    rng = np.random.default_rng(0)
    voice = rng.normal(0, 0.1, 16_000).astype(np.float32)
    voice[4000:8000] *= 0.01
    voice[12_000:] = 0
    fake = revoiced(voice, rng, like=voice)
    for part in (slice(0, 3500), slice(4500, 7500), slice(8500, 11_500)):
        assert np.std(fake[part]) == pytest.approx(np.std(voice[part]), rel=0.1)
    assert np.abs(fake[12_500:]).max() < 1e-4
    assert np.corrcoef(fake, voice)[0, 1] < 0.5
    assert not revoiced(np.zeros(16_000, np.float32), rng, like=voice).any()


def test_other_lips_are_those_of_the_other_take(takes, take):
    """The mouth of the fake opens with that of the other take, not with its own."""
    own, other = take, Take(takes[1])
    fake = make_clip(plan_of("other_lips", takes), own)
    clips = [take.cut(takes[0].duration) for take in (own, other)]

    def mouths(clip, take):
        face = take.face(clip.times)
        centers = np.round([face.mouth.real, face.mouth.imag]).astype(int).T
        return np.stack(
            [frame[y : y + 12, x - 8 : x + 9] for frame, (x, y) in zip(clip.frames, centers, strict=True)]
        )

    opening = [
        mouths(clip, take).astype(float).mean(axis=(1, 2, 3))
        for clip, take in ((fake, own), (clips[0], own), (clips[1], other))
    ]
    closeness = np.corrcoef(opening)[0]
    assert closeness[2] > 0.8
    assert closeness[2] > closeness[1] + 0.2


def test_a_face_is_where_the_picture_shows_it(recorded):
    clip = read_clip(recorded[0].path)
    face, moved = (
        find_face(replace(clip, frames=np.roll(clip.frames, shift, axis=(1, 2))))
        for shift in ((0, 0), (4, -6))
    )
    assert np.abs(face.unit - face.unit.mean()).max() < 0.2 * np.abs(face.unit).mean()
    assert np.abs(np.degrees(np.angle(face.unit))).max() < 20  # upright
    assert 15 < np.abs(face.unit).mean() < 60  # pixels from the mouth to the eyes, of 144
    np.testing.assert_allclose(moved.mouth.mean() - face.mouth.mean(), -6 + 4j, atol=1)


def test_a_patch_at_the_edge_of_the_picture():
    frames = np.zeros((2, 40, 60, 3), np.uint8)
    face = Face(np.array([1 + 1j, 58 + 30j]), np.array([10 + 0j, 8 + 6j]))
    mask = np.zeros((64, 64), np.float32)
    mask[16:48, 16:48] = 1
    blend(frames, face, Region(mask, 0j, 2.0), np.array([1.0, 0.5]), lambda i, own, square: own + 200.0)
    assert frames[0, :8, :8].min() == 200
    assert not frames[0, 15:].any()
    assert not frames[0, :, 15:].any()
    assert frames[1, 30, 58].tolist() == [100, 100, 100]
    assert not frames[1, :, :40].any()


# --- the dataset


@pytest.fixture(scope="module")
def forged(recorded, tmp_path_factory):
    out = tmp_path_factory.mktemp("forged") / "out"
    return forge(recorded, out, methods=("revoiced", "self_blended"), workers=1)


def test_streams_and_tags_tell_no_class(forged):
    rows = read_manifest(forged.manifest)
    assert Counter(row.label for row in rows) == {0: 5, 1: 7}
    assert {row.method for row in rows} == {"real", "revoiced", "self_blended"}
    assert len({probe(row.path) for row in rows}) == 1
    for row in rows:
        with av.open(str(row.path)) as file:
            assert file.metadata["comment"] == COMMENT
            assert (file.streams.audio[0].rate, file.streams.audio[0].layout.name) == (16_000, "mono")
        assert row.label == int(row.method != "real")
        assert row.category == METHODS[row.method].category
        assert len(row.fake_segments) == row.label
        assert all(0 <= start < end <= probe(row.path).duration + 0.04 for start, end in row.fake_segments)
    assert {row.split for row in rows} == {"train", "val", "test"}
    assert [note.split(",")[0] for note in forged.notes] == ["no recording is in two splits"]


def test_an_interrupted_run_goes_on_and_other_settings_are_refused(recorded, forged, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(forged.manifest.parent, out)
    lost = {next(out.glob(f"*/{method}/*.mp4")) for method in ("real", "revoiced", "self_blended")}
    before = {path: path.read_bytes() for path in lost}
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4")}
    for path in lost:
        path.unlink()
    forge(recorded, out, methods=("self_blended", "revoiced"), workers=1)
    assert {path: path.read_bytes() for path in lost} == before
    assert {path for path in times if path.stat().st_mtime_ns != times[path]} == lost
    with pytest.raises(AVFFError, match="another setting of methods, seed"):
        forge(recorded, out, methods=("revoiced",), seed=1, workers=1)
    with pytest.raises(AVFFError, match="another setting of recordings"):
        forge(recorded[1:], out, methods=("revoiced", "self_blended"), workers=1)


def test_recordings_without_a_face_a_voice_or_enough_seconds_are_skipped(recorded, tmp_path):
    clip = read_clip(recorded[0].path)
    spoilt = {
        "faceless": replace(
            clip,
            frames=np.full_like(clip.frames, 90)
            + np.arange(len(clip.frames))[:, None, None, None].astype(np.uint8) // 8,
        ),
        "silent": replace(clip, waveform=np.zeros_like(clip.waveform)),
        "short": clip.window(0.0, MIN_SECONDS),
    }
    reasons = {}
    for name, changed in spoilt.items():
        write_clip(changed, tmp_path / f"{name}.mp4")
        reasons[name] = inspect(tmp_path / f"{name}.mp4")
    (tmp_path / "damaged.mp4").write_bytes(b"no video")
    assert reasons["faceless"] == "shows no face throughout; expected a speaker's"
    assert reasons["silent"] == "is silent; expected a voice"
    assert reasons["short"] == "lasts 1.5 s; expected 2.1 s or more"
    assert str(tmp_path) not in inspect(tmp_path / "damaged.mp4")


def test_the_command_needs_genuine_clips(recorded, tmp_path, capsys):
    shutil.copy(recorded[0].path, tmp_path / "a.mp4")
    write_manifest([Row(tmp_path / "a.mp4", 1, "FVFA", "unknown", "a")], tmp_path / "manifest.csv")
    assert main(["forge", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "none of the 1 clips is genuine" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_was_left_out(recorded, forged, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(forged.manifest.parent, out)
    found = json.loads((out / "inspected.json").read_text())
    data = recorded[0].path.parents[1]
    arguments = ["--layout", "genuine", "--methods", "revoiced", "self_blended", "--workers", "1"]
    (out / "inspected.json").write_text(json.dumps([*found[:4], "is silent; expected a voice"]))
    assert main(["forge", str(data), "--out", str(out), *arguments]) == 0
    printed = capsys.readouterr()
    assert "take1.mp4: is silent; expected a voice" in printed.err
    assert "next: avff audit" in printed.out
