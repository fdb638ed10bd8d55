"""Whole files: several faces, parts without a face or a sound, cuts, and where a file is forged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from avff_lib import predict, synth
from avff_lib.clip import Clip
from avff_lib.media.cast import Cast, find_cuts
from avff_lib.media.encode import write_clip
from avff_lib.media.faces import detect_faces
from avff_lib.models import AVFF, AVFFMAE
from avff_lib.synth.recording import DURATION
from avff_lib.timeline import cells, decisive, faces_of, forged_segments, gaps_in, runs
from avff_lib.verdict import Calibration, Face, FaceScore, Report, Window

AS_IT_IS = Calibration()
FORGED = (1.0, 2.2)  # seconds; the part of the partly forged clip


@pytest.fixture(scope="module")
def clips() -> dict[str, Clip]:
    """A recording, the same forged in whole and in part, and one of somebody else."""
    plans = synth.plan_corpus(clips=300, identities=30, seed=7)
    fake = next(p for p in plans if p.method == "other_lips_revoiced" and p.segment == (0.0, DURATION))
    real = synth.genuine_twin(fake)
    other = synth.genuine_twin(next(p for p in plans if p.source != fake.source))
    versions = {"real": real, "fake": fake, "part": replace(fake, segment=FORGED), "other": other}
    return {name: synth.make_clip(plan) for name, plan in versions.items()}


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A clip -> what the shipped detector says of it as a file."""
    model, folder = predict.load_detector(), tmp_path_factory.mktemp("judged")

    def judge(clip: Clip) -> Report:
        write_clip(clip, folder / "clip.mp4")
        return predict.predict_file(folder / "clip.mp4", model)

    return judge


def beside(left: np.ndarray, right: Clip) -> Clip:
    """Two people in one picture, with the sound of the one on the right."""
    return replace(right, frames=np.concatenate([left, right.frames], axis=2))


def after(*clips: Clip) -> Clip:
    starts = np.cumsum([0.0, *(clip.duration for clip in clips)])
    return Clip(
        np.concatenate([clip.frames for clip in clips]),
        np.concatenate([clip.times + start for clip, start in zip(clips, starts[:-1], strict=True)]),
        np.concatenate([clip.waveform for clip in clips]),
        clips[0].sample_rate,
        0.0,
        float(starts[-1]),
    )


def still(clip: Clip) -> np.ndarray:
    """Somebody who listens: nothing moves but the grain of the film."""
    grain = np.random.default_rng(0).integers(-2, 3, clip.frames.shape)
    return np.clip(clip.frames[:1].astype(int) + grain, 0, 255).astype(np.uint8)


def window(start: float, *scores: float | None, speaks: bool = True) -> Window:
    faces = [FaceScore(n, s, s, 0.0, speaks, (0, 0, 1, 1)) for n, s in enumerate(scores, 1) if s is not None]
    best = max((face.score for face in faces if face.speaks), default=None)
    return Window(start, start + 1, best, None if faces else "face", tuple(faces))


# -- what is made of the scores --


def test_cells_share_out_the_time_of_windows_that_overlap():
    windows = [window(start, 0.5) for start in (0.0, 0.5, 1.0, 1.2)]
    np.testing.assert_allclose(cells(windows), [(0, 0.75), (0.75, 1.25), (1.25, 1.6), (1.6, 2.2)])
    assert cells(windows[:1]) == [(0.0, 1.0)]


def test_runs_are_stretches_of_true_values():
    assert runs([True, True, False, False, True]) == [(0, 2), (4, 5)]
    assert runs([]) == runs([False]) == []


def test_gaps_shorter_than_half_a_second_are_not_stated():
    there = [True] * 4 + [False] * 9 + [True] * 2 + [False] * 10
    (gap,) = gaps_in(there, 0.05, 2.0, "sound")
    assert (gap.start, gap.end, gap.missing) == (2.75, 3.25, "sound")


