"""Whole files: several faces, parts without a face or sound, cuts, and where a file is fake."""

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

from avff_lib import cli, process_video, synth
from avff_lib.data.examples import load_examples
from avff_lib.data.manifest import Row, read_manifest, write_manifest
from avff_lib.data.shards import read_shards, write_shards
from avff_lib.demo import analyze_upload
from avff_lib.evaluation.evaluate import score_examples
from avff_lib.evaluation.robustness import UNTOUCHED, score_perturbed
from avff_lib.faces.detect import detect_faces
from avff_lib.faces.track import FaceTracker
from avff_lib.faces.tracked import iter_tracked
from avff_lib.inference import predictor
from avff_lib.inference.prediction import FacePrediction, FaceScore, FilePrediction, WindowPrediction
from avff_lib.inference.timeline import (
    aggregate_faces,
    combine_faces,
    find_fake_segments,
    find_gaps,
    runs,
    speaking_faces,
    window_cells,
)
from avff_lib.inference.windows import WINDOW_HOP, predict_windows, sliding_windows
from avff_lib.media.clip import Clip
from avff_lib.media.decode import read_clip
from avff_lib.media.encode import write_clip
from avff_lib.media.picture import ArrayPicture
from avff_lib.media.shots import detect_cuts
from avff_lib.models import AVFF, AVFFMAE, Detector
from avff_lib.models.calibration import Calibration
from avff_lib.nn.features import Features, index_features
from avff_lib.synth.recording import DURATION

AS_IT_IS = Calibration()
FAKE_PART = (1.0, 2.2)  # seconds; of the clip that is fake in part


@pytest.fixture(scope="module")
def clips() -> dict[str, Clip]:
    """A real recording, the same faked in whole and in part, and one of somebody else."""
    plans = synth.plan_corpus(clips=300, identities=30, seed=7)
    fake = next(p for p in plans if p.method == "other_lips_revoiced" and p.segment == (0.0, DURATION))
    real = synth.real_twin(fake)
    other = synth.real_twin(next(p for p in plans if p.source != fake.source))
    versions = {"real": real, "fake": fake, "part": replace(fake, segment=FAKE_PART), "other": other}
    return {name: synth.make_clip(plan) for name, plan in versions.items()}


@pytest.fixture(scope="module")
def predict(tmp_path_factory):
    """A clip -> the shipped detector's prediction for it as a file."""
    model, folder = Detector.from_pretrained("avff-tiny"), tmp_path_factory.mktemp("scored")

    def predict(clip: Clip) -> FilePrediction:
        write_clip(clip, folder / "clip.mp4")
        return model.predict(folder / "clip.mp4")

    return predict


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


def window(start: float, *scores: float | None, speaks: bool = True) -> WindowPrediction:
    faces = [FaceScore(n, s, s, 0.0, speaks, (0, 0, 1, 1)) for n, s in enumerate(scores, 1) if s is not None]
    best = max((face.score for face in faces if face.speaks), default=None)
    return WindowPrediction(start, start + 1, best, None if faces else "face", tuple(faces))


# -- aggregating scores --


def test_cells_share_out_the_time_of_windows_that_overlap():
    windows = [window(start, 0.5) for start in (0.0, 0.5, 1.0, 1.2)]
    np.testing.assert_allclose(window_cells(windows), [(0, 0.75), (0.75, 1.25), (1.25, 1.6), (1.6, 2.2)])
    assert window_cells(windows[:1]) == [(0.0, 1.0)]


def test_runs_are_stretches_of_true_values():
    assert runs([True, True, False, False, True]) == [(0, 2), (4, 5)]
    assert runs([]) == runs([False]) == []


def test_gaps_shorter_than_half_a_second_are_not_stated():
    there = [True] * 4 + [False] * 9 + [True] * 2 + [False] * 10
    (gap,) = find_gaps(there, 0.05, 2.0, "sound")
    assert (gap.start, gap.end, gap.obstacle) == (2.75, 3.25, "sound")


