"""Flaws that datasets have, planted: the audit finds each, and only that."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from test_audit import RATE, dataset
from test_perturb import talking

from avff_lib.data.audit import audit
from avff_lib.data.duplicates import Fingerprint, fingerprint, near_duplicates
from avff_lib.data.manifest import Row
from avff_lib.data.splits import identity_leaks, imbalances, shared_identities
from avff_lib.media.clip import Clip
from avff_lib.media.decode import probe, read_clip
from avff_lib.media.encode import write_clip


def rewrite(path: Path, codec: str) -> None:
    """The same video in another codec, the audio copied."""
    clip, partial = read_clip(path, sample_rate=RATE), path.with_suffix(".partial")
    with av.open(path) as source, av.open(partial, "w", format="mp4") as target:
        sound = target.add_stream_from_template(source.streams.audio[0])
        video = target.add_stream(codec, rate=12)
        video.height, video.width, video.pix_fmt = *clip.frames.shape[1:3], "yuv420p"
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = sound
                target.mux(packet)
        for index, image in enumerate(clip.frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 12)
            target.mux(video.encode(frame))
        target.mux(video.encode(None))
    partial.replace(path)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[Row]:
    """Clean: 18 people, a real clip and a voice clone of each."""
    return dataset(tmp_path_factory.mktemp("clean"), silence_of_fakes=0.0)


def test_another_codec_in_the_fakes_is_reported(tmp_path):
    rows = dataset(tmp_path, silence_of_fakes=0.0)
    assert probe(rows[0].path).writer.startswith("isom, VideoHandler, x264 ")
    for row in rows:
        if row.label:
            rewrite(row.path, "mpeg4")
    assert "Lavf" in probe(rows[1].path).writer
    report = audit(rows)
    cell = report.cell("metadata", "RVFA")
    assert cell.verdict == "leaks"
    assert cell.auc > 0.95
    assert cell.clue.startswith("codecs are .mp4 h264 aac: median 0 in the fakes, 1 in real clips")
    assert any(finding.startswith("metadata separates RVFA") for finding in report.findings)


def test_a_person_who_is_a_target_elsewhere_leaks_though_no_source_does(rows):
    borrowed = [replace(row, targets=("p17",)) if row.source == "p0" and row.label else row for row in rows]
    assert shared_identities(borrowed) == {"train and test": ("p17",)}
    leak = "1 identities are in both train and test (1 of them only if targets are counted): p17; "
    assert [finding.startswith(leak) for finding in audit(borrowed).findings] == [True]
    both = [replace(row, source="p0") if row.source == "p17" else row for row in rows]
    assert identity_leaks(both)[0].startswith("1 identities are in both train and test: p0; ")


def test_one_recording_twice_is_found_encoded_anew_or_not(rows, tmp_path):
    clip = talking(72, 64)
    original = Row(tmp_path / "original.mp4", 0, "RVRA", "real", "p0", split="train")
    write_clip(clip, original.path)
    copy = replace(original, path=tmp_path / "copy.mp4")
    copy.path.write_bytes(original.path.read_bytes())
    again = replace(original, path=tmp_path / "again.mp4", split="test", source="somebody else")
    small = np.stack([cv2.resize(frame, (32, 36), interpolation=cv2.INTER_AREA) for frame in clip.frames])
    write_clip(replace(clip, frames=small, waveform=0.3 * clip.waveform), again.path, crf=30)

    report = audit([*rows, original, copy, again])
    assert report.duplicates == ((str(original.path), str(copy.path)),)
    found = {frozenset(pair) for pair in report.near_duplicates}
    assert found == {frozenset((str(row.path), str(again.path))) for row in (original, copy)}
    assert sum("more than once" in finding for finding in report.findings) == 1
    assert (
        sum("2 pairs of clips in two splits differ in their encoding only" in f for f in report.findings) == 1
    )


def test_a_fake_may_be_like_its_original_but_not_in_another_split(tmp_path):
    write_clip(talking(72, 64), tmp_path / "a.mp4")
    write_clip(talking(72, 64), tmp_path / "b.mp4", crf=35)
    prints = [fingerprint(read_clip(tmp_path / f"{name}.mp4")) for name in "ab"]
    real = Row(tmp_path / "a.mp4", 0, "RVRA", "real", "p", split="train")
    fake = Row(tmp_path / "b.mp4", 1, "FVRA", "lips", "p", ("q",), "train")
    assert near_duplicates([real, fake], prints) == ()
    assert near_duplicates([real, replace(fake, split="test")], prints) == ((0, 1),)
    assert near_duplicates([replace(fake, path=real.path), fake], prints) == ((0, 1),)
    assert near_duplicates([replace(fake, targets=("r",)), fake], prints) == ()


def test_blocks_of_comparisons_miss_none(monkeypatch):
    rng = np.random.default_rng(0)
    rows = [Row(Path(f"{n}"), 0, "RVRA", "real", f"p{n}") for n in range(10)]
    prints = []
    for number in range(10):
        stream = np.random.default_rng(number % 5).normal(size=400) + 0.01 * rng.normal(size=400)
        unit = (stream / np.linalg.norm(stream)).astype(np.float32)
        prints.append(Fingerprint(str(number), unit, unit))
    monkeypatch.setattr("avff_lib.data.duplicates.BLOCK", 3)
    assert near_duplicates(rows, prints) == tuple((n, n + 5) for n in range(5))


def test_blank_clips_are_duplicates_of_nothing():
    black = np.zeros((3, 8, 8, 3), np.uint8)
    blank = fingerprint(Clip(black, np.arange(3) / 25, np.zeros(100, np.float32), RATE, 0.0, 0.12))
    assert not blank.video.any()
    assert not blank.audio.any()


def test_imbalanced_splits_are_reported():
    def rows_of(split, real, fake):
        return [Row(Path("x"), label, "RVRA", "real", "p", split=split) for label in [0] * real + [1] * fake]

    rows = [*rows_of("train", 10, 40), *rows_of("val", 2, 9), *rows_of("test", 0, 3)]
    val, test = imbalances(rows)
    assert val.startswith("val has 9 fake and 2 real clips")
    assert test.startswith("all 3 test clips are fake")