def test_a_forged_segment_is_a_run_of_windows_of_one_face():
    scores = [(0.1, 0.9), (0.8, 0.9), (0.9, None), (0.1, 0.1), (0.9, 0.1), (0.1, 0.1)]
    windows = [window(0.5 * k, *pair) for k, pair in enumerate(scores)]
    first, second = forged_segments(windows, 0.5, AS_IT_IS)
    assert (first.face, first.start, first.end) == (2, 0.0, 1.25)
    assert (second.face, second.start, second.end) == (1, 0.75, 1.75)  # and not the single window at 2.0
    assert second.score == pytest.approx(0.85)
    alone = [window(0.0, 0.7)]  # has no neighbours
    assert forged_segments(alone, 0.5, AS_IT_IS)[0].end == 1.0
    listening = [window(0.5 * k, 0.9, speaks=False) for k in range(4)]
    assert forged_segments(listening, 0.5, AS_IT_IS) == ()


def test_the_most_suspicious_face_that_speaks_decides():
    def face(number, windows, score):
        return Face(number, 0.0, 1.0, windows, score)

    assert decisive([face(1, 9, 0.2), face(2, 9, 0.6), face(3, 0, None)]).number == 2
    # Two windows are too few to outweigh nine, but if nobody has more they count.
    assert decisive([face(1, 9, 0.2), face(2, 2, 0.6)]).number == 1
    assert decisive([face(1, 1, 0.2), face(2, 2, 0.6)]).number == 2
    windows = [window(0.0, 0.2, 0.9, speaks=False), window(0.5, 0.4)]
    assert faces_of(windows, AS_IT_IS) == (Face(1, 0.0, 1.5, 1, 0.4), Face(2, 0.0, 1.0, 0, None))


def test_what_rests_on_several_windows_is_calibrated_after_their_mean():
    calibration = Calibration(temperature=2.0, bias=-0.5)
    windows = [
        Window(k / 2, k / 2 + 1, None, None, (FaceScore(1, score, raw, 0.0, True, (0, 0, 1, 1)),))
        for k, raw in enumerate((0.9, 0.99, 0.2))
        for score in (float(calibration.apply(raw)),)
    ]
    (face,), (part,) = faces_of(windows, calibration), forged_segments(windows, 0.6, calibration)
    assert face.score == pytest.approx(float(calibration.apply((0.9 + 0.99 + 0.2) / 3)))
    assert part.score == pytest.approx(float(calibration.apply((0.9 + 0.99) / 2)))


# -- faces of a file --


def test_a_cut_is_found_and_a_speaking_face_is_none(clips):
    assert find_cuts(clips["real"]) == []
    assert find_cuts(beside(clips["other"].frames, clips["real"])) == []
    assert find_cuts(after(clips["real"], clips["other"])) == [80]
    between = {
        name: replace(clip, frames=np.pad(clip.frames, ((0, 0), (0, 0), (150, 150), (0, 0))))
        for name, clip in clips.items()
    }
    assert find_cuts(between["real"]) == []
    assert find_cuts(after(between["real"], between["other"])) == [80]  # bars at the sides hide no cut


def test_a_face_keeps_its_number_from_chunk_to_chunk_and_not_over_a_cut(clips):
    film = after(beside(clips["other"].frames, clips["real"]), beside(clips["real"].frames, clips["other"]))
    cast, left = Cast(), []
    for start in (0.0, 0.7, 2.4):
        chunk = film.window(start, 4.0)
        tracks = cast.follow(chunk, find_cuts(chunk))
        left.append([n for n, track in tracks.items() if track.boxes[0, 0] < 120])
        assert all(len(track.found) == len(chunk.frames) for track in tracks.values())
    numbers = {number for found in left for number in found}
    assert len(numbers) == 2  # one before the cut at 3.2 s and one after, whatever chunk they are in
    assert sorted(left[2]) == sorted(numbers)  # the last chunk holds both shots