def test_a_fake_segment_is_a_run_of_windows_of_one_face():
    scores = [(0.1, 0.9), (0.8, 0.9), (0.9, None), (0.1, 0.1), (0.9, 0.1), (0.1, 0.1)]
    windows = [window(0.5 * k, *pair) for k, pair in enumerate(scores)]
    first, second = find_fake_segments(windows, AS_IT_IS)
    assert (first.face, first.start, first.end) == (2, 0.0, 1.25)
    assert (second.face, second.start, second.end) == (1, 0.75, 1.75)  # and not the single window at 2.0
    assert second.score == pytest.approx(0.85)
    alone = [window(0.0, 0.7)]  # has no neighbours
    assert find_fake_segments(alone, AS_IT_IS)[0].end == 1.0
    assert find_fake_segments(alone, Calibration(window_threshold=0.8)) == ()
    listening = [window(0.5 * k, 0.9, speaks=False) for k in range(4)]
    assert find_fake_segments(listening, AS_IT_IS) == ()


def face(number: int, windows: int, score: float | None) -> FacePrediction:
    return FacePrediction(number, 0.0, 1.0, windows, score)


def test_faces_that_speak_count_and_the_most_suspicious_comes_first():
    def counted(*faces):
        return [found.number for found in speaking_faces(faces)]

    assert counted(face(1, 9, 0.2), face(2, 9, 0.6), face(3, 0, None)) == [2, 1]
    # Two windows are too few beside nine, but if nobody has more they count.
    assert counted(face(1, 9, 0.2), face(2, 2, 0.6)) == [1]
    assert counted(face(1, 1, 0.2), face(2, 2, 0.6)) == [2]


def test_windows_of_a_face_are_those_in_which_it_speaks():
    windows = [window(0.0, 0.2, 0.9, speaks=False), window(0.5, 0.4)]
    assert aggregate_faces(windows, AS_IT_IS) == (
        FacePrediction(1, 0.0, 1.5, 1, 0.4),
        FacePrediction(2, 0.0, 1.0, 0, None),
    )


def test_one_face_alone_is_the_file():
    assert combine_faces([0.37]) == pytest.approx(0.37)


def test_four_real_faces_raise_no_more_false_alarms_than_one():
    """The odds of calibrated scores of real faces are on average 1, so those of a mean of them are, too."""
    rng = np.random.default_rng(0)
    # Two unit Gaussians 2 apart, calibrated: the log of the likelihood ratio at x is 2 x - 2.
    real = 1 / (1 + np.exp(-(2 * rng.normal(size=(20_000, 4)) - 2)))
    threshold = np.quantile(real[:, 0], 0.95)
    combined = np.array([combine_faces(scores) for scores in real])
    assert (real[:, 0] >= threshold).mean() == pytest.approx(0.05, abs=0.001)
    assert (real.max(axis=1) >= threshold).mean() > 0.17
    assert (combined >= threshold).mean() < 0.06


def test_one_fake_face_among_real_ones_is_not_averaged_away():
    assert combine_faces([0.999, 0.1, 0.1, 0.1]) > 0.99
    assert np.mean([0.999, 0.1, 0.1, 0.1]) < 0.5


def test_windows_and_files_are_calibrated_by_numbers_of_their_own():
    calibration = Calibration(2.0, -0.5, window_temperature=4.0, window_bias=0.3, window_threshold=0.6)
    windows = [
        WindowPrediction(k / 2, k / 2 + 1, None, None, (FaceScore(1, score, raw, 0.0, True, (0, 0, 1, 1)),))
        for k, raw in enumerate((0.9, 0.99, 0.2))
        for score in (float(calibration.apply_to_windows(raw)),)
    ]
    (found,), (part,) = aggregate_faces(windows, calibration), find_fake_segments(windows, calibration)
    assert found.score == pytest.approx(float(calibration.apply((0.9 + 0.99 + 0.2) / 3)))
    assert part.score == pytest.approx(calibration.apply_to_windows(np.array([0.9, 0.99])).mean())
    assert part.end == pytest.approx(1.25)


