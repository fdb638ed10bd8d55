"""The training-free baseline: openings and loudness are what they claim, and lags have the right sign."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avff_lib import synth
from avff_lib.errors import AVFFError
from avff_lib.faces.mouth import _stretch
from avff_lib.inference import sync
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.synth.face import Motion, render
from avff_lib.synth.portrait import Identity, Scene

TIMES = np.arange(60) / 25


@pytest.fixture(scope="module")
def real() -> Clip:
    plans = synth.plan_corpus(clips=10, identities=6, seed=4, level="easy", methods=())
    return synth.make_clip(plans[1])  # of plans[0], moved in a circle, the voice fits the lips twice


@pytest.fixture(scope="module")
def opening(real) -> np.ndarray:
    return sync.mouth_opening(real)


def talking_head(opening, shift=0.0, scale=1.0) -> Clip:
    """A drawn face; opening of the mouth, downward shift and scale of the head over `TIMES`."""
    rng = np.random.default_rng(3)
    identity, scene = Identity.sample(rng), Scene.sample(rng)
    still = np.zeros(len(TIMES))
    motion = Motion(
        shift=np.stack([still, still + shift], axis=-1),
        roll=still,
        scale=still + scale,
        turn=np.zeros((len(TIMES), 2)),
        blink=still,
        gaze=np.zeros((len(TIMES), 2)),
        brows=still,
    )
    mouth = np.stack([opening, still + 0.5, still, still, still], axis=-1)
    frames = render(identity, scene, motion, mouth)
    return Clip(frames, TIMES, np.zeros(38_400, np.float32), 16_000, 0.0, 2.4)


def test_opening_follows_the_lips_and_not_the_head():
    wave = np.sin(2 * np.pi * 2 * TIMES)

    def amplitude(clip):
        """How strongly the measured opening moves at the 2 Hz of the wave; slow drift does not count."""
        return abs((sync.mouth_opening(clip) * np.exp(-4j * np.pi * TIMES)).mean())

    spoken = talking_head(0.4 + 0.4 * wave)
    assert np.corrcoef(sync.mouth_opening(spoken), wave)[0, 1] > 0.9
    assert amplitude(talking_head(0 * wave, shift=0.02 * wave)) < 0.1 * amplitude(spoken)
    assert amplitude(talking_head(0 * wave, scale=1 + 0.03 * wave)) < 0.1 * amplitude(spoken)


def test_stretch_is_the_slope_and_blind_to_a_shift():
    rows = np.arange(10)[:, None] * np.ones((1, 4))
    assert _stretch(0.03 * rows + 5) == pytest.approx(0.03)
    assert _stretch(np.full((10, 4), 7.0)) == pytest.approx(0)


def test_loudness_is_in_decibels_around_each_time_with_a_floor():
    at = np.arange(32_000) / 16_000
    tone = np.sqrt(2) * 0.1 * np.sin(2 * np.pi * 200 * at)  # -20 dB
    tone[16_000:24_000] /= 10
    tone[24_000:] /= 1e4
    clip = Clip(np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1), tone.astype(np.float32), 16_000, 5.0, 2.0)
    found = sync.loudness(clip, np.array([5.0, 5.5, 6.25, 6.75, 7.0]))
    np.testing.assert_allclose(found, [-20, -20, -40, -60, -60], atol=0.1)


@pytest.mark.parametrize("max_lag", [0, 3, 19])
def test_cross_correlation_equals_its_slow_twin(max_lag):
    rng = np.random.default_rng(max_lag)
    a, b = rng.normal(size=(2, 20)) * [[3.0], [0.1]] + [[5.0], [-2.0]]
    za, zb = (a - a.mean()) / a.std(), (b - b.mean()) / b.std()
    slow = [
        sum(za[n] * zb[n + lag] for n in range(20) if 0 <= n + lag < 20) / 20
        for lag in range(-max_lag, max_lag + 1)
    ]
    np.testing.assert_allclose(sync.cross_correlation(a, b, max_lag), slow, atol=1e-12)
    np.testing.assert_allclose(sync.cross_correlation(b, a, max_lag), slow[::-1], atol=1e-12)
    assert np.abs(slow).max() <= 1
    assert sync.cross_correlation(a, a, max_lag)[max_lag] == pytest.approx(1)


def test_a_curve_that_says_nothing_correlates_with_nothing():
    assert (sync.cross_correlation(np.full(20, 0.1), np.arange(20.0), 3) == 0).all()
    with pytest.raises(ValueError, match=r"expected \(N,\) twice with N > 20"):
        sync.cross_correlation(np.arange(20.0), np.arange(20.0), 20)


@pytest.mark.parametrize("steps", [-10, -5, 0, 5, 10])
def test_lag_is_positive_where_the_voice_comes_after_the_lips(real, opening, steps):
    late = replace(real, waveform=np.roll(real.waveform, round(steps * sync.CURVE_STEP * 16_000)))
    found = sync.correlate_streams(opening, late)
    assert found.lag == pytest.approx(steps * sync.CURVE_STEP, abs=1.01 * sync.CURVE_STEP)
    assert found.correlation == found.curve.max() > 0.3
    assert found.confidence > 0.2
    assert found.correlation_at_zero == found.curve[found.lags == 0]


def test_another_clock_gives_the_same_curve(real, opening):
    later = replace(real, times=real.times + 7, start=7.0)
    np.testing.assert_allclose(
        sync.correlate_streams(opening, later).curve,
        sync.correlate_streams(opening, real).curve,
        atol=1e-3,
    )
    uneven = np.sort(np.random.default_rng(0).permutation(len(real.times))[:60])
    half = replace(real, frames=real.frames[uneven], times=real.times[uneven])
    found, expected = sync.measure_sync(half), sync.correlate_streams(opening, real)
    assert found.lag == pytest.approx(expected.lag, abs=1.01 * sync.CURVE_STEP)
    assert found.correlation == pytest.approx(expected.correlation, abs=0.15)


def test_a_still_picture_has_no_lag_to_be_sure_of(real):
    still = replace(real, frames=np.repeat(real.frames[:1], len(real.frames), axis=0))
    found = sync.measure_sync(still)
    assert found.correlation == found.confidence == 0


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (lambda clip: clip.window(0.0, 1.0), "1.00 s of picture are too short"),
        (lambda clip: replace(clip, frames=clip.frames[:20], times=clip.times[:20]), "0.80 s of picture"),
        (lambda clip: replace(clip, frames=clip.frames[::5], times=clip.times[::5]), "5.0 frames a second"),
        (lambda clip: replace(clip, frames=clip.frames[:1], times=clip.times[:1]), "frames a second"),
        (lambda clip: replace(clip, frames=np.zeros_like(clip.frames)), "no face was found"),
        (lambda clip: replace(clip, waveform=np.zeros_like(clip.waveform)), "the sound is silent"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(real, spoilt, message):
    with pytest.raises(AVFFError, match=message):
        sync.measure_sync(spoilt(real))


def test_a_long_file_is_measured_in_windows_and_parts_without_a_face_are_left_out(
    real, opening, tmp_path, monkeypatch
):
    monkeypatch.setattr(sync, "CHUNK_SECONDS", real.duration)
    twice = replace(
        real,
        frames=np.concatenate([real.frames, np.zeros_like(real.frames)]),
        times=np.concatenate([real.times, real.times + real.duration]),
        waveform=np.concatenate([real.waveform, real.waveform]),
        duration=2 * real.duration,
    )
    path = tmp_path / "twice.mp4"
    write_clip(twice, path)
    result = sync.sync_file(path)
    expected = sync.correlate_streams(opening, real)
    assert result.error is None
    assert result.lag == pytest.approx(expected.lag, abs=1.01 * sync.CURVE_STEP)
    assert result.correlation == pytest.approx(expected.correlation, abs=0.1)
    assert any("no face" in warning and "3.2" in warning for warning in result.warnings)


def test_a_file_that_cannot_be_measured_gives_a_result_with_the_reason(real, tmp_path):
    path = tmp_path / "dark.mp4"
    write_clip(replace(real, frames=np.zeros_like(real.frames)), path)
    result = sync.sync_file(path)
    assert result.lag is None
    assert result.error.startswith(f"{path} cannot be measured: no face")
    assert "does not exist" in sync.sync_file(tmp_path / "missing.mp4").error