def test_a_listener_is_scored_and_does_not_decide(clips, judge):
    report = judge(beside(still(clips["other"]), clips["real"]))
    alone = judge(clips["real"])
    assert len(report.faces) == 2
    for scored in (found for w in report.windows for found in w.faces):
        left, _, right, _ = scored.box
        assert scored.speaks == (left > 0.5)
        assert 0 <= left < right <= 1
    listener, speaker = sorted(report.faces, key=lambda face: face.windows)
    assert (listener.windows, listener.score) == (0, None)
    assert report.face == speaker.number
    assert report.prediction == pytest.approx(alone.prediction, abs=0.15)
    assert report.label == alone.label == "real"


def test_a_forged_speaker_is_found_beside_a_listener(clips, judge):
    report = judge(beside(still(clips["other"]), clips["fake"]))
    assert report.label == "fake"
    assert all(part.face == report.face for part in report.segments)
    assert {found.face for w in report.windows for found in w.faces if found.speaks} == {report.face}


# -- parts of a file --


def test_a_partly_forged_clip_says_where(clips, judge):
    report = judge(clips["part"])
    (part,) = report.segments
    # A window lasts one second, and a quarter of it forged is enough to call it so.
    assert abs(part.start - FORGED[0]) < 0.6
    assert abs(part.end - FORGED[1]) < 0.6
    assert judge(clips["real"]).segments == ()
    whole = judge(clips["fake"]).segments
    assert (whole[0].start, whole[-1].end) == (0.0, pytest.approx(DURATION))


def test_parts_without_face_or_sound_are_stated(clips, judge):
    real = clips["real"]
    empty = replace(real, frames=np.full_like(real.frames, 90))
    mute = replace(real, waveform=np.zeros_like(real.waveform))
    report = judge(after(real, empty, mute, real))
    no_face, no_sound = report.gaps
    assert (no_face.missing, no_sound.missing) == ("face", "sound")
    for gap, start in ((no_face, 3.2), (no_sound, 6.4)):
        assert abs(gap.start - start) < 0.3
        assert abs(gap.end - start - 3.2) < 0.3
    assert {w.missing for w in report.windows} == {None, "face", "sound", "cut"}
    for w in report.windows:
        assert (w.score is None) == (w.missing is not None) == (w.faces == ())
        assert w.missing != "cut" or any(w.start < cut < w.end for cut in (3.2, 6.4))
    assert report.judged == np.mean([w.missing is None for w in report.windows])
    assert len(report.faces) == 2  # who comes back after a cut is not recognised


def test_a_sound_of_another_world_is_named_as_such(clips, judge):
    real = clips["real"]
    report = judge(real)
    assert report.strangeness.keys() == {"sound", "picture"}
    assert max(report.strangeness.values()) < 1
    hiss = np.random.default_rng(0).standard_normal(len(real.waveform)).astype(np.float32) / 10
    strange = judge(replace(real, waveform=hiss))
    assert strange.strangeness["sound"] > 1 > strange.strangeness["picture"]
    assert strange.verdict.endswith("out of its domain")
    times = f"the sound lies {strange.strangeness['sound']:.2f} times as far"
    assert times in strange.warnings[0]
    assert not [said for said in report.warnings if "domain" in said]


def test_a_report_is_plain_json(clips, judge):
    report = judge(beside(clips["other"].frames, clips["real"]))
    found = json.loads(json.dumps(asdict(report)))
    assert found["windows"][0]["faces"][0].keys() == {"face", "score", "raw", "agreement", "speaks", "box"}
    assert found["segments"] == [asdict(part) for part in report.segments]


def test_lips_and_voice_agree_more_in_a_genuine_clip(clips, judge):
    real, fake = (
        np.mean([w.faces[0].agreement for w in judge(clips[name]).windows]) for name in ("real", "fake")
    )
    assert -1 <= fake < real <= 1