def test_segments_of_a_long_film_take_time_in_proportion_to_its_length():
    """Four hours; with work for each pair of windows this would take minutes."""
    rng = np.random.default_rng(0)
    windows = [window(k / 2, *rng.uniform(size=2)) for k in range(8 * 3600)]
    looked_at = sum(len(found.faces) for found in windows)
    segments = find_fake_segments(windows, AS_IT_IS)
    assert looked_at == 2 * len(windows)
    assert len(segments) > 5000


# -- faces of a file --


def test_a_cut_is_found_and_a_speaking_face_is_none(clips):
    assert detect_cuts(clips["real"]) == []
    assert detect_cuts(beside(clips["other"].frames, clips["real"])) == []
    assert detect_cuts(after(clips["real"], clips["other"])) == [80]
    between = {
        name: replace(clip, frames=np.pad(clip.frames, ((0, 0), (0, 0), (150, 150), (0, 0))))
        for name, clip in clips.items()
    }
    assert detect_cuts(between["real"]) == []
    assert detect_cuts(after(between["real"], between["other"])) == [80]  # bars at the sides hide no cut


def test_a_listener_is_scored_and_does_not_decide(clips, predict):
    prediction = predict(beside(still(clips["other"]), clips["real"]))
    alone = predict(clips["real"])
    assert len(prediction.faces) == 2
    for scored in (found for w in prediction.windows for found in w.faces):
        left, _, right, _ = scored.box
        assert scored.speaks == (left > 0.5)
        assert 0 <= left < right <= 1
    listener, speaker = sorted(prediction.faces, key=lambda face: face.windows)
    assert (listener.windows, listener.score) == (0, None)
    assert prediction.face == speaker.number
    assert prediction.score == pytest.approx(alone.score, abs=0.15)
    assert "fake" not in (prediction.label, alone.label)


def test_a_fake_speaker_is_found_beside_a_listener(clips, predict):
    prediction = predict(beside(still(clips["other"]), clips["fake"]))
    assert prediction.label == "fake"
    assert all(part.face == prediction.face for part in prediction.segments)
    assert {found.face for w in prediction.windows for found in w.faces if found.speaks} == {prediction.face}


# -- parts of a file --


def test_a_clip_that_is_fake_in_part_is_marked_there(clips, predict):
    prediction = predict(clips["part"])
    (part,) = prediction.segments
    # A window lasts one second, and a quarter of it is enough to make it fake.
    assert abs(part.start - FAKE_PART[0]) < 0.6
    assert abs(part.end - FAKE_PART[1]) < 0.6
    assert predict(clips["real"]).segments == ()
    whole = predict(clips["fake"]).segments
    assert (whole[0].start, whole[-1].end) == (0.0, pytest.approx(DURATION))


def test_parts_without_face_or_sound_are_stated(clips, predict):
    real = clips["real"]
    empty = replace(real, frames=np.full_like(real.frames, 90))
    mute = replace(real, waveform=np.zeros_like(real.waveform))
    prediction = predict(after(real, empty, mute, real))
    no_face, no_sound = prediction.gaps
    assert (no_face.obstacle, no_sound.obstacle) == ("face", "sound")
    for gap, start in ((no_face, 3.2), (no_sound, 6.4)):
        assert abs(gap.start - start) < 0.3
        assert abs(gap.end - start - 3.2) < 0.3
    assert {w.obstacle for w in prediction.windows} == {None, "face", "sound", "cut"}
    for w in prediction.windows:
        assert (w.score is None) == (w.obstacle is not None) == (w.faces == ())
        assert w.obstacle != "cut" or any(w.start < cut < w.end for cut in (3.2, 6.4))
    assert prediction.coverage == np.mean([w.obstacle is None for w in prediction.windows])
    assert len(prediction.faces) == 2  # who comes back after a cut is not recognised


@pytest.mark.parametrize("name", ["avff-tiny", "avff-people"])
def test_a_film_of_a_frame_a_second_is_not_scored(clips, tmp_path, name):
    clip = clips["real"]
    write_clip(replace(clip, frames=clip.frames[::25], times=clip.times[::25]), tmp_path / "slow.mp4")
    error = Detector.from_pretrained(name).predict(tmp_path / "slow.mp4").error
    assert "too few frames a second to follow lips" in error


