"""Windows match their labels: synchronous, balanced, reproducible, and never of an unreadable file."""

import logging
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avff_lib.data import dataset
from avff_lib.data.dataset import MIN_PSEUDO_FAKE_SHIFT, AVDataset, pseudo_fake, random_window
from avff_lib.data.examples import Example
from avff_lib.data.labels import possible_labels, window_label
from avff_lib.data.loader import BatchReader, make_loader
from avff_lib.data.manifest import Row
from avff_lib.data.sampler import WindowSampler
from avff_lib.data.shards import StoredExample, _PartWriter, _stored
from avff_lib.data.transforms import LIGHT, STRONG, Augment, change_speed
from avff_lib.errors import AVFFError
from avff_lib.inference.windows import window_starts
from avff_lib.media.clip import Clip
from avff_lib.preprocess.spec import InputSpec

RATE = 16_000
SPEC = InputSpec(duration=1.0, frame_count=25, image_size=32)
NONE = Augment(flip=0.0)
MIRRORED = Augment()
VISUAL = {
    "flip": 1.0, "crop": 0.3, "brightness": 0.4, "contrast": 0.4, "saturation": 0.8, "hue": 0.1, "blur": 2.0,
    "pixel_noise": 12.0, "jpeg": 1.0, "cutout": 1.0, "wander": 0.1, "turn": 10.0,
}  # fmt: skip
AUDIBLE = {
    "gain": 12.0, "snr": 10.0, "equaliser": 12.0, "low_pass": 1.0, "reverberation": 0.5,
}  # fmt: skip


def clip_of(frames: np.ndarray, waveform: np.ndarray) -> Clip:
    times = np.arange(len(frames)) / 25
    return Clip(frames, times, waveform.astype(np.float32), RATE, 0.0, len(waveform) / RATE)


def clock(seconds: float = 3.2) -> Example:
    """Both streams say what time it is: a pixel is 70 times the seconds, a sample 0.3 times."""
    times = np.arange(round(seconds * 25)) / 25
    frames = np.broadcast_to((times * 70).astype(np.uint8)[:, None, None, None], (len(times), 32, 32, 3))
    return Example(Row(None, 0, "RVRA", "real", "a"), clip_of(frames, 0.3 * np.arange(seconds * RATE) / RATE))


