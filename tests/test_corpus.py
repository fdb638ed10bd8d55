"""The corpus: balance, splits without leaks, no shortcut in the path, and the files themselves."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import av
import numpy as np
import pytest

from avff_lib.data.manifest import read_manifest
from avff_lib.errors import AVFFError
from avff_lib.synth import FAKES, METHODS, make_clip, perform, plan_corpus, real_twin, write_corpus
from avff_lib.synth.forgeries import LEVELS, natural_lag, segment_weight
from avff_lib.synth.recording import DURATION, FRAME_TIMES, LOUDNESS_RANGE_DB, _lexicons, record, rng_for


def one_plan(method: str, *, partial: bool = False, level: str = "medium"):
    plans = plan_corpus(30, 6, seed=5, level=level, methods=[method])
    plan = next(plan for plan in plans if plan.method == method)
    return replace(plan, segment=(1.0, 2.2)) if partial else replace(plan, segment=(0.0, DURATION))


def decoded(path) -> tuple[np.ndarray, np.ndarray]:
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    with av.open(str(path)) as file:
        sound = [frame.to_ndarray() for frame in file.decode(audio=0)]
    return np.stack(frames), np.concatenate(sound, axis=1)


# --- the plan


def test_plan_is_balanced_and_repeatable():
    plans = plan_corpus(500, 50, seed=1)
    assert plans == plan_corpus(500, 50, seed=1, methods=reversed(FAKES))
    assert plans != plan_corpus(500, 50, seed=2)
    assert len({plan.seed for plan in plans}) == len({plan.path for plan in plans}) == 500
    count = Counter(plan.method for plan in plans)
    assert 0.38 < count["real"] / 500 < 0.42
    fakes = [count[name] for name in FAKES]
    assert max(fakes) - min(fakes) <= 3
    sources = Counter(plan.source for plan in plans)
    assert set(sources.values()) == {10}
    for category in ("RVFA", "FVRA", "FVFA"):
        assert sum(METHODS[name].category == category for name in FAKES) >= 2


def test_splits_share_no_person_and_no_word():
    plans = plan_corpus(600, 30, seed=3)
    people = {split: set() for split in ("train", "val", "test")}
    for plan in plans:
        people[plan.split] |= {plan.source} | ({plan.donor} - {None})
        assert plan.donor != plan.source
        assert (plan.donor is not None) == METHODS[plan.method].needs_donor
    assert [len(group) for group in people.values()] == [21, 3, 6]
    assert len(set.union(*people.values())) == 30
    words = {split: set(lexicon) for split, lexicon in _lexicons(3).items()}
    assert not words["train"] & words["val"]
    assert not words["train"] & words["test"]
    assert not words["val"] & words["test"]


def test_forged_segments_lie_in_the_clip():
    plans = plan_corpus(800, 12, seed=4)
    partial = 0
    for plan in plans:
        if plan.method == "real":
            assert plan.segment is None
            continue
        start, end = plan.segment
        assert 0 <= start < end <= DURATION
        assert end - start >= 1.0
        assert start * 25 == pytest.approx(round(start * 25))
        partial += (start, end) != (0.0, DURATION)
    assert 0.2 < partial / sum(plan.method != "real" for plan in plans) < 0.45


def test_methods_can_be_held_out():
    assert {plan.method for plan in plan_corpus(60, 6, methods=["dubbed"])} == {"real", "dubbed"}
    assert {plan.method for plan in plan_corpus(20, 6, methods=[])} == {"real"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"clips": 0}, "0 clips"),
        ({"identities": 5}, "5 identities"),
        ({"seed": -1}, "seed is -1"),
        ({"level": "insane"}, "choose one of easy, medium, hard"),
        ({"methods": ["deepfake"]}, "'deepfake' does not exist"),
    ],
)
def test_wrong_settings_are_one_sentence(setting, message):
    with pytest.raises(AVFFError, match=message):
        plan_corpus(**({"clips": 10, "identities": 6} | setting))


# --- forging


def test_segment_weight_fades_inside_and_not_at_the_ends_of_the_clip():
    times = np.array([0.0, 0.99, 1.0, 1.03, 1.5, 2.2, 3.19])
    np.testing.assert_allclose(segment_weight(times, (1.0, 2.2), 3.2), [0, 0, 0, 0.5, 1, 0, 0], atol=1e-9)
    np.testing.assert_array_equal(segment_weight(times, (0.0, 3.2), 3.2), np.ones(7))


@pytest.mark.parametrize("level", LEVELS)
def test_a_shift_is_larger_than_any_natural_lag(level):
    lags = [natural_lag(np.random.default_rng(seed), FRAME_TIMES, LEVELS[level].jitter) for seed in range(50)]
    assert np.abs(lags).max() <= LEVELS[level].jitter + 1e-9
    assert LEVELS[level].shift[0] > 2 * LEVELS[level].jitter
    if LEVELS[level].jitter:
        assert np.abs(lags).max() > 0.8 * LEVELS[level].jitter


def synchrony(method: str, seeds=range(8)) -> float:
    """Mean correlation of mouth opening and loudness over clips that are forged throughout."""
    values = []
    for seed in seeds:
        plan = replace(one_plan(method), seed=seed)
        performance = perform(plan)
        waveform = record(plan, performance)
        loudness = np.log(np.sqrt(np.mean(waveform.reshape(80, -1) ** 2, axis=1)) + 1e-3)
        values.append(np.corrcoef(performance.mouth[:, 0], loudness)[0, 1])
    return float(np.mean(values))


def test_families_are_what_they_are_called():
    for method in ("revoiced", "dubbed"):
        assert synchrony(method) > 0.4, method
    for method in ("shifted_voice", "foreign_voice", "other_lips", "other_lips_revoiced"):
        assert synchrony(method) < 0.25, method


@pytest.mark.parametrize("method", FAKES)
def test_a_twin_differs_only_where_it_is_forged(method):
    plan = one_plan(method, partial=METHODS[method].partial)
    forged, real = make_clip(plan), make_clip(real_twin(plan))
    fake_sound = METHODS[method].category in ("RVFA", "FVFA")
    fake_picture = METHODS[method].category in ("FVRA", "FVFA")
    moved = np.abs(forged.frames.astype(int) - real.frames).max(axis=(1, 2, 3))
    inside = segment_weight(FRAME_TIMES, plan.segment, DURATION) > 0
    assert not moved[~inside].any()
    assert (moved[inside] > 0).mean() > 0.8 if fake_picture else not moved.any()

    assert forged.waveform.shape == real.waveform.shape == (51_200,)
    levels = [20 * np.log10(np.sqrt(np.mean(clip.waveform**2))) for clip in (forged, real)]
    assert levels[0] == pytest.approx(levels[1], abs=0.1)
    assert LOUDNESS_RANGE_DB[0] < levels[1] < LOUDNESS_RANGE_DB[1]
    middle = slice(round(1.2 * 16_000), round(2.0 * 16_000))
    match = np.corrcoef(forged.waveform[middle], real.waveform[middle])[0, 1]
    assert match < 0.9 if fake_sound else match > 0.999


def test_streams_of_randomness_are_apart():
    assert rng_for(1, "room").random() == rng_for(1, "room").random()
    assert len({rng_for(*key).random() for key in [(1, "room"), (2, "room"), (1, "voice"), (1,)]}) == 4


# --- the files


def test_corpus_is_the_same_with_any_number_of_workers_and_can_be_continued(tmp_path):
    settings = {"clips": 6, "identities": 6, "seed": 9}
    first = read_manifest(write_corpus(tmp_path / "first", **settings, workers=1))
    assert {row.label for row in first} == {0, 1}
    assert all(bool(row.fake_segments) == bool(row.label) for row in first)

    # As if the second one had been interrupted: one clip is there, the others are made by two workers.
    kept = tmp_path / "second" / first[0].path.relative_to(tmp_path / "first")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(first[0].path.read_bytes())
    age = kept.stat().st_mtime_ns
    shutil.copy(tmp_path / "first" / "corpus.json", tmp_path / "second")
    second = read_manifest(write_corpus(tmp_path / "second", **settings, workers=2))
    assert kept.stat().st_mtime_ns == age
    assert [replace(row, path=None) for row in first] == [replace(row, path=None) for row in second]
    for left, right in zip(first, second, strict=True):
        frames, sound = decoded(left.path)
        assert frames.shape == (80, 144, 144, 3)
        assert sound.shape[1] >= 51_200
        np.testing.assert_array_equal(frames, decoded(right.path)[0])
        np.testing.assert_array_equal(sound, decoded(right.path)[1])

    with pytest.raises(AVFFError, match="another setting of seed"):
        write_corpus(tmp_path / "second", **(settings | {"seed": 10}))


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(AVFFError, match="not empty"):
        write_corpus(tmp_path, clips=2, identities=6)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "thesis.txt").unlink()
    (tmp_path / "corpus.json").write_text(json.dumps([1]))
    with pytest.raises(AVFFError, match="damaged"):
        write_corpus(tmp_path, clips=2, identities=6)