def test_parts_with_few_frames_count_against_the_coverage(clips, predict):
    clip = clips["real"]
    second = clip.times >= clip.duration / 2
    kept = ~second | (np.arange(len(clip.times)) % 12 == 0)
    prediction = predict(replace(clip, frames=clip.frames[kept], times=clip.times[kept]))
    assert {w.obstacle for w in prediction.windows} == {None, "frames"}
    assert 0 < prediction.coverage < 1


def test_a_sound_unlike_speech_is_out_of_distribution(clips, predict):
    real = clips["real"]
    prediction = predict(real)
    assert prediction.ood_scores.keys() == {"audio", "visual", "joint"}
    assert max(prediction.ood_scores.values()) < 1
    hiss = np.random.default_rng(0).standard_normal(len(real.waveform)).astype(np.float32) / 10
    unusual = predict(replace(real, waveform=hiss))
    assert unusual.ood_scores["audio"] > 1 > unusual.ood_scores["visual"]
    assert unusual.label == "undetermined"
    assert "out_of_distribution" in unusual.reasons
    assert unusual.prediction is None
    assert 0 <= unusual.score <= 1


def test_a_prediction_is_plain_json(clips, predict):
    prediction = predict(beside(clips["other"].frames, clips["real"]))
    found = json.loads(json.dumps(asdict(prediction)))
    assert found["windows"][0]["faces"][0].keys() == {"face", "score", "raw", "agreement", "speaks", "box"}
    assert found["segments"] == [asdict(part) for part in prediction.segments]


def test_lips_and_voice_agree_more_in_a_real_clip(clips, predict):
    real, fake = (
        np.mean([w.faces[0].agreement for w in predict(clips[name]).windows]) for name in ("real", "fake")
    )
    assert -1 <= fake < real <= 1


@pytest.mark.parametrize("family", [AVFF, AVFFMAE])
def test_both_families_measure_how_far_lips_and_voice_agree(family, clips, tmp_path):
    write_clip(clips["real"], tmp_path / "clip.mp4")
    seconds = []
    model = family.tiny().eval()
    analysis = predictor.analyze_file(tmp_path / "clip.mp4", model, progress=seconds.append)
    agreements = [w.faces[0].agreement for w in analysis.prediction.windows]
    assert all(-1 <= value <= 1 for value in agreements)
    assert len(analysis.evidence.mismatched_agreement) > 0
    assert seconds == [pytest.approx(DURATION)]


# -- memory --