def claps(seed: int, seconds: float = 3.2) -> Clip:
    """At random moments the picture flashes and the sound clicks."""
    rng = np.random.default_rng(seed)
    moments = np.cumsum(rng.integers(4, 14, 40))
    moments = moments[moments < seconds * 25 - 1]
    frames = rng.integers(40, 60, (round(seconds * 25), 32, 32, 3), dtype=np.uint8)
    frames[moments] += 150
    sound = 0.001 * rng.standard_normal(round(seconds * RATE))
    sound[moments * RATE // 25] = 0.8
    return clip_of(frames, sound)


def lags(window: Clip, slack: float = 0.025) -> np.ndarray:
    """Seconds from each flash that is not at an end of a window to the nearest click."""
    light = window.frames.mean(axis=(1, 2, 3))
    flashes = window.times[light > (light.min() + light.max()) / 2] - window.start
    loud = np.abs(window.waveform)
    clicks = np.flatnonzero(loud > 0.6 * loud.max()) / RATE
    flashes = flashes[(flashes > slack) & (flashes < window.duration - slack)]
    return np.array([np.abs(clicks - flash).min() for flash in flashes])


@pytest.fixture
def windows(monkeypatch):
    """What `prepare` is given, instead of what it makes of it."""
    monkeypatch.setattr(dataset, "prepare", lambda window, spec: window)


@pytest.fixture
def identities() -> list[Example]:
    """One person with 30 real clips and 1 fake, one with 2 and 9; the grey says which clip it is."""
    whose = [("a", 0)] * 30 + [("a", 1)] + [("b", 0)] * 2 + [("b", 1)] * 9
    return [
        Example(
            Row(None, label, "FVFA" if label else "RVRA", "x", source),
            clip_of(
                np.full((35, 8, 8, 3), 4 * number, np.uint8), np.sin(np.arange(1.4 * RATE) * (0.1 + number))
            ),
        )
        for number, (source, label) in enumerate(whose)
    ]


def stored(examples: list[Example], folder) -> list[StoredExample]:
    """Each clip in a shard of its own."""
    return [
        store(replace(example, row=replace(example.row, path=folder / f"{number}.mp4")))
        for number, example in enumerate(examples)
    ]


def store(example: Example) -> StoredExample:
    """A clip in a shard beside its file."""
    shard = example.row.path.with_suffix(".tar")
    writer = _PartWriter(shard, "png")
    entry = writer.add("00", example, {})
    writer.flush()
    return _stored(entry, shard, example.row)


def batch_at(examples, size, step=0, rows=slice(None), *, seed=0, transforms=MIRRORED, **options):
    """Inputs and labels of some rows of a batch, as a run that is resumed at ``step`` reads them."""
    dataset = AVDataset(examples, SPEC, transforms=transforms)
    shares = {"start_step": step, "steps": step + 1, "shares": [rows]}
    batch = next(BatchReader(make_loader(dataset, batch_size=size, seed=seed, **shares, **options)))
    return batch.inputs, batch.labels


def same(one, other) -> bool:
    return all(
        torch.equal(*pair)
        for pair in ((one[0].frames, other[0].frames), (one[0].audio, other[0].audio), (one[1], other[1]))
    )


def test_windows_are_labelled_by_what_is_fake_in_them():
    row = Row(None, 1, "FVFA", "x", "a", fake_segments=((1.0, 2.0),))
    starts = (0.0, 0.2, 0.25, 0.3, 1.0, 1.7, 1.8, 2.0)
    assert [window_label(row, start, 1.0) for start in starts] == [0, None, 1, 1, 1, 1, None, 0]
    assert window_label(row, 0.0009, 1.0) == 0  # segments are written with three decimals
    assert window_label(replace(row, fake_segments=((1.0, 1.15), (1.4, 1.5))), 0.9, 1.0) == 1  # both together
    assert window_label(Row(None, 1, "FVFA", "x", "a"), 0.0, 1.0) == 1
    assert window_label(Row(None, 0, "RVRA", "real", "a"), 0.0, 1.0) == 0


def test_windows_cover_the_clip_to_its_end():
    assert window_starts(1.0, 1.0, 0.5) == [0.0]
    assert window_starts(2.2, 1.0, 0.5) == pytest.approx([0.0, 0.5, 1.0, 1.2])
    assert window_starts(2.0, 1.0, 0.5) == pytest.approx([0.0, 0.5, 1.0])


@pytest.mark.parametrize("speed", [0.0, 0.1])
@pytest.mark.parametrize("length", [1.0, 1.08, 3.2])
def test_a_window_keeps_both_streams_in_step(windows, length, speed):
    """A shifted sound would be a forgery labelled real; a stretched one would speak another language."""
    example, rng, rates = clock(length), np.random.default_rng(0), []
    for _ in range(20):
        window, label = random_window(example, SPEC, rng, transforms=Augment(speed=speed))
        assert (label, len(window.frames)) == (0, 25)
        assert window.duration == pytest.approx(1.0)
        shown, heard = window.frames[:, 0, 0, 0] / 70, window.waveform[200:15_800] / 0.3
        rate = np.polyfit(np.arange(len(heard)) / RATE, heard, 1)[0]
        moments = window.start + rate * SPEC.frame_times
        assert shown == pytest.approx(moments, abs=0.02 + 1 / 70 + 1e-3)
        assert heard[0] == pytest.approx(window.start + rate * 200 / RATE, abs=2e-3)
        rates.append(rate)
    assert all(abs(rate - 1) < speed + 1e-3 for rate in rates)
    assert bool(speed) == (np.std(rates) > 0.005)
    assert max(rates) < length + 1e-3  # no faster than the clip is long


def test_a_change_of_speed_is_exact_for_both_streams():
    faster = change_speed(clock().clip, 110)
    assert faster.duration == pytest.approx(3.2 / 1.1)
    assert faster.frames[:, 0, 0, 0] / 70 == pytest.approx(faster.times * 1.1, abs=1 / 70)
    inner = np.arange(500, 46_000)  # the ends ring
    assert faster.waveform[inner] == pytest.approx(0.3 * 1.1 * inner / RATE, abs=1e-3)
    assert change_speed(faster, 100) is faster


@pytest.mark.parametrize("name", ["light", "strong", *VISUAL, *AUDIBLE])
def test_an_augmentation_moves_no_stream_against_the_other(windows, name):
    augment = {"light": LIGHT, "strong": STRONG}.get(name) or Augment(**{name: (VISUAL | AUDIBLE)[name]})
    rng = np.random.default_rng(1)
    found = [
        lags(random_window(Example(clock().row, claps(seed)), SPEC, rng, transforms=augment)[0])
        for seed in range(12)
    ]
    found = np.concatenate(found)
    assert len(found) > 15
    # A frame is shown for up to 20 ms more or less than its moment; slowed down, that is 22 ms.
    assert found.max() < 0.025


def test_lags_measure_a_shift(windows):
    """The ruler of the test above, held against forgeries."""
    rng = np.random.default_rng(1)
    found = [
        lags(pseudo_fake(Example(clock().row, claps(seed)), SPEC, rng, transforms=NONE)) for seed in range(12)
    ]
    assert np.mean(np.concatenate(found) > 0.025) > 0.6


@pytest.mark.parametrize("name", [*VISUAL, *AUDIBLE])
def test_an_augmentation_changes_its_own_stream_alone(name):
    clip, rng = claps(0), np.random.default_rng(2)
    changed = Augment(**{"flip": 0.0, name: (VISUAL | AUDIBLE)[name]})(clip, rng)
    assert np.array_equal(changed.frames, clip.frames) == (name in AUDIBLE)
    assert np.array_equal(changed.waveform, clip.waveform) == (name in VISUAL)
    assert (changed.frames.dtype, changed.waveform.dtype) == (np.uint8, np.float32)
    assert changed.waveform.shape == clip.waveform.shape
    assert np.isfinite(changed.waveform).all()


@pytest.mark.parametrize("name", [name for name in VISUAL if name not in ("pixel_noise", "wander", "turn")])
def test_all_frames_are_changed_alike(name):
    """A change that flickers would be a motion that nobody made."""
    frames = np.broadcast_to(claps(0).frames[:1], (12, 32, 32, 3))
    changed = Augment(**{"flip": 0.0, name: VISUAL[name]})(
        clip_of(frames, np.zeros(7680)), np.random.default_rng(0)
    )
    assert (changed.frames == changed.frames[:1]).all()


@pytest.mark.parametrize("strength", [{"wander": 0.2}, {"turn": 20.0}])
def test_a_wandering_crop_moves_smoothly(strength):
    """It drifts as landmarks do, and does not jump from frame to frame."""
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    picture = np.broadcast_to((2 * x + y)[None, ..., None], (50, 64, 64, 3)).astype(np.uint8)
    changed = Augment(flip=0.0, **strength)(clip_of(picture, np.zeros(32_000)), np.random.default_rng(3))
    inner = changed.frames[:, 16:-16, 16:-16].astype(float)
    steps = np.abs(np.diff(inner, axis=0)).mean(axis=(1, 2, 3))
    assert inner.std(axis=0).mean() > 1
    assert 0 < np.median(steps) < inner.std(axis=0).mean()


def test_strengths_of_zero_change_nothing(windows):
    clip, rng = claps(0), np.random.default_rng(0)
    changed = NONE(clip, rng)
    for name in ("frames", "times", "waveform"):
        assert np.array_equal(getattr(changed, name), getattr(clip, name))
    window, _ = random_window(Example(clock().row, clip), SPEC, rng, transforms=NONE)
    cut = clip.window(window.start, 1.0)
    assert np.array_equal(window.waveform, cut.waveform)
    assert np.array_equal(window.frames, cut.frames[cut.nearest_frames(cut.start + SPEC.frame_times)])


def test_silence_survives_every_augmentation():
    clip = clip_of(np.zeros((25, 32, 32, 3), np.uint8), np.zeros(RATE))
    for augment in (LIGHT, STRONG, replace(STRONG, reverberation=0.001)):
        for seed in range(5):
            changed = augment(clip, np.random.default_rng(seed))
            assert np.isfinite(changed.waveform).all()


@pytest.mark.parametrize("name", [field.name for field in fields(Augment)])
def test_strengths_that_make_no_sense_are_refused(name):
    with pytest.raises(AVFFError, match=name):
        Augment(**{name: float("nan")})
    if name != "snr":
        with pytest.raises(AVFFError, match=name):
            Augment(**{name: -0.1})


def test_a_pseudo_fake_hears_another_moment_and_is_labelled(windows):
    rng, shifts = np.random.default_rng(0), []
    for speed in (0.0, 0.1):
        for length in (1.25, 3.2):
            for _ in range(30):
                window = pseudo_fake(clock(length), SPEC, rng, transforms=Augment(speed=speed))
                shown, heard = window.frames[12, 0, 0, 0] / 70, window.waveform[8_000] / 0.3
                shifts.append(heard - shown)
                assert window.start <= shown <= window.start + 1.1
    assert np.abs(shifts).min() > 0.9 * MIN_PSEUDO_FAKE_SHIFT - 0.04  # a tenth slower, and half a frame
    assert np.abs(shifts).max() > 1
    assert min(shifts) < 0 < max(shifts)


def test_pseudo_fakes_are_half_of_the_fake_windows_and_all_where_there_are_no_others(monkeypatch):
    real = [clock(), clock()]
    fake = replace(clock(), row=Row(None, 1, "FVFA", "x", "a"))
    made = []
    monkeypatch.setattr(
        dataset,
        "pseudo_fake",
        lambda example, *rest, **more: made.append(example) or pseudo_fake(example, *rest, **more),
    )
    for examples, augment, share in (
        ([*real, fake], Augment(pseudo_fake=0.5), 0.5),
        ([*real, fake], Augment(), 0.0),
        (real, Augment(pseudo_fake=0.1), 1.0),
    ):
        made.clear()
        _, labels = batch_at(examples, 100, transforms=augment)
        assert labels.tolist() == [0, 1] * 50
        assert abs(len(made) / 50 - share) < 0.2 * (share == 0.5) + 1e-9
        assert all(example.row.label == 0 for example in made)
    short = AVDataset([clock(1.1), fake], SPEC, transforms=Augment(pseudo_fake=0.5))
    with pytest.raises(AVFFError, match=r"lasts 1\.2 s"):
        WindowSampler(short, batch_size=4, steps=1)


def test_a_batch_depends_on_seed_and_step_alone(identities):
    dataset = AVDataset(identities, SPEC, transforms=STRONG)
    whole = [(batch.inputs, batch.labels) for batch in make_loader(dataset, batch_size=6, steps=9, seed=1)]

    def batch(step, seed=1):
        return batch_at(identities, 6, step, seed=seed, transforms=STRONG)

    assert same(whole[7], batch(7))
    assert not same(whole[7], batch(8))
    assert not same(whole[7], batch(7, seed=2))


def test_workers_read_the_same_batches(identities):
    dataset = AVDataset(identities, SPEC, transforms=replace(STRONG, pseudo_fake=0.3))
    alone, shared = (
        [(b.inputs, b.labels) for b in make_loader(dataset, batch_size=6, steps=5, num_workers=workers)]
        for workers in (0, 2)
    )
    assert len(shared) == 5
    assert all(same(*pair) for pair in zip(alone, shared, strict=True))


def test_a_draw_is_a_key_and_a_number_the_middle_of_a_clip(identities):
    dataset = AVDataset(identities, SPEC, transforms=STRONG)
    draw = WindowSampler(dataset, batch_size=4, steps=1).key(0, 1)
    one, other = dataset[draw], dataset[draw]
    assert torch.equal(one.frames, other.frames)
    assert torch.equal(one.audio, other.audio)
    assert one.label == 1
    assert len(dataset) == 42
    sample = AVDataset([clock()], SPEC)[0]
    shown = (sample.frames[:, 0, 0, 0] + 1) / 2 * 255 / 70
    assert shown.numpy() == pytest.approx(1.1 + SPEC.frame_times, abs=0.02 + 1 / 70 + 1e-3)
    assert sample.label == 0


def test_rows_drawn_alone_are_rows_of_the_whole_batch(identities):
    inputs, labels = batch_at(identities, 6, 3, transforms=STRONG)
    for rows in (slice(0, 3), slice(3, 6), slice(1, None, 2), slice(4, 5)):
        part, part_labels = batch_at(identities, 6, 3, rows, transforms=STRONG)
        assert torch.equal(part.frames, inputs.frames[rows])
        assert torch.equal(part.audio, inputs.audio[rows])
        assert torch.equal(part_labels, labels[rows])


def drawn(examples, steps, shares=(slice(None),), start_step=0, **options) -> list[list]:
    """The draws of a run's micro-batches."""
    transforms = Augment(pseudo_fake=options.pop("pseudo_fake", 0.0))
    dataset = AVDataset(examples, SPEC, transforms=transforms)
    run = {"batch_size": 8, "steps": steps, "start_step": start_step, "shares": shares}
    return list(WindowSampler(dataset, **run, **options))


def test_each_clip_of_a_class_comes_once_an_epoch_on_any_number_of_processes(identities):
    """Two processes of two micro-batches each; four real and four fake windows a step, of 32 and 10 clips."""
    processes = [(slice(0, 2), slice(2, 4)), (slice(4, 6), slice(6, 8))]
    parts = [drawn(identities, 20, shares) for shares in processes]
    for label, count in ((0, 32), (1, 10)):
        clips = [
            draw.clips[0]
            for step in range(20)
            for part in parts
            for batch in part[2 * step : 2 * step + 2]
            for draw in batch
            if draw.label == label
        ]
        epochs = [clips[first : first + count] for first in range(0, len(clips) - count + 1, count)]
        assert len(epochs) >= 2
        assert all(len(set(epoch)) == count for epoch in epochs)
        assert epochs[0] != epochs[1]  # another order
    whole = drawn(identities, 20)
    assert [draw.clips for batch in whole for draw in batch] == [
        draw.clips for step in range(20) for part in parts for batch in part[2 * step :][:2] for draw in batch
    ]
    again = drawn(identities, 20, start_step=13)
    assert [[draw.clips for draw in batch] for batch in again] == [
        [draw.clips for draw in batch] for batch in whole[13:]
    ]
    other = drawn(identities, 20, seed=1)
    assert [draw.clips[0] for draw in other[0]] != [draw.clips[0] for draw in whole[0]]


def test_if_wished_each_person_comes_once_before_any_comes_twice_and_so_do_the_clips(identities):
    draws = [draw for batch in drawn(identities, 16, identity_balanced=True) for draw in batch]
    real = [draw.clips[0] for draw in draws if draw.label == 0]
    whose = [identities[index].row.source for index in real]
    assert all(set(whose[turn : turn + 2]) == {"a", "b"} for turn in range(0, len(whose), 2))
    of_a = [index for index in real if identities[index].row.source == "a"]
    assert len(set(of_a[:30])) == 30


def test_pseudo_fakes_walk_through_the_real_clips_and_leave_the_fake_ones_their_own_walk(identities):
    draws = [draw for batch in drawn(identities, 20, pseudo_fake=0.4) for draw in batch if draw.label == 1]
    made, found = ([draw.clips[0] for draw in draws if draw.pseudo_fake == flag] for flag in (True, False))
    assert len(made) == 32
    assert set(made) == {index for index, example in enumerate(identities) if example.row.label == 0}
    assert len(set(found[:10])) == 10


@pytest.mark.parametrize("identity_balanced", [False, True])
def test_classes_and_if_wished_people_are_drawn_equally_often(identities, identity_balanced):
    inputs, labels = batch_at(identities, 400, identity_balanced=identity_balanced, transforms=NONE)
    clips = ((inputs.frames[:, 0, 0, 0, 0] + 1) / 2 * 255 / 4).round().int().tolist()
    assert [identities[number].row.label for number in clips] == labels.tolist()
    drawn = Counter((identities[number].row.source, identities[number].row.label) for number in clips)
    clip_shares = {("a", 0): 30 / 32, ("a", 1): 1 / 10, ("b", 0): 2 / 32, ("b", 1): 9 / 10}
    for key, share in clip_shares.items():
        assert drawn[key] / 200 == pytest.approx(0.5 if identity_balanced else share, abs=0.11), key
    assert len(set(clips)) > 30


def test_classes_are_those_of_windows_not_of_clips():
    """Half of the clips are fake for half of their time: counted by clip, only a third would be fake."""
    fake = np.repeat([0, 1, 0], [0, 40, 40]).astype(np.uint8)  # 1.6 s of 3.2 s
    partly = Example(
        Row(None, 1, "FVFA", "x", "a", fake_segments=((0.0, 1.6),)),
        clip_of(np.broadcast_to(50 + 100 * fake[:, None, None, None], (80, 8, 8, 3)), np.zeros(51_200)),
    )
    examples = [clock(), partly]
    assert [possible_labels(example, SPEC) for example in examples] == [{0}, {0, 1}]
    inputs, labels = batch_at(examples, 100, transforms=NONE)
    assert labels.tolist() == [0, 1] * 50
    values = (inputs.frames[:, :, 0, 0, 0] + 1) / 2 * 255
    of_partly = ((values - 50).abs() < 1) | ((values - 150).abs() < 1)
    of_partly = of_partly.all(dim=1)
    fake_share = (values > 149).float().mean(dim=1)
    assert of_partly[labels == 1].all()
    assert 10 < of_partly[labels == 0].sum() < 40  # real windows come from both clips
    assert (fake_share[of_partly & (labels == 1)] > 0.2).all()
    assert (fake_share[of_partly & (labels == 0)] < 0.3).all()


def fake_in(*segments: tuple[float, float], seconds: float = 3.2) -> Example:
    """A clip that is fake in some places, and shows what time it is."""
    return replace(clock(seconds), row=Row(Path("a.mp4"), 1, "FVFA", "x", "a", fake_segments=segments))


@pytest.mark.parametrize("speed", [0.0, 0.1])
@pytest.mark.parametrize("label", [0, 1, None])
def test_windows_that_are_fake_by_less_than_a_quarter_are_never_drawn(windows, label, speed):
    example, rng, labels = fake_in((1.0, 1.6)), np.random.default_rng(0), Counter()
    for _ in range(150):
        window, found = random_window(example, SPEC, rng, transforms=Augment(speed=speed), label=label)
        heard = window.waveform[[200, 15_800]] / 0.3  # seconds of the clip
        rate = (heard[1] - heard[0]) / 15_600
        begin, end = heard[0] - 200 * rate, heard[1] + 200 * rate
        share = max(0.0, min(end, 1.6) - max(begin, 1.0)) / (end - begin)
        assert share > 0.245 if found else share < 0.005
        labels[found] += 1
    assert set(labels) == ({0, 1} if label is None else {label})


def test_clips_whose_windows_have_no_label_are_not_drawn_from(identities):
    brief, short = fake_in((1.3, 1.5), (2.4, 2.6)), fake_in((0.0, 0.1), seconds=1.0)
    assert possible_labels(brief, SPEC) == {0}  # before the first
    assert possible_labels(short, SPEC) == set()
    assert possible_labels(clock(0.8), SPEC) == set()
    for examples in ([short], [clock(0.8)]):
        with pytest.raises(AVFFError, match="the 1 clips to train on are too short, or hardly any"):
            WindowSampler(AVDataset(examples, SPEC), batch_size=4, steps=1)
    dataset = AVDataset([clock(), short, fake_in((0.0, 3.2)), clock(0.8)], SPEC, transforms=NONE)
    sampler = WindowSampler(dataset, batch_size=100, steps=1)
    assert {index for draw in next(iter(sampler)) for index in draw.clips} == {0, 2}


def test_the_middle_window_of_a_clip_has_a_label():
    starts = {(): 1.1, ((1.5, 1.9),): 1.1, ((1.9, 3.2),): 1.155, ((1.0, 1.2),): 1.265}
    for segments, start in starts.items():
        sample = AVDataset([fake_in(*segments)], SPEC)[0]
        shown = (sample.frames[:, 0, 0, 0] + 1) / 2 * 255 / 70
        assert shown.numpy() == pytest.approx(start + SPEC.frame_times, abs=0.02 + 1 / 70 + 1e-3), segments
        assert sample.label == window_label(fake_in(*segments).row, start, 1.0)
    with pytest.raises(AVFFError, match=r"each window of a\.mp4 is fake by less than 25%"):
        AVDataset([fake_in((0.5, 0.6), seconds=1.1)], SPEC)[0]
    with pytest.raises(AVFFError, match=r"face in a\.mp4 lasts 0\.80 s, a window 1 s"):
        AVDataset([fake_in(seconds=0.8)], SPEC)[0]


def test_a_picture_that_freezes_is_drawn_from_like_any_other(windows):
    """Three seconds without a frame: what is shown is the last one before."""
    times = np.concatenate([np.arange(25), np.arange(100, 150)]) / 25
    frames = np.broadcast_to((times * 40).astype(np.uint8)[:, None, None, None], (75, 32, 32, 3))
    clip = Clip(frames, times, np.zeros(6 * RATE, np.float32), RATE, 0.0, 6.0)
    rng, frozen = np.random.default_rng(0), 0
    for _ in range(200):
        window, _ = random_window(Example(clock().row, clip), SPEC, rng, transforms=MIRRORED)
        moments = window.start + SPEC.frame_times
        expected = np.where((moments > 1.0) & (moments < 4.0), 0.96, moments)
        surely = np.abs(moments - 3.975) > 0.03  # the new picture may come up to 50 ms early
        assert window.frames[surely, 0, 0, 0] / 40 == pytest.approx(expected[surely], abs=0.05)
        frozen += len(np.unique(window.frames)) == 1
    assert frozen > 50


def test_a_label_that_a_clip_does_not_have_is_refused():
    with pytest.raises(AVFFError, match="no window with the label 1"):
        random_window(clock(), SPEC, np.random.default_rng(0), label=1)
    with pytest.raises(AVFFError, match="no window with a label"):
        random_window(fake_in((0.5, 0.6), seconds=1.1), SPEC, np.random.default_rng(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_read_is_skipped_named_once_and_counted(identities, tmp_path, caplog, workers):
    """One shard is cut off, one clip in memory holds non-finite audio."""
    good = stored(identities, tmp_path)
    expected = [batch_at(good, 40, step) for step in range(3)]
    good[3].shard.write_bytes(good[3].shard.read_bytes()[:500])
    sound = good[35].clip.waveform.copy()
    sound[10_000] = np.nan  # in any window
    good[35] = Example(good[35].row, replace(good[35].clip, waveform=sound))
    dataset = AVDataset(good, SPEC, transforms=MIRRORED)
    reader = BatchReader(make_loader(dataset, batch_size=40, steps=3, num_workers=workers))
    with caplog.at_level(logging.WARNING):
        found = [(batch.inputs, batch.labels) for batch in reader]
    assert set(reader.skipped) == {3, 35}
    assert {entry.row.path.name for entry in reader.skipped.values()} == {"3.mp4", "35.mp4"}
    assert [" is skipped: " in message for message in caplog.messages] == [True, True]
    assert all(torch.isfinite(inputs.audio).all() for inputs, _ in found)
    greys = torch.cat([inputs.frames[:, 0, 0, 0, 0] for inputs, _ in found])
    numbers = ((greys + 1) / 2 * 255 / 4).round().int().tolist()
    assert not {3, 35} & set(numbers)
    changed = 0
    for (inputs, labels), (before, labels_before) in zip(found, expected, strict=True):
        assert torch.equal(labels, labels_before)
        changed += sum(not torch.equal(*pair) for pair in zip(inputs.frames, before.frames, strict=True))
    assert 0 < changed < 20  # the other rows are what they were
    assert same(batch_at(good, 40, 2), found[2])  # known to be broken or not


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_stops_where_more_than_a_tenth_of_a_class_is_missing(identities, tmp_path, caplog, workers):
    good = stored(identities, tmp_path)
    for example in [e for e in good if e.row.label == 1][:2]:
        example.shard.unlink()
    message = "^2 of 10 fake clips cannot be read, and at most 10% may be missing"
    with pytest.raises(AVFFError, match=message):
        batch_at(good, 400, num_workers=workers)  # so many rows that both are met
    assert "is skipped" in caplog.text


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_stops_where_the_last_clip_of_its_kind_is_missing(identities, tmp_path, workers):
    """Few of the real clips are long enough for pseudo fakes: here one, which is less than a tenth."""
    short = [replace(e, clip=e.clip.window(0.0, 1.1)) for e in identities if e.row.label == 0]
    good = stored([*short, identities[0]], tmp_path)
    good[-1].shard.unlink()
    missing = good[-1].row.path.name
    with pytest.raises(AVFFError, match=f"^no clip is left for .*{missing}: .*cannot be read") as error:
        batch_at(good, 2, transforms=Augment(pseudo_fake=1.0), num_workers=workers)
    assert "\n" not in str(error.value)


def test_no_clips_to_train_on_is_said():
    with pytest.raises(AVFFError, match="no clips"):
        WindowSampler(AVDataset([], SPEC), batch_size=4, steps=1)
