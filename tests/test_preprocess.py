"""Preprocessing against the field's own code and slow hand-written twins, and both streams in time."""

import math
import warnings
from dataclasses import replace

import av
import matplotlib as mpl
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from transformers import Wav2Vec2FeatureExtractor

from avff_lib.errors import AVFFError, MediaError
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.plots import plot_mel_spectrogram, plot_timeline, plot_waveform, show_frames
from avff_lib.preprocess import (
    collate,
    extract_audio,
    extract_frames,
    fbank,
    log_mel,
    normalize_frames,
    normalize_waveform,
    prepare,
    read_window,
    resize_frames,
)
from avff_lib.preprocess.spec import FbankSpec, InputSpec, MelSpec

mpl.use("agg")
SPEC = InputSpec()


def ramp_clip(seconds: float = 3.0, height: int = 48, width: int = 64) -> Clip:
    """Grey level and loudness both rise with time, so that either tells the time it was taken at."""
    times = np.arange(round(seconds * 25)) / 25
    grey = 20 + 200 * times / seconds
    frames = np.broadcast_to(grey[:, None, None, None], (len(times), height, width, 3)).astype(np.uint8)
    frames[:, :2] = 255 - frames[:, :2]  # not one flat colour
    clock = np.arange(round(seconds * 16_000)) / 16_000
    waveform = 0.8 * clock / seconds * np.sin(2 * np.pi * 440 * clock)
    return Clip(frames, times, waveform.astype(np.float32), 16_000, 0.0, seconds)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("media") / "ramp.mp4"
    write_clip(ramp_clip(), path)
    return path