SCRIPT = """
import resource, sys
import torch
from avff_lib.models import AVFF
from avff_lib import predict
torch.set_num_threads(1)
prediction = predict(sys.argv[1], AVFF.tiny().eval())
assert prediction.error is None
print(len(prediction.windows), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
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
            [sys.executable, "-c", SCRIPT, str(film)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        windows, megabytes = answer.stdout.split()
        assert int(windows) > 6 * turns
        measured.append(float(megabytes))
    assert measured[1] - measured[0] < 15


def test_who_is_elsewhere_after_two_cuts_is_somebody_else(clips):
    real = clips["real"]
    empty = replace(real, frames=np.full_like(real.frames, 90)).window(0.0, 0.6)
    film = after(real, replace(empty, start=0.0), clips["other"])
    tracker = FaceTracker()
    frames = [
        ready
        for picture, time in zip(film.frames, film.times, strict=True)
        for ready in tracker.update(ArrayPicture(picture), time)
    ]
    numbers = {number for ready in [*frames, *tracker.finish()] for number in ready.faces}
    assert numbers == {1, 2}


def test_only_reference_windows_that_may_be_shown_are_kept(clips, tmp_path):
    film = after(*(clips[name] for name in ("real", "other", "fake", "other")))
    write_clip(film, tmp_path / "film.mp4")
    model = Detector.from_pretrained("avff-tiny")
    evidence = predictor.analyze_file(tmp_path / "film.mp4", model).evidence
    assert len(evidence.thumbnails) == 4
    assert evidence.most_suspicious.face.face in evidence.least_suspicious
    assert len(evidence.least_suspicious) <= 3


@pytest.mark.parametrize("size", [(2, 1280), (1280, 2)])
def test_a_picture_of_an_extreme_shape_holds_no_face(size):
    assert len(detect_faces(np.zeros((*size, 3), np.uint8))) == 0


def test_a_non_finite_output_is_no_prediction(clips, tmp_path):
    write_clip(clips["real"], tmp_path / "clip.mp4")
    model = Detector.from_pretrained("avff-tiny")
    with torch.no_grad():
        next(model.classifier.parameters()).fill_(torch.nan)
    prediction = model.predict(tmp_path / "clip.mp4")
    assert prediction.label is None
    assert "clip.mp4 cannot be scored: non-finite model output" in prediction.error


# -- one score, whichever way --


@pytest.fixture(scope="module")
def joined(clips, tmp_path_factory) -> Path:
    """A dataset of three films: half of it silent, half of it black, two people and a cut."""
    folder = tmp_path_factory.mktemp("joined")
    wide = {  # all films have one shape, and two people need twice the width
        name: replace(clip, frames=np.pad(clip.frames, ((0, 0), (0, 0), (0, clip.frames.shape[2]), (0, 0))))
        for name, clip in clips.items()
    }
    real, other, fake = wide["real"], clips["other"], wide["fake"]
    films = {
        "silent": after(real, replace(fake, waveform=np.zeros_like(fake.waveform))),
        "black": after(fake, replace(real, frames=np.zeros_like(real.frames))),
        "people": after(beside(other.frames, clips["real"]), fake),
    }
    for name, film in films.items():
        write_clip(film, folder / f"{name}.mp4")
    rows = [Row(folder / f"{name}.mp4", int(name != "silent"), "FVFA", "x", name) for name in films]
    write_manifest(rows, folder / "manifest.csv")
    return folder


@pytest.mark.parametrize("name", ["avff-tiny", "avffmae-tiny"])
def test_every_way_to_score_a_file_gives_one_score(name, joined, tmp_path, capsys):
    model = Detector.from_pretrained(name)
    rows = read_manifest(joined / "manifest.csv")
    expected = [model.predict(row.path) for row in rows]
    scores = [file.score for file in expected]
    assert len(set(scores)) == 3
    assert any(file.coverage < 1 for file in expected)
    close = pytest.approx(scores, abs=1e-5)

    outputs = [process_video(row.path, name) for row in rows]
    assert [output["prediction"] for output in outputs] == close
    assert [output["label"] for output in outputs] == [file.label for file in expected]
    assert cli.main(["predict", str(joined), "--checkpoint", name, "--json"]) == 0
    printed = {Path(file["path"]): file["score"] for file in json.loads(capsys.readouterr().out)}
    assert [printed[row.path] for row in rows] == close
    assert score_examples(model, rows) == close
    assert score_examples(model, load_examples(rows, model.spec, workers=1)[0]) == close
    assert write_shards(rows, tmp_path / "shards", root=joined, workers=1) == []
    assert score_examples(model, read_shards(tmp_path / "shards", model.spec)) == close
    uploads = [analyze_upload(row.path, model, lambda *_: None).prediction.score for row in rows]
    assert uploads == close
    raw, _ = score_perturbed(model, rows, ["saturation"], tmp_path / "robustness")
    found = [float(model.config.calibration.apply(raw[str(row.path)][UNTOUCHED][0])) for row in rows]
    one_face = [len([f for f in file.faces if f.score is not None]) == 1 for file in expected]
    assert [s for s, one in zip(found, one_face, strict=True) if one] == pytest.approx(
        [s for s, one in zip(scores, one_face, strict=True) if one], abs=1e-5
    )


def same_whatever_the_pieces(path: Path) -> None:
    model = Detector.from_pretrained("avff-tiny")
    expected = model.predict(path)
    for seconds in (1.3, 3.0, 20.0):
        pieces = iter_tracked(path, model.spec.image_size, seconds=seconds)
        found = predictor.score_pieces(path, pieces, model).prediction
        assert [(w.start, w.obstacle) for w in found.windows] == [
            (w.start, w.obstacle) for w in expected.windows
        ]
        assert found.score == pytest.approx(expected.score, abs=1e-4)
        assert found.gaps == expected.gaps


def test_a_score_does_not_depend_on_how_a_file_is_cut_into_pieces(joined):
    same_whatever_the_pieces(joined / "people.mp4")


@pytest.mark.parametrize("length", [8.2, 8.5, 8.72, 9.6])
def test_a_short_rest_after_the_last_piece_changes_nothing(length, clips, tmp_path):
    film = after(*[clips["real"]] * 3).window(0.0, length)
    write_clip(film, tmp_path / "film.mp4")
    same_whatever_the_pieces(tmp_path / "film.mp4")


def test_nor_does_a_picture_that_freezes_over_the_end_of_a_piece(clips, tmp_path):
    film = after(*[clips["real"]] * 4)
    shown = (film.times < 7.6) | (film.times >= 11.0)
    write_clip(replace(film, frames=film.frames[shown], times=film.times[shown]), tmp_path / "film.mp4")
    assert np.diff(read_clip(tmp_path / "film.mp4").times).max() > 3
    same_whatever_the_pieces(tmp_path / "film.mp4")


# -- nothing is said where nothing is known --


def test_a_label_needs_enough_of_a_file(clips, predict):
    real = clips["real"]
    mute = replace(real, waveform=np.zeros_like(real.waveform))
    prediction = predict(after(real, mute, mute))
    assert prediction.coverage < 0.5
    assert prediction.label == "undetermined"
    assert "low_coverage" in prediction.reasons
    short = predict(replace(real.window(0.0, 1.2), start=0.0))
    assert "low_coverage" in short.reasons


def test_a_detector_that_was_never_calibrated_says_nothing(clips, tmp_path):
    write_clip(clips["real"], tmp_path / "clip.mp4")
    prediction = AVFF.tiny().eval().predict(tmp_path / "clip.mp4")
    assert (prediction.label, prediction.prediction) == ("undetermined", None)
    assert prediction.reasons == ("uncalibrated",)
    assert 0 <= prediction.score <= 1


def test_a_score_in_the_unsure_band_gives_no_label(clips, tmp_path):
    write_clip(clips["real"], tmp_path / "clip.mp4")
    model = Detector.from_pretrained("avff-tiny")
    score = model.predict(tmp_path / "clip.mp4").score

    def label(low: float, high: float, threshold: float) -> str | None:
        calibration = replace(model.config.calibration, unsure=(low, high))
        model.config = replace(model.config, calibration=calibration, threshold=threshold)
        found = model.predict(tmp_path / "clip.mp4")
        assert (found.prediction is None) == ("unsure" in found.reasons)
        assert found.score == score
        return found.label

    below, above = score / 2, (1 + score) / 2
    assert label(below, above, above) == "undetermined"
    assert label(above, 1.0, above) == "real"
    assert label(0.0, below, below) == "fake"


# -- any device --


def test_inputs_move_to_the_model_and_outputs_come_back(clips, tmp_path, monkeypatch):
    """The meta device computes shapes alone, and refuses to mix with the CPU as a GPU does."""
    model = AVFF.tiny().eval().to("meta")
    seen = []
    forward = model.forward_features

    def recorded(inputs):
        seen.append({inputs.frames.device.type, inputs.audio.device.type})
        return forward(inputs)

    monkeypatch.setattr(model, "forward_features", recorded)
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: torch.zeros(tensor.shape))
    windows = sliding_windows(clips["real"], model.spec.duration, WINDOW_HOP)
    # Features come back by `to`, which cannot copy from the meta device.
    monkeypatch.setattr(
        Features, "to", lambda self, device: self if str(device) == "meta" else index_features(self, [0])
    )
    outputs = predict_windows(model, windows, batch_size=3)
    assert seen == [{"meta"}] * -(-len(windows) // 3)
    assert outputs.probability.device.type == outputs.fused.device.type == "cpu"