@pytest.mark.parametrize("family", [AVFF, AVFFMAE])
def test_both_families_say_how_far_lips_and_voice_agree(family, clips, tmp_path):
    write_clip(clips["real"], tmp_path / "clip.mp4")
    seconds = []
    model = family.tiny().eval()
    examined = predict.examine_file(tmp_path / "clip.mp4", model, progress=seconds.append)
    agreements = [w.faces[0].agreement for w in examined.report.windows]
    assert all(-1 <= value <= 1 for value in agreements)
    assert len(examined.exhibits.mismatched) > 0
    assert seconds == [pytest.approx(DURATION)]


# -- memory --

JUDGE = """
import resource, sys
import torch
from avff_lib.models import AVFF
from avff_lib.predict import examine_file
torch.set_num_threads(1)
report = examine_file(sys.argv[1], AVFF.tiny().eval()).report
assert report.error is None
print(len(report.windows), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def repeated(source: Path, target: Path, times: int) -> Path:
    """A film that shows another one so many times, by copying its packets."""
    with av.open(str(target), "w", format="matroska") as new:
        for turn in range(times):
            with av.open(str(source)) as old:
                if turn == 0:
                    streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
                for packet in old.demux():
                    if packet.dts is not None:
                        later = round(turn * DURATION / packet.time_base)
                        packet.pts, packet.dts = packet.pts + later, packet.dts + later
                        packet.stream = streams[packet.stream.index]
                        new.mux(packet)
    return target


def test_memory_does_not_grow_with_the_length_of_a_file(clips, tmp_path):
    real = clips["real"]
    small = replace(real, frames=real.frames[::2, ::2, ::2], times=real.times[::2])
    write_clip(small, tmp_path / "unit.mp4")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    measured = []
    for turns in (4, 16):  # 13 and 51 seconds
        film = repeated(tmp_path / "unit.mp4", tmp_path / f"{turns}.mkv", turns)
        answer = subprocess.run(
            [sys.executable, "-c", JUDGE, str(film)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        windows, megabytes = answer.stdout.split()
        assert int(windows) > 6 * turns
        measured.append(float(megabytes))
    assert measured[1] - measured[0] < 15


def test_who_is_elsewhere_after_two_cuts_is_somebody_else(clips, monkeypatch):
    """The chunks overlap, and in the second the face of the first is gone."""
    real = clips["real"]
    empty = replace(real, frames=np.full_like(real.frames, 90)).window(0.0, 0.6)
    film = after(real, replace(empty, start=0.0), clips["other"])
    cast = Cast()
    numbers = []
    for start in (0.0, 2.9):
        chunk = film.window(start, 4.0)
        numbers.append(set(cast.follow(chunk, find_cuts(chunk))))
    assert len(numbers[0] | numbers[1]) == 2


def test_only_calm_windows_that_may_be_shown_are_kept(clips, tmp_path):
    film = after(*(clips[name] for name in ("real", "other", "fake", "other")))
    write_clip(film, tmp_path / "film.mp4")
    exhibits = predict.examine_file(tmp_path / "film.mp4", predict.load_detector()).exhibits
    assert len(exhibits.portraits) == 4
    assert exhibits.suspect.said.face in exhibits.calm
    assert len(exhibits.calm) <= 3


@pytest.mark.parametrize("size", [(2, 1280), (1280, 2)])
def test_a_picture_of_an_extreme_shape_holds_no_face(size):
    assert len(detect_faces(np.zeros((*size, 3), np.uint8))) == 0


def test_an_answer_that_is_no_number_is_no_verdict(clips, tmp_path):
    write_clip(clips["real"], tmp_path / "clip.mp4")
    model = predict.load_detector()
    with torch.no_grad():
        next(model.classifier.parameters()).fill_(torch.nan)
    report = predict.predict_file(tmp_path / "clip.mp4", model)
    assert report.label is None
    assert "clip.mp4 cannot be judged: the model's answer is no number" in report.error
