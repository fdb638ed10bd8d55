"""Facts about a file, each on a clip with a defect made on purpose, and on a clean one."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from avff_lib import cli
from avff_lib.faces.tracked import FaceCrops, TrackedClip, iter_tracked
from avff_lib.inference import store
from avff_lib.inference.facts import LipSync, file_facts, lag_phrase, summarize_facts, tabulate_facts
from avff_lib.inference.sync import MAX_LAG
from avff_lib.media.clip import Clip
from avff_lib.media.decode import iter_pieces, probe
from avff_lib.media.encode import write_clip
from avff_lib.media.facts import (
    MAX_TAG_LENGTH,
    MediaFacts,
    MediaInfo,
    MediaObserver,
    Span,
    clean_tag,
    encoder_of,
)
from avff_lib.models import Detector
from avff_lib.synth import make_clip, plan_corpus

RATE = 25


def moving(count: int = 80) -> np.ndarray:
    """Frames of a pattern that moves all the time, with the noise of a camera."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :128]
    shift = 1.5 * np.arange(count)[:, None, None]
    pattern = 120 + 60 * np.sin((x + shift) / 9) * np.cos((y - shift / 2) / 7)
    frames = pattern[..., None] + rng.normal(0, 2, (count, 96, 128, 3))
    return np.clip(frames, 0, 255).astype(np.uint8)


def clip_of(frames: np.ndarray, times: np.ndarray | None = None, sample_rate: int = 16_000) -> Clip:
    times = np.arange(len(frames)) / RATE if times is None else times
    duration = float(times[-1]) + 1 / RATE
    noise = np.random.default_rng(1).normal(0, 0.1, round(duration * sample_rate))
    return Clip(frames, times, noise.clip(-1, 1).astype(np.float32), sample_rate, 0.0, duration)


def observe(path: Path, seconds: float = 8.0) -> MediaFacts:
    observer = MediaObserver()
    for _ in iter_pieces(path, seconds, lambda picture, _: picture.shrunk(2, 2), observer=observer):
        pass
    facts = observer.facts()
    assert facts is not None
    return facts


def facts_of(clip: Clip, folder: Path, crf: int = 18) -> MediaFacts:
    write_clip(clip, folder / "clip.mp4", crf=crf)
    return observe(folder / "clip.mp4")


def test_a_clean_file_has_nothing_remarkable(tmp_path):
    facts = facts_of(clip_of(moving()), tmp_path)
    assert (facts.frames, facts.repeated_frames, facts.frozen) == (80, 0, ())
    assert (facts.variable_frame_rate, facts.missing_frames) == (False, 0)
    assert abs(facts.sound_delay) < 0.05 > facts.sound_shortfall
    assert (facts.video_codec, facts.audio_codec, facts.sample_rate) == ("h264", "aac", 16_000)
    assert (facts.width, facts.height, facts.frame_rate) == (128, 96, RATE)
    first, writer = summarize_facts(file_facts(facts, LipSync(), [0.1] * 64, 0.05, 0.0))
    assert first == "h264 128x96 at 25 fps, aac 16 kHz"
    assert "x264" in writer


def test_facts_are_the_same_however_long_the_pieces_are(tmp_path):
    write_clip(clip_of(moving()), tmp_path / "clip.mp4")
    assert observe(tmp_path / "clip.mp4", 1.0) == observe(tmp_path / "clip.mp4", 8.0)


def test_repeated_frames_are_counted(tmp_path):
    shown = np.sort(np.concatenate([np.arange(80), np.arange(24, 80, 8)]))
    facts = facts_of(clip_of(moving()[shown]), tmp_path)
    assert 6 <= facts.repeated_frames <= 7
    assert facts.frozen == ()


@pytest.mark.parametrize("crf", [18, 23])
def test_a_frozen_picture_is_found_across_key_frames(crf, tmp_path):
    shown = np.concatenate([np.arange(30), np.full(30, 29), np.arange(30, 60)])
    facts = facts_of(clip_of(moving()[shown]), tmp_path, crf)
    (span,) = facts.frozen
    assert span.start == pytest.approx(29 / RATE, abs=0.1)
    assert span.end == pytest.approx(60 / RATE, abs=0.05)


def test_frames_that_are_dropped_are_missing_by_the_timestamps(tmp_path):
    kept = np.delete(np.arange(80), [20, 21, 50])
    facts = facts_of(clip_of(moving()[kept], kept / RATE), tmp_path)
    assert (facts.missing_frames, facts.variable_frame_rate) == (3, False)


