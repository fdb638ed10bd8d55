"""Each perturbation degrades one stream, by what it says, and moves nothing in time."""

import io
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.signal import correlate, correlation_lags

from avff_lib.errors import AVFFError
from avff_lib.evaluation import perturb_audio, perturb_video
from avff_lib.evaluation.perturbations import PERTURBATIONS
from avff_lib.media.clip import Clip

RATE = 16_000
BY_STREAM = {
    stream: [name for name, entry in PERTURBATIONS.items() if entry.stream == stream]
    for stream in ("video", "audio")
}


def talking(height: int = 70, width: int = 63, seconds: float = 1.2) -> Clip:
    """A moving coloured cloud with edges and grain, of an odd width, and voiced bursts at random times."""
    rng = np.random.default_rng(1)
    smooth = gaussian_filter(rng.normal(size=(height, width + 40, 3)), (2, 2, 0))
    wide = 120 + 45 * smooth / smooth.std() + rng.normal(0, 6, smooth.shape)
    wide[::12] += 60  # edges
    wide = np.clip(wide, 0, 255).astype(np.uint8)
    frames = np.stack([wide[:, step : step + width] for step in range(round(25 * seconds))])
    time = np.arange(round(RATE * seconds)) / RATE
    voice = sum(np.sin(2 * np.pi * 120 * k * time + rng.uniform(0, 6)) / k for k in range(1, 25))
    bursts = gaussian_filter1d(np.repeat(rng.random(round(seconds * 25)) > 0.5, RATE // 25).astype(float), 80)
    waveform = (0.08 * voice * bursts + 0.001 * rng.normal(size=len(time))).astype(np.float32)
    return Clip(frames, np.arange(len(frames)) / 25, waveform, RATE, 0.0, seconds)


CLIP = talking()


def perturbed(name: str, level: int, seed: int = 0, clip: Clip = CLIP) -> Clip:
    return PERTURBATIONS[name](clip, level, np.random.default_rng(seed))


def log_spectrum(waveform: np.ndarray) -> np.ndarray:
    window = torch.hann_window(512)
    spectrum = torch.stft(torch.from_numpy(waveform), 512, 128, window=window, return_complex=True)
    return 20 * np.log10(spectrum.abs().numpy() + 1e-3)


def damage(name: str, level: int) -> float:
    """Mean squared error of the frames, or distance of log spectra in dB."""
    changed = perturbed(name, level)
    if PERTURBATIONS[name].stream == "video":
        return float(np.mean((changed.frames.astype(float) - CLIP.frames) ** 2))
    return float(np.sqrt(np.mean((log_spectrum(changed.waveform) - log_spectrum(CLIP.waveform)) ** 2)))


def lag(one: np.ndarray, other: np.ndarray) -> int:
    """By how many samples ``other`` is later."""
    one, other = one - one.mean(), other - other.mean()
    lags = correlation_lags(len(other), len(one))
    return int(lags[np.argmax(correlate(other, one))])


def envelope(waveform: np.ndarray) -> np.ndarray:
    """Level at each millisecond, smoothed over a period of the voice."""
    power = gaussian_filter1d(waveform.astype(float) ** 2, 0.008 * RATE)
    return np.sqrt(power[:: RATE // 1000])


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_one_stream_changes_and_nothing_moves(name):
    before = CLIP.frames.copy(), CLIP.waveform.copy()
    changed = perturbed(name, 3)
    assert (changed.start, changed.duration, changed.sample_rate) == (CLIP.start, CLIP.duration, RATE)
    assert changed.times is CLIP.times
    assert (changed.frames.shape, changed.frames.dtype) == (CLIP.frames.shape, np.uint8)
    assert (changed.waveform.shape, changed.waveform.dtype) == (CLIP.waveform.shape, np.float32)
    assert np.abs(changed.waveform).max() <= 1
    if PERTURBATIONS[name].stream == "video":
        assert changed.waveform is CLIP.waveform
        assert (changed.frames != CLIP.frames).any()
    else:
        assert changed.frames is CLIP.frames
        assert (changed.waveform != CLIP.waveform).any()
    assert np.array_equal(before[0], CLIP.frames)  # what came in is as it was
    assert np.array_equal(before[1], CLIP.waveform)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_level_by_level_more_is_lost_and_none_is_lost_at_zero(name):
    assert perturbed(name, 0) is CLIP
    with pytest.raises(AVFFError, match="level is 6"):
        perturbed(name, 6)
    losses = [damage(name, level) for level in range(1, 6)]
    assert losses[0] > 0
    # MP3 at 320 and at 256 kbit/s both keep all there is of a voice at 16 kHz, up to rounding.
    slack = 0.02 * losses[0] if name == "mp3" else 0
    assert all(later > earlier - slack for earlier, later in pairwise(losses)), losses
    assert losses[-1] > 1.2 * losses[0]


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_seed_decides(name):
    one, again, other = perturbed(name, 2), perturbed(name, 2), perturbed(name, 2, seed=1)
    same = np.array_equal(one.frames, other.frames) and np.array_equal(one.waveform, other.waveform)
    assert np.array_equal(one.frames, again.frames)
    assert np.array_equal(one.waveform, again.waveform)
    assert same == (name not in ("block_wise", "gaussian_noise", "noise"))


@pytest.mark.parametrize("name", BY_STREAM["video"])
def test_every_frame_stays_in_its_place(name):
    """Each changed frame is more like its own original than like the neighbours of that."""
    changed = perturbed(name, 2).frames.astype(float)
    originals = CLIP.frames.astype(float)
    flat = [
        (frames - frames.mean(axis=(1, 2, 3), keepdims=True)).reshape(len(frames), -1)
        for frames in (changed, originals)
    ]
    alike = (flat[0] @ flat[1].T) / np.outer(*(np.linalg.norm(frames, axis=1) for frames in flat))
    assert (alike.argmax(axis=1) == np.arange(len(originals))).all()


@pytest.mark.parametrize("level", range(1, 6))
def test_audio_stays_in_its_place(level):
    for name in ("noise", "mp3", "reverberation"):
        assert lag(CLIP.waveform, perturbed(name, level).waveform) == 0, name


def test_a_raised_voice_rises_and_falls_when_it_did():
    """Its waveform is another one, but its loudness keeps time: to a tenth of a frame, and without bias."""
    lags = [
        lag(envelope(CLIP.waveform), envelope(perturbed("pitch", level).waveform)) for level in range(1, 6)
    ]
    assert np.abs(lags).max() <= 4
    assert abs(np.mean(lags)) <= 2


@pytest.mark.parametrize(("level", "snr"), enumerate([40, 30, 20, 15, 10], start=1))
def test_noise_has_the_power_that_was_asked_for(level, snr):
    added = perturbed("noise", level).waveform.astype(float) - CLIP.waveform
    achieved = 10 * np.log10(np.mean(CLIP.waveform.astype(float) ** 2) / np.mean(added**2))
    assert achieved == pytest.approx(snr, abs=0.1)
    silent = Clip(CLIP.frames, CLIP.times, np.zeros(RATE, np.float32), RATE, 0.0, 1.0)
    assert not perturbed("noise", level, clip=silent).waveform.any()


@pytest.mark.parametrize("semitones", [2, 6, 10])
def test_pitch_raises_every_partial_by_the_interval(semitones):
    time = np.arange(RATE) / RATE
    tone = Clip(
        CLIP.frames, CLIP.times, (0.5 * np.sin(2 * np.pi * 400 * time)).astype(np.float32), RATE, 0.0, 1.0
    )
    raised = perturb_audio.pitch(tone, semitones, np.random.default_rng(0)).waveform
    spectrum = np.abs(np.fft.rfft(raised * np.hanning(RATE), 8 * RATE))
    assert spectrum.argmax() / 8 == pytest.approx(400 * 2 ** (semitones / 12), abs=1)
    assert np.sqrt(np.mean(raised[2000:-2000] ** 2)) == pytest.approx(0.5 / math.sqrt(2), rel=0.02)


def test_reverberation_equals_its_slow_twin():
    """The same room, a sample at a time."""
    rng = np.random.default_rng(0)
    dry = 0.3 * rng.standard_normal(4000)
    clip = Clip(CLIP.frames, CLIP.times, dry.astype(np.float32), RATE, 0.0, 0.25)
    feedback, damping = 1 - 0.7 * (0.02 / 0.7) ** 0.6, 0.35

    def line(signal, delay, feedback, damping):
        output, buffer, store = [], [0.0] * round(delay * RATE / 44_100), 0.0
        for sample in signal:
            out = buffer.pop(0)
            store = out + (store - out) * damping
            buffer.append(sample + feedback * store)
            output.append(out)
        return np.array(output)

    wet = sum(
        line(dry, delay, feedback, damping) for delay in (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)
    )
    for delay in (556, 441, 341, 225):  # the order of what is linear does not matter
        wet = line(wet, delay, 0.5, 0.0) - wet
    changed = perturb_audio.reverberation(clip, 60, rng).waveform
    assert np.abs(dry + 0.015 * wet).max() > 1  # what is louder than full scale is cut off
    assert changed == pytest.approx(np.clip(dry + 0.015 * wet, -1, 1), abs=1e-6)


@pytest.mark.parametrize("quality", PERTURBATIONS["jpeg"].values)
def test_jpeg_is_jpeg(quality):
    """Pixel by pixel what another program makes of the same quality, and with its borders every 8 pixels."""
    clip = talking(height=96, width=128, seconds=0.2)
    changed = perturb_video.jpeg(clip, quality, np.random.default_rng(0)).frames
    file = io.BytesIO()
    Image.fromarray(clip.frames[0]).save(file, "JPEG", quality=quality)
    assert np.abs(changed[0].astype(int) - np.asarray(Image.open(file))).max() <= 2
    steps = np.abs(np.diff(changed.astype(float).mean(axis=-1), axis=2)).mean(
        axis=(0, 1)
    )  # from column to column
    border = np.arange(1, len(steps) + 1) % 8 == 0
    before = np.abs(np.diff(clip.frames.astype(float).mean(axis=-1), axis=2)).mean(axis=(0, 1))
    assert (steps[border].mean() / steps[~border].mean()) > 1.1 * (
        before[border].mean() / before[~border].mean()
    )


def test_each_value_of_a_video_perturbation_means_what_it_says():
    rng = np.random.default_rng(0)
    grey = perturb_video.saturation(CLIP, 0.0, rng).frames.astype(int)
    assert np.ptp(grey, axis=-1).max() <= 1
    luma = CLIP.frames @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[..., 0] - luma).max() <= 1
    assert np.abs(perturb_video.contrast(CLIP, 0.35, rng).frames - 0.35 * CLIP.frames).max() <= 0.51

    flat = Clip(np.zeros((2, 256, 256, 3), np.uint8), np.arange(2) / 25, CLIP.waveform, RATE, 0.0, 0.08)
    covered = perturb_video.block_wise(flat, 48, rng).frames
    assert set(np.unique(covered)) == {0, 128}
    share = 48 * 64 / 256**2  # less what falls on each other
    assert (covered == 128).mean() == pytest.approx(share * (1 - share / 2), rel=0.15)

    middle = Clip(flat.frames + 128, flat.times, CLIP.waveform, RATE, 0.0, 0.08)
    noisy = perturb_video.gaussian_noise(middle, 0.002, rng).frames.astype(float).std(axis=(0, 1, 2)) / 255
    expected = np.sqrt(
        0.002 * np.array([1.164**2 + 1.596**2, 1.164**2 + 0.392**2 + 0.813**2, 1.164**2 + 2.017**2])
    )
    assert noisy == pytest.approx(expected, rel=0.02)


def test_a_video_of_any_rate_and_size_survives_h264():
    for count, seconds, height, width in ((1, 0.04, 2, 3), (7, 0.5, 33, 47), (30, 1.001, 48, 63)):
        times = np.arange(count) * seconds / count
        clip = Clip(CLIP.frames[:count, :height, :width], times, CLIP.waveform, RATE, 0.0, seconds)
        assert perturbed("h264", 5, clip=clip).frames.shape == (count, height, width, 3)