def noise(samples: int = 16_000, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def slow_log_mel(waveform: np.ndarray, rate: int, mel: MelSpec) -> np.ndarray:
    """By hand: mirrored ends, one DFT a column, one triangle a filter (HTK mel), decibels, floor."""
    n, hop = mel.n_fft, mel.hop_length
    padded = np.pad(waveform.astype(np.float64), n // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(n // 2 + 1), np.arange(n)) / n)
    columns = range(1 + len(waveform) // hop)
    power = np.stack([np.abs(turns @ (window * padded[k * hop : k * hop + n])) ** 2 for k in columns], 1)
    top = 2595 * np.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, mel.n_mels + 2) / 2595) - 1)
    bins = np.arange(n // 2 + 1) * rate / n
    filters = np.zeros((mel.n_mels, len(bins)))
    for row, (left, peak, right) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        rising, falling = (bins - left) / (peak - left), (right - bins) / (right - peak)
        filters[row] = np.maximum(0, np.minimum(rising, falling))
    decibels = 10 * np.log10(np.maximum(filters @ power, 1e-10))
    return np.maximum(decibels, decibels.max() - 80)


@pytest.mark.parametrize("mel", [MelSpec(), MelSpec(n_fft=512, hop_length=160, n_mels=40)])
def test_log_mel_equals_the_sum_written_out(mel):
    waveform = noise() * torch.linspace(0, 1, 16_000) ** 3
    found = log_mel(waveform, 16_000, mel)
    assert found.shape == (mel.n_mels, 1 + 16_000 // mel.hop_length)
    np.testing.assert_allclose(found.numpy(), slow_log_mel(waveform.numpy(), 16_000, mel), atol=2e-3)


def slow_fbank(waveform: np.ndarray, spec: FbankSpec) -> np.ndarray:
    """What AudioMAE's data loader does, step by step and in double precision, at 16 kHz."""
    wave = waveform.astype(float) - waveform.astype(float).mean()
    length, shift = int(16 * spec.frame_length), int(16 * spec.frame_shift)
    size = 2 ** math.ceil(math.log2(length))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))
    edges = np.linspace(*(1127 * np.log(1 + f / 700) for f in (20, 8000)), spec.num_mel_bins + 2)
    mels = 1127 * np.log(1 + np.arange(size // 2) * 16_000 / size / 700)  # of each frequency
    columns = []
    for start in range(0, len(wave) - length + 1, shift):
        part = wave[start : start + length]
        part = part - part.mean()
        part = part - 0.97 * np.append(part[0], part[:-1])  # pre-emphasis
        power = np.abs(np.fft.rfft(part * hann, size)[:-1]) ** 2
        column = []
        for left, centre, right in np.lib.stride_tricks.sliding_window_view(edges, 3):
            rising, falling = (mels - left) / (centre - left), (right - mels) / (right - centre)
            column.append(power @ np.clip(np.minimum(rising, falling), 0, None))
        columns.append(np.log(np.maximum(column, np.finfo(np.float32).eps)))
    return np.array(columns).T


@pytest.mark.parametrize("spec", [FbankSpec(), FbankSpec(frame_shift=4.0), FbankSpec(40, 16.0, 5.0)])
def test_fbank_equals_audiomaes_preprocessing_step_by_step(spec):
    waveform = 0.1 * noise(8000) + 0.02  # not around 0
    found = fbank(waveform, 16_000, spec).numpy()
    np.testing.assert_allclose(found, slow_fbank(waveform.numpy(), spec), atol=2e-3)


def test_fbank_has_neither_a_floor_of_the_window_nor_columns_beyond_it():
    """Both differ from `log_mel`, whose quiet parts depend on the loudest one."""
    quiet = 1e-4 * noise(8000)
    loud_later = torch.cat([quiet, 0.5 * noise(8000, seed=1)])
    alone, before = fbank(quiet), fbank(loud_later)
    assert alone.shape == (128, 1 + (8000 - 400) // 160)
    # Apart from the mean of the whole waveform, which each column loses anyway.
    torch.testing.assert_close(before[:, : alone.shape[1]], alone, atol=1e-2, rtol=0)
    assert fbank(torch.zeros(400)).unique().tolist() == pytest.approx([math.log(2**-23)])
    with pytest.raises(ValueError, match="of 25 ms or more"):
        fbank(torch.zeros(399))


def test_windows_of_16_ms_leave_filters_empty_that_those_of_25_ms_fill():
    """Why the base preset has AudioMAE's windows and not the shorter ones that are commonly reported."""
    empty = [
        int((fbank(noise(), 16_000, FbankSpec(frame_length=length)).std(dim=1) == 0).sum())
        for length in (16.0, 25.0)
    ]
    assert empty == [13, 1]


def test_log_mel_of_a_tone_peaks_in_its_band_and_at_its_time():
    waveform = torch.zeros(16_000)
    clock = torch.arange(4096) / 16_000
    waveform[8192 : 8192 + 4096] = torch.sin(2 * torch.pi * 1000 * clock)
    band, column = divmod(int(log_mel(waveform).argmax()), 32)
    assert column * 512 / 16_000 == pytest.approx(0.64, abs=0.1)
    peaks = 700 * (10 ** (np.linspace(0, 2840.02, 66)[1:-1] / 2595) - 1)
    assert band == np.abs(peaks - 1000).argmin()


def test_standardise_equals_the_checkpoints_own_extractor():
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    for waveform in (noise(), noise() * 1e-4, noise() * 5 + 0.2, torch.zeros(16_000), torch.ones(16_000)):
        theirs = extractor(waveform.numpy(), sampling_rate=16_000).input_values[0]
        np.testing.assert_allclose(normalize_waveform(waveform).numpy(), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_constant_sound_gives_no_nan(level):
    clip = replace(ramp_clip(), waveform=np.full(48_000, level, np.float32))
    for audio in ("waveform", "mel"):
        assert prepare(clip, replace(SPEC, audio=audio)).audio.isfinite().all()


def test_frames_equal_timms_own_transform():
    """Resize, crop, scale and normalise as the checkpoint's preprocessing does (without its border cut)."""
    model = timm.create_model("vit_base_patch16_224", pretrained=False, depth=1)
    config = resolve_model_data_config(model)
    assert config["mean"] == SPEC.mean
    assert config["std"] == SPEC.std
    assert config["input_size"] == (3, SPEC.image_size, SPEC.image_size)
    theirs = create_transform(**{**config, "crop_pct": 1.0})
    image = np.random.default_rng(0).integers(0, 256, (300, 420, 3), dtype=np.uint8)
    mine = normalize_frames(resize_frames(image[None], SPEC.image_size), SPEC.mean, SPEC.std)[0]
    # Two implementations may round a byte apart: 2/255 on the scale of the output.
    torch.testing.assert_close(mine, theirs(Image.fromarray(image)), atol=2.1 / 255, rtol=0)


def test_resizing_fine_stripes_gives_their_mean_not_moire():
    stripes = np.zeros((1, 448, 448, 3), np.uint8)
    stripes[:, :, ::2] = 200
    small = resize_frames(stripes, 112).float()[..., 8:-8]
    assert (small - 100).abs().max() <= 2


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 48), (225, 223), (7, 3), (224, 224)])
def test_any_size_becomes_the_square_wanted(height, width):
    frames = np.zeros((2, height, width, 3), np.uint8)
    frames[:, height // 2, width // 2] = 255
    small = resize_frames(frames[:, :, ::-1], 224)
    assert small.shape == (2, 3, 224, 224)
    assert small.dtype == torch.uint8


def test_frames_scaled_already_are_refused():
    with pytest.raises(TypeError, match="uint8"):
        normalize_frames(torch.rand(1, 3, 8, 8), SPEC.mean, SPEC.std)


def test_prepare_takes_frames_by_time_where_the_rate_varies():
    clip = ramp_clip(1.0)
    kept = np.r_[0:5, 9:25]  # four frames are missing
    varying = replace(clip, frames=clip.frames[kept], times=clip.times[kept])
    levels = prepare(varying, replace(SPEC, image_size=48)).frames[0, :, 0, 24, 24]
    shown = ((levels / 2 + 0.5) * 255 - 20) / 200  # the time that each grey level tells
    late = SPEC.frame_times - shown.numpy()
    # What is on the screen; the next frame only where that is nearer and comes within 0.05 s.
    assert late.min() > -0.055
    assert late.max() < 0.155  # the hole is 0.2 s
    assert np.abs(np.delete(late, [3, 4, 5])).max() < 0.026  # half a frame, and the byte's rounding


def test_prepare_shows_what_is_on_the_screen_where_the_picture_freezes():
    clip = ramp_clip(6.0)
    kept = (clip.times <= 1.5) | (clip.times >= 4.5)  # the frame at 1.48 s stays for three seconds
    frozen = replace(clip, frames=clip.frames[kept], times=clip.times[kept])
    spec = replace(SPEC, image_size=48)
    for start in np.arange(0, 5, 0.19):
        window = frozen.window(start, 1.0)
        levels = prepare(window, spec).frames[0, :, 0, 24, 24].numpy()
        shown = ((levels / 2 + 0.5) * 255 - 20) / 200 * 6
        wanted = start + spec.frame_times
        in_freeze = (wanted > 1.5) & (wanted < 4.47)
        np.testing.assert_allclose(shown[in_freeze], 1.48, atol=0.04)
        np.testing.assert_allclose(shown[~in_freeze], wanted[~in_freeze], atol=0.1)


def test_prepare_takes_windows_that_end_on_half_a_sample():
    clip = ramp_clip(3.0)
    for halves in (32_001, 32_003, 47_999):
        spec = replace(SPEC, duration=halves / 32_000, image_size=16)
        for start in np.arange(0, 1, 0.1) + 0.5 / 16_000:
            assert prepare(clip.window(start, spec.duration), spec).audio.shape == (1, (halves + 1) // 2)


def test_prepare_refuses_what_would_need_padding_or_guessing():
    clip = ramp_clip(1.0)
    with pytest.raises(AVFFError, match="longer window"):
        prepare(clip.window(0.2, 0.8), SPEC)
    with pytest.raises(AVFFError, match="longer window"):
        prepare(replace(clip, frames=clip.frames[:0], times=clip.times[:0]), SPEC)
    with pytest.raises(AVFFError, match="8000 Hz"):
        prepare(replace(clip, sample_rate=8000), SPEC)


def test_collate_keeps_samples_apart():
    clips = [ramp_clip(1.0), ramp_clip(3.0)]
    for audio in ("waveform", "mel"):
        spec = replace(SPEC, audio=audio, image_size=32)
        alone = [prepare(clip, spec) for clip in clips]
        batch = collate(alone)
        assert batch.frames.shape == (2, 16, 3, 32, 32)
        assert batch.audio.shape == ((2, 16_000) if audio == "waveform" else (2, 64, 32))
        torch.testing.assert_close(batch.audio[1:], alone[1].audio)
        assert not torch.equal(batch.audio[0], batch.audio[1])


def test_the_documented_functions_show_and_hear_the_same_moment(file):
    def moments(**window):
        frames = extract_frames(file, **window)
        waveform, mel = extract_audio(file, **window)
        assert frames.shape == (16, 3, 224, 224)
        assert frames.dtype == torch.float32
        assert frames.abs().max() <= 1
        assert waveform.shape == (16_000,)
        assert mel.shape == (64, 32)
        seen = ((frames.mean() / 2 + 0.5) * 255 - 20) / 200 * 3
        heard = waveform.square().mean().sqrt() * 2**0.5 / 0.8 * 3
        return float(seen), float(heard)

    for start in (None, 0.0, 1.7):
        middle = 1.5 if start is None else start + 0.5
        # Encoders and colour conversion move grey levels and loudness a little.
        assert moments(start=start) == pytest.approx((middle, middle), abs=0.12)


def test_extract_frames_obeys_its_arguments(file):
    spec = InputSpec(image_size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    frames = extract_frames(file, 4, duration=2.0, spec=spec)
    assert frames.shape == (4, 3, 32, 32)
    assert frames.min() >= 0
    assert (frames.mean(dim=(1, 2, 3)).diff() > 0).all()


def test_extract_frames_are_those_of_the_window(file):
    for window in ({}, {"start": 0.3, "duration": 0.7}, {"start": 0.0, "duration": 3.0}, {"duration": 0.4}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = extract_frames(file, **window)
        clip = read_window(file, **window)
        spec = replace(SPEC, duration=window.get("duration", 1.0))
        torch.testing.assert_close(frames, prepare(clip, spec).frames[0], rtol=0, atol=0)
        torch.testing.assert_close(
            extract_audio(file, **window, sample_rate=16_000)[0].numpy(), clip.waveform
        )


def test_extract_audio_does_not_look_at_the_picture(file, tmp_path):
    data = bytearray(file.read_bytes())
    with av.open(str(file)) as container:
        for packet in list(container.demux(video=0))[30:45]:
            data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        extract_frames(damaged)
    assert any("damaged piece of picture" in str(warning.message) for warning in said)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for start in (None, 0.0, 1.9):
            waveform, _ = extract_audio(damaged, start=start)
            torch.testing.assert_close(waveform, extract_audio(file, start=start)[0], rtol=0, atol=0)
    with pytest.raises(MediaError, match=r"too short: its picture ends at 3\.00 s"):
        extract_audio(damaged, start=2.5)


def test_a_window_outside_the_file_is_refused_not_padded(file):
    for window in ({"start": 2.5}, {"start": 7.0}, {"duration": 5.0}):
        with pytest.raises(MediaError, match="too short"):
            extract_audio(file, **window)


def test_what_was_lost_is_said(tmp_path):
    path = tmp_path / "late.mp4"
    clip = ramp_clip()
    write_clip(replace(clip, waveform=clip.waveform[:16_000]), path)
    with pytest.warns(UserWarning, match="no sound from 1"):
        waveform, mel = extract_audio(path, start=0.5)
    assert waveform.shape == (16_000,)
    assert mel.isfinite().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_window(path, start=0.0, duration=0.9).duration == 0.9


def test_repeated_frames_are_said(file):
    with pytest.warns(UserWarning, match="shows 5 frames in this window; some of the 16 are repeated"):
        assert len(extract_frames(file, duration=0.2)) == 16


def test_figures_show_the_data():
    mel = log_mel(noise())
    ax = plot_mel_spectrogram(mel, start=1.0)
    image = ax.images[0]
    np.testing.assert_array_equal(image.get_array(), mel.numpy())
    assert image.colorbar.ax.get_ylabel() == "power (dB)"
    assert "time (s)" in ax.get_xlabel()
    assert ax.get_xlim() == pytest.approx((1.0, 1.992))
    ticks = {label.get_text(): y for y, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)}
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)
    assert ticks["1000"] == pytest.approx(float(log_mel(tone)[:, 16].argmax()), abs=0.5)

    assert len(plot_waveform(noise(), start=2.0).lines[0].get_xdata()) == 16_000
    ax = show_frames(ramp_clip().frames[:4], ["a", "b", "c", "d"])
    assert ax.images[0].get_array().shape == (48, 4 * 64 + 3 * 2, 4)  # RGBA: the page shines through the gaps

    ax = plot_timeline([(0, 1), (0.5, 1.5), (1, 2)], [0.1, None, 0.9], 0.5, [(1.0, 2.0)])
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sorted(legend) == sorted(
        ["fake part", "window predicted real", "window predicted fake", "not scored", "threshold 0.50"]
    )