def test_of_a_variable_frame_rate_no_frame_is_missing(tmp_path):
    times = np.cumsum(np.tile([0.02, 0.05, 0.08, 0.03], 20)) - 0.02
    facts = facts_of(clip_of(moving(), times), tmp_path)
    assert (facts.variable_frame_rate, facts.missing_frames) == (True, None)


def test_of_few_frames_no_rate_is_known(tmp_path):
    facts = facts_of(clip_of(moving(4)), tmp_path)
    assert (facts.variable_frame_rate, facts.missing_frames, facts.bandwidth) == (None, None, None)


def test_sound_that_ends_early_or_starts_late_is_measured(tmp_path):
    clip = clip_of(moving())
    early = replace(clip, waveform=clip.waveform[: 2 * 16_000])
    assert facts_of(early, tmp_path).sound_shortfall == pytest.approx(1.2, abs=0.1)
    write_clip(clip, tmp_path / "clip.mp4")
    with av.open(tmp_path / "clip.mp4") as source, av.open(tmp_path / "late.mkv", "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "audio":
                later = round(0.5 / packet.time_base)
                packet.pts, packet.dts = packet.pts + later, packet.dts + later
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    assert observe(tmp_path / "late.mkv").sound_delay == pytest.approx(0.5, abs=0.1)


def bandwidth_of(waveform: np.ndarray, sample_rate: int = 48_000) -> float | None:
    """Of sound ``(S,)`` in pieces of 1024 samples, on the left of two channels."""
    observer = MediaObserver()
    for first in range(0, len(waveform) - 1023, 1024):
        left = waveform[first : first + 1024]
        samples = np.stack([left, 0 * left], axis=1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.round(30_000 * samples).astype(np.int16), "s16", "stereo")
        frame.sample_rate = sample_rate
        observer.add_sound(frame)
    observer.finish(probe_like(sample_rate), (0.0, 1.0), (0.0, 1.0))
    facts = observer.facts()
    assert facts is not None
    return facts.bandwidth


def probe_like(sample_rate: int) -> MediaInfo:
    return MediaInfo(1.0, 64, 64, 25.0, "h264", sample_rate, 2, "aac", "", "mp4")


def test_bandwidth_is_that_of_what_is_heard_and_not_of_the_sample_rate():
    wide = np.random.default_rng(1).normal(0, 0.1, 96_000).clip(-1, 1)
    spectrum = np.fft.rfft(wide)
    spectrum[np.fft.rfftfreq(len(wide), 1 / 48_000) > 6000] = 0
    narrow = np.fft.irfft(spectrum, len(wide))
    assert bandwidth_of(narrow) == pytest.approx(6000, abs=600)
    assert bandwidth_of(narrow, 16_000) == pytest.approx(2000, abs=200)
    assert bandwidth_of(wide) == pytest.approx(24_000, abs=200)
    assert bandwidth_of(narrow[:4096]) is None  # too short
    facts = file_facts(plain_facts(bandwidth=6000.0), LipSync(), [0.1] * 64, 0.05, 0.0)
    assert "no sound above 6.0 kHz" in summarize_facts(facts)


def test_silence_has_no_bandwidth(tmp_path):
    clip = clip_of(moving())
    write_clip(replace(clip, waveform=np.zeros_like(clip.waveform)), tmp_path / "clip.mp4")
    assert observe(tmp_path / "clip.mp4").bandwidth is None


# -- tags --


def test_tags_of_the_writer_are_kept_as_one_clean_line(tmp_path):
    path = tmp_path / "tagged.mkv"
    with av.open(path, "w") as target:
        target.metadata["software"] = "Cutter\x1b[31m\n2.0 " + 300 * "x"
        video = target.add_stream("libx264", rate=RATE)
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        audio = target.add_stream("aac", rate=16_000, layout="mono")
        for index, image in enumerate(moving(10)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            target.mux(video.encode(frame))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 6400), np.float32), format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 16_000, 0
        target.mux([*video.encode(None), *audio.encode(sound), *audio.encode(None)])
    info = probe(path)
    assert info.container == "matroska,webm"
    for part in ("Lavf", "x264 1", "Cutter [31m 2.0 xxx"):
        assert part in info.writer
    assert info.writer.isprintable()
    assert observe(path).writer == info.writer


def test_a_tag_is_cut_and_an_encoder_found_by_its_name():
    assert len(clean_tag("a" * 999)) == MAX_TAG_LENGTH
    assert encoder_of(b"\0" * 16 + b"x264 - core 164 r3095 baee400") == "x264 164"
    assert encoder_of(b"x265 (build 216) - 4.2") == "x265 216"
    assert encoder_of(b"\xff\0 core") == ""


# -- sound and faces --


def plain_facts(**changes) -> MediaFacts:
    facts = MediaFacts(
        **{"duration": 4.0, "width": 64, "height": 64, "frame_rate": 25.0, "video_codec": "h264"},
        **{"sample_rate": 48_000, "channels": 2, "audio_codec": "aac", "writer": "", "container": "mp4"},
        **{"frames": 100, "repeated_frames": 0, "frozen": (), "variable_frame_rate": False},
        **{"missing_frames": 0, "sound_delay": 0.0, "sound_shortfall": 0.0, "bandwidth": 16_000.0},
    )
    return replace(facts, **changes)


def test_digital_silence_is_inside_the_sound_and_softer_than_a_microphone():
    peaks = (
        [0.0] * 4 + [0.2] * 20 + [0.0] * 10 + [0.2] * 10 + [1e-4] * 10 + [0.2] * 4 + [0.0] + [0.2] + [0.0] * 6
    )
    facts = file_facts(plain_facts(), LipSync(), peaks, 0.05, 1.0)
    assert facts.digital_silence == (Span(2.2, 2.7),)


def test_a_frozen_picture_counts_only_while_the_sound_goes_on():
    spans = (Span(0.0, 0.8), Span(2.0, 3.0))
    peaks = [0.2] * 20 + [0.0] * 60
    facts = file_facts(plain_facts(frozen=spans), LipSync(), peaks, 0.05, 0.0)
    assert facts.frozen == spans[:1]


def spoken(lag: float, seconds: float = 16.0, noise: float = 0.2) -> TrackedClip:
    """A mouth that moves at random, and a voice that is as loud as the mouth is open, later by ``lag``."""
    rng = np.random.default_rng(3)
    times = np.arange(0, seconds, 1 / RATE)
    opening = np.convolve(rng.normal(size=len(times) + 8), np.hanning(9), "valid")
    clock = np.arange(round(seconds * 16_000)) / 16_000
    level = np.interp(clock - lag, times, opening)
    voice = 0.02 * np.exp(level / 2) * rng.normal(size=len(clock))
    motion = np.diff(opening + noise * rng.normal(size=len(times)), prepend=0.0).astype(np.float32)
    still = np.zeros((len(times), 2, 2, 3), np.uint8)
    clip = Clip(still, times, voice.clip(-1, 1).astype(np.float32), 16_000, 0.0, seconds)
    piece = TrackedClip.of_face(clip)
    return replace(piece, faces={1: replace(piece.faces[1], lip_motion=motion)})


@pytest.mark.parametrize("lag", [-0.2, 0.0, 0.28])
def test_the_lag_is_that_of_the_voice_behind_the_lips(lag):
    lips = LipSync()
    lips.update(spoken(lag))
    facts = file_facts(plain_facts(), lips, [0.2] * 320, 0.05, 0.0)
    assert facts.lag == pytest.approx(lag, abs=0.041)
    assert facts.lag_reliable is True
    assert abs(facts.lag) < MAX_LAG
    phrases = " ".join(summarize_facts(facts))
    assert ("the voice comes" in phrases) == (lag != 0)  # in sync is nothing remarkable


def test_a_lag_of_lips_and_another_voice_is_not_relied_on():
    lips, other = LipSync(), np.random.default_rng(5).normal(0, 0.05, 256_000).astype(np.float32)
    lips.update(replace(spoken(0.0), waveform=other))
    facts = file_facts(plain_facts(), lips, [0.2] * 320, 0.05, 0.0)
    assert facts.lag_confidence is not None
    assert facts.lag_reliable is False
    assert "the voice" not in " ".join(summarize_facts(facts))
    assert dict(tabulate_facts(facts))["Lips and voice"].startswith("not clear")


def test_the_floor_falls_with_the_length_but_not_to_zero():
    lips = LipSync()
    floors = []
    for _ in range(20):
        lips.update(spoken(0.0, seconds=8.0))
        floors.append(lips.min_confidence)
    assert floors == sorted(floors, reverse=True)
    assert floors[0] == pytest.approx(0.3 * (9 / 7.96) ** 0.5)
    assert floors[-1] == pytest.approx(0.1)


def test_without_lips_or_sound_there_is_no_lag():
    lips, piece = LipSync(), spoken(0.0)
    lips.update(replace(piece, faces={}))
    lips.update(TrackedClip.of_face(piece.face_clip(1)))  # whose lips were not measured
    lips.update(replace(piece, waveform=np.zeros_like(piece.waveform)))
    lips.update(spoken(0.0, seconds=1.0))
    facts = file_facts(plain_facts(), lips, [0.0] * 320, 0.05, 0.0)
    assert (facts.lag, facts.lag_confidence, facts.lag_reliable) == (None, None, None)
    assert dict(tabulate_facts(facts))["Lips and voice"] == "not measurable"


def test_the_sign_of_a_lag_is_said_in_words():
    assert lag_phrase(0.12) == "the voice comes 0.12 s after the lips"
    assert lag_phrase(-0.2) == "the voice comes 0.20 s before the lips"
    assert lag_phrase(0.0) == "the voice comes with the lips"


# -- predictions --


@pytest.fixture(scope="module")
def talking(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("talking") / "real.mp4"
    write_clip(make_clip(plan_corpus(clips=10, identities=6, seed=4, level="easy", methods=())[1]), path)
    return path


def test_observing_changes_no_other_part_of_a_piece(talking):
    (plain,) = iter_tracked(talking, 32)
    (watched,) = iter_tracked(talking, 32, observer=MediaObserver())
    assert plain.faces.keys() == watched.faces.keys()
    for number, face in plain.faces.items():
        seen: FaceCrops = watched.faces[number]
        assert (len(face.lip_motion), len(seen.lip_motion)) == (0, len(seen.times))
        assert seen.lip_motion[1:].any()
        for name in ("times", "frames", "boxes", "detected", "rolls", "mouth_motion", "views"):
            np.testing.assert_array_equal(getattr(face, name), getattr(seen, name))


def test_a_prediction_holds_the_facts_and_they_are_plain_json(talking):
    prediction = Detector.from_pretrained("avff-tiny").predict(talking)
    facts = prediction.facts
    assert facts is not None
    assert facts.lag is not None
    assert abs(facts.lag) <= 0.08
    found = json.loads(json.dumps(asdict(prediction)))["facts"]
    assert found["video_codec"] == "h264"
    assert found["lag"] == facts.lag
    assert all(isinstance(value, str) and value for _, value in tabulate_facts(facts))


def test_lines_table_and_page_show_the_facts(talking, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    page, table = tmp_path / "page.html", tmp_path / "table.csv"
    outputs = ["--report", str(page), "--csv", str(table)]
    assert cli.main(["predict", str(talking), "--checkpoint", "avff-tiny", *outputs]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  facts: "))
    assert "h264 144x144 at 25 fps, aac 16 kHz; written by" in line
    (row,) = csv.DictReader(table.open())
    facts = Detector.from_pretrained("avff-tiny").predict(talking).facts
    assert facts is not None
    assert row["lag"] == str(facts.lag)
    assert row["repeated_frames"] == str(facts.repeated_frames)
    assert row["writer"] == facts.writer
    rows = BeautifulSoup(page.read_text(), "html.parser").select("table.facts tr")
    shown = [(row.th.get_text(), row.td.get_text()) for row in rows]
    assert shown == tabulate_facts(facts)


def test_parquet_holds_every_fact(talking, tmp_path):
    pytest.importorskip("pyarrow")
    store.predict_to_parquet([talking], tmp_path, "avff-tiny", workers=1)
    (found,) = pd.read_parquet(tmp_path)["facts"]
    expected = Detector.from_pretrained("avff-tiny").predict(talking).facts
    assert expected is not None
    assert found.keys() == asdict(expected).keys()
    for name in ("lag", "lag_confidence", "lag_reliable", "writer", "frames", "missing_frames"):
        assert found[name] == getattr(expected, name)


def test_a_file_that_cannot_be_scored_has_no_facts(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    prediction = Detector.from_pretrained("avff-tiny").predict(tmp_path / "broken.mp4")
    assert prediction.error
    assert prediction.facts is None
