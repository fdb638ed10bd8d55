"""Files in, clips out: every file here is made on the spot, with a flash and a tone that begin together."""

import resource
import struct
import tracemalloc
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from avff_lib.errors import MediaError
from avff_lib.media import buffer, decode, streams
from avff_lib.media.clip import Clip
from avff_lib.media.decode import iter_clips, probe, read_clip
from avff_lib.media.encode import write_clip

ONSET = 1.0  # seconds, of the flash and of the tone
FORMATS = [  # name, video codec, pixel format, size, frames a second, audio codec, rate, channels
    ("h264.mp4", "libx264", "yuv420p", (64, 48), 25, "aac", 48_000, "stereo"),
    ("ten_bit.mp4", "libx264", "yuv420p10le", (64, 48), 50, "aac", 44_100, "mono"),
    ("odd_444.mkv", "libx264", "yuv444p", (63, 47), Fraction(30_000, 1001), "flac", 96_000, "mono"),
    ("slow.mp4", "libx264", "yuv420p", (64, 48), 1, "aac", 48_000, "mono"),
    ("hevc.mp4", "libx265", "yuv420p", (64, 64), 24, "aac", 48_000, "5.1"),
    ("vp9.webm", "libvpx-vp9", "yuv420p", (64, 48), 60, "libopus", 48_000, "stereo"),
    ("av1.mkv", "libsvtav1", "yuv420p", (64, 64), 25, "libopus", 16_000, "mono"),
    ("odd_mjpeg.avi", "mjpeg", "yuvj420p", (63, 47), 12, "pcm_s16le", 8_000, "mono"),
    ("reordered.avi", "libx264", "yuv420p", (64, 48), 25, "pcm_s16le", 48_000, "mono"),
    ("mpeg1.mpg", "mpeg1video", "yuv420p", (64, 48), 25, "mp2", 44_100, "stereo"),
]
QUIET = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"preset": "12"}}


def flash_times(frames_per_second, seconds=3):
    return [Fraction(i) / frames_per_second for i in range(int(seconds * frames_per_second))]


def write_media(
    path, codec="libx264", pixels="yuv420p", size=(64, 48), fps=25, sound="aac", rate=48_000, layout="mono",
    *, times=None, sound_from=0.0, seconds=3, left_half_red=False, tone_from=ONSET, moving=False,
    options=None,
):  # fmt: skip
    """A file whose picture turns white at `ONSET`, and a tone of amplitude 0.5 begins at ``tone_from``."""
    width, height = size
    times = flash_times(fps, seconds) if times is None else times
    ticks = Fraction(1, 1000) if path.suffix == ".mkv" else 1 / Fraction(fps)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps, options={"g": "12"} | (options or QUIET.get(codec, {})))
        video.width, video.height, video.pix_fmt = width, height, pixels
        video.codec_context.time_base = ticks
        # Perceptual noise is another one at each decoding.
        exact = {"aac_pns": "0"} if sound == "aac" else {}
        audio = sound and container.add_stream(sound, rate=rate, layout=layout, options=exact)
        for time in times:
            image = np.full((height, width, 3), 235 if time >= ONSET else 40, np.uint8)
            image[: height // 4] = 120
            if left_half_red:
                image[:, : width // 2] = (200, 20, 20)
            if moving:
                image[:, : 1 + int(20 * time) % width] = 255 - image[0, 0]
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = round(time / ticks), ticks
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound:
            t = np.arange(int(sound_from * rate), seconds * rate) / rate
            tone = (0.5 * np.sin(2 * np.pi * 440 * t) * (t >= tone_from)).astype(np.float32)
            resampler = av.AudioResampler(audio.codec_context.format, layout, rate, frame_size=960)
            wave = av.AudioFrame.from_ndarray(np.tile(tone, (len(audio.layout.channels), 1)), "fltp", layout)
            wave.sample_rate, wave.time_base, wave.pts = rate, Fraction(1, rate), int(sound_from * rate)
            for part in [*resampler.resample(wave), *resampler.resample(None)]:
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
    return path


def onsets(clip):
    """Times at which the picture turns white and at which the tone begins."""
    white = clip.frames.reshape(len(clip.frames), -1).mean(1) > 128
    loud = np.abs(clip.waveform) > 0.2 * np.abs(clip.waveform).max()
    return clip.times[white.argmax()], clip.start + loud.argmax() / clip.sample_rate


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def plain(folder):
    return write_media(folder / "plain.mp4")


@pytest.mark.parametrize("form", FORMATS, ids=[form[0] for form in FORMATS])
def test_every_format_comes_out_in_time_and_in_shape(folder, form):
    name, codec, pixels, (width, height), fps, sound, rate, layout = form
    clip = read_clip(write_media(folder / name, codec, pixels, (width, height), fps, sound, rate, layout))
    assert clip.frames.shape == (int(3 * fps), height, width, 3)
    assert clip.frames.dtype == np.uint8
    np.testing.assert_allclose(np.diff(clip.times), 1 / float(fps), atol=1.1e-3)
    assert clip.duration == pytest.approx(len(clip.times) / fps, abs=0.05)
    assert len(clip.waveform) == round(clip.duration * 16_000)
    assert clip.waveform.dtype == np.float32
    assert 0.2 < np.abs(clip.waveform).max() <= 1
    flash, tone = onsets(clip)
    assert flash == pytest.approx(ONSET, abs=0.05)
    assert tone == pytest.approx(flash, abs=0.015)
    assert clip.warnings == ()
    info = probe(folder / name)
    assert (info.width, info.height, info.sample_rate) == (width, height, 48_000 if "opus" in sound else rate)
    assert info.frame_rate == pytest.approx(float(fps), rel=0.01)
    assert info.duration == pytest.approx(3, abs=0.15)


def test_sound_that_starts_late_is_not_moved(folder):
    clip = read_clip(write_media(folder / "late_sound.mkv", sound="flac", sound_from=0.5))
    np.testing.assert_allclose(onsets(clip), ONSET, atol=0.015)
    assert clip.warnings == ("no sound from 0.00 to 0.50 s; zeros stand there",)


def test_picture_that_starts_late_is_not_moved(folder):
    path = write_media(folder / "late_picture.mkv", times=flash_times(25)[15:])
    clip = read_clip(path)
    np.testing.assert_allclose(onsets(clip), ONSET, atol=0.015)
    assert clip.times[0] == pytest.approx(0.6)
    assert clip.warnings == ("no new frame from 0.00 to 0.60 s",)
    assert next(iter_clips(path, 1, 1)).start == pytest.approx(0.6)
    with pytest.raises(MediaError, match=r"no picture from 0\.00 to 0\.50 s"):
        read_clip(path, 0, 0.5)


def test_frames_are_chosen_by_timestamp(folder):
    milliseconds = [0, 40, 80, 200, 300, 1000, 1040, 1900, 2500, 2960]
    times = [Fraction(ms, 1000) for ms in milliseconds]
    clip = read_clip(write_media(folder / "vfr.mkv", times=times))
    np.testing.assert_allclose(clip.times, np.array(milliseconds) / 1000)
    assert onsets(clip)[0] == 1.0
    assert "no new frame from 1.04 to 1.90 s" in clip.warnings
    part = read_clip(folder / "vfr.mkv", 0.9, 0.5)
    np.testing.assert_allclose(part.times, [0.3, 1.0, 1.04])  # what is on the screen at first, and the new
    np.testing.assert_array_equal(part.frames, clip.frames[4:7])
    np.testing.assert_array_equal(part.waveform, clip.waveform[14_400:22_400])
    still = read_clip(folder / "vfr.mkv", 1.2, 0.5)  # nothing new: the frame on the screen, as it is
    np.testing.assert_allclose(still.times, [1.04])
    assert still.warnings == ("no new frame from 1.20 to 1.70 s",)


def test_what_is_on_the_screen_stands_for_windows_in_a_freeze(folder):
    times = [t for t in flash_times(25, 6) if not 1 < t < 4]
    path = write_media(folder / "freeze.mkv", times=times, seconds=6, moving=True, sound="flac")
    whole = read_clip(path)
    on_screen = np.flatnonzero(whole.times == 1.0)[0]
    for start in (0.0, 0.5, 0.97, 1.0, 1.01, 1.5, 2.0, 2.97, 3.0, 3.5, 3.96, 4.0, 4.5, 5.0):
        window = whole.window(start, 1.0)
        assert len(window.frames) == len(window.times) > 0
        first = np.searchsorted(whole.times, start - 1e-3)
        if 1.0 < start < 3.95:
            first = on_screen
        expected = whole.times[first : np.searchsorted(whole.times, start + 1 - 1e-3)]
        np.testing.assert_array_equal(window.times, expected)
        read = read_clip(path, start, 1.0)
        np.testing.assert_array_equal(read.times, window.times)
        np.testing.assert_array_equal(read.frames, window.frames)
        for time in np.arange(max(start, window.times[0]), start + 1, 0.011):
            shown = window.times[window.nearest_frames(np.array([time]))[0]]
            begun, to_come = window.times[window.times <= time][-1], window.times[window.times > time][:1]
            soon = len(to_come) > 0 and to_come[0] - time < min(0.05, time - begun)
            assert shown == (to_come[0] if soon else begun)
    assert [len(clip.times) for clip in iter_clips(path, 1.0, 1.0)] == [25, 1, 1, 1, 25, 25]


def test_even_frames_are_chosen_to_the_nearest():
    rng = np.random.default_rng(0)
    for rate in (10, 12.5, 24, 25, 30, 60):
        times = np.arange(40) / rate
        clip = Clip(np.zeros((40, 1, 1, 3), np.uint8), times, np.zeros(0), 16_000, 0.0, 40 / rate)
        wanted = np.sort(np.concatenate([rng.uniform(-0.1, 41 / rate, 500), (times[1:] + times[:-1]) / 2]))
        np.testing.assert_array_equal(
            clip.nearest_frames(wanted), np.searchsorted((times[1:] + times[:-1]) / 2, wanted)
        )
    slow = replace(clip, frames=clip.frames[:2], times=np.array([0.0, 1.0]))
    assert slow.nearest_frames(np.array([0.4, 0.6, 0.94, 0.96])).tolist() == [0, 0, 0, 1]


def test_windows_that_begin_or_end_on_half_a_sample_are_of_the_length_they_say():
    rng = np.random.default_rng(0)
    for rate in (8_000, 16_000, 22_050, 44_100):
        for _ in range(300):
            total, first, last = np.sort(rng.integers(0, 4000, 3))[::-1] / 2
            if first == total:
                continue
            start, duration = last / rate, (first - last) / rate
            waveform = np.arange(np.floor(total + 0.5), dtype=np.float32)
            clip = Clip(np.zeros((1, 1, 1, 3), np.uint8), np.zeros(1), waveform, rate, 0.0, total / rate)
            window = clip.window(start, duration)
            assert len(window.waveform) == np.floor(first - last + 0.5)
            if len(window.waveform):
                assert abs(window.waveform[0] - start * rate) <= 1
                inner = window.window(start, duration)
                np.testing.assert_array_equal(inner.waveform, window.waveform)
    with pytest.raises(ValueError, match="outside the clip"):
        clip.window(0.0, clip.duration + 2 / rate)
    with pytest.raises(ValueError, match="outside the clip"):
        clip.window(-2 / rate, clip.duration)


def test_files_are_cut_to_the_length_asked_for_at_half_samples_too(plain):
    whole = read_clip(plain)
    for halves in (3, 101, 16_001, 16_003, 31_999):
        duration = halves / 32_000
        for start in (0.0, 0.5 / 16_000, 1.5 / 16_000, 0.50003125):
            clip = read_clip(plain, start, duration)
            assert len(clip.waveform) == (halves + 1) // 2
            np.testing.assert_array_equal(clip.waveform, whole.window(start, duration).waveform)


@pytest.mark.parametrize(
    ("matrix", "where"),  # a, b, c, d of the display matrix; where the red half is then seen
    [
        ((1, 0, 0, 1), "left"), ((0, 1, -1, 0), "top"), ((-1, 0, 0, -1), "right"), ((0, -1, 1, 0), "bottom"),
        ((-1, 0, 0, 1), "right"), ((1, 0, 0, -1), "left"), ((0, 1, 1, 0), "top"),
    ],
)  # fmt: skip
def test_rotated_and_mirrored_pictures_come_out_upright(folder, matrix, where):
    data = write_media(folder / "upright.mp4", seconds=1, left_half_red=True).read_bytes()

    def packed(a, b, c, d):
        return struct.pack(">9i", *(v << 16 for v in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)

    track = data.index(b"tkhd")  # the video's, written first
    turned = folder / "turned.mp4"
    turned.write_bytes(data[:track] + data[track:].replace(packed(1, 0, 0, 1), packed(*matrix), 1))
    frame = read_clip(turned).frames[0].astype(int)
    assert frame.shape == ((48, 64, 3) if where in ("left", "right") else (64, 48, 3))
    assert (probe(turned).height, probe(turned).width) == frame.shape[:2]
    red = frame[..., 0] - frame[..., 1] > 80
    halves = {"left": red[:, :28], "right": red[:, -28:], "top": red[:28], "bottom": red[-28:]}
    assert [side for side, half in halves.items() if half.mean() > 0.95] == [where]


def test_windows_cover_the_file_and_agree_with_the_whole(plain):
    whole = read_clip(plain)
    clips = list(iter_clips(plain, 0.8, 0.6))
    np.testing.assert_allclose([c.start for c in clips], [0, 0.6, 1.2, 1.8, 2.2], atol=1e-6)
    for clip in clips:
        same = whole.window(clip.start, clip.duration)
        np.testing.assert_array_equal(clip.times, same.times)
        np.testing.assert_array_equal(clip.frames, same.frames)
        np.testing.assert_array_equal(clip.waveform, same.waveform)
    assert [c.start for c in iter_clips(plain, 1.0, 1.0)] == [0, 1, 2]  # nothing left over: none added
    assert len(list(iter_clips(plain, 3.0, 1.0))) == 1
    (short,) = iter_clips(plain, 5.0, 1.0, min_duration=1.0)
    np.testing.assert_array_equal(short.frames, whole.frames)
    assert short.duration == pytest.approx(3.0)
    (short,) = iter_clips(
        plain, 5.0, 1.0, min_duration=3.03
    )  # less than a frame is missing: filled with silence
    assert len(short.window(0.0, 3.03).waveform) == round(3.03 * 16_000)


def test_memory_does_not_grow_with_the_file(folder):
    path = write_media(folder / "long.mp4", size=(128, 96), seconds=40)  # 37 MB of RGB frames
    tracemalloc.start()
    assert sum(1 for _ in iter_clips(path, 1.0, 0.5)) == 79
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()


def test_large_frames_are_shrunk_and_absurd_ones_refused(folder, plain, monkeypatch):
    assert read_clip(plain, max_side=32).frames.shape[1:3] == (24, 32)
    monkeypatch.setattr(streams, "MAX_PIXELS", 1000)
    with pytest.raises(MediaError, match="64x48"):
        read_clip(plain)


def test_many_frames_a_second_are_shrunk_rather_than_refused(folder, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 256, (1080, 48, 64, 3), dtype=np.uint8)
    clip = Clip(frames, np.arange(1080) / 120, np.zeros(144_000, np.float32), 16_000, 0.0, 9.0)
    write_clip(clip, folder / "slow_motion.mp4")
    for module in (buffer, decode):
        monkeypatch.setattr(module, "MAX_CLIP_BYTES", 600 * 48 * 64 * 3)  # as for 7 s of 1280 x 720
    chunks = list(iter_clips(folder / "slow_motion.mp4", 4.0, 3.5, min_duration=1.0))
    assert [round(chunk.start, 1) for chunk in chunks] == [0.0, 3.5, 5.0]
    assert {chunk.frames.shape[1:3] for chunk in chunks} == {(28, 37)}  # 48 x 64 less a square root of 1/3
    monkeypatch.undo()
    assert next(iter_clips(folder / "slow_motion.mp4", 4.0, 3.5)).frames.shape[1:3] == (48, 64)


def test_damage_is_reported_and_not_filled_in(folder, plain):
    data = bytearray(plain.read_bytes())
    with av.open(str(plain)) as container:
        spoilt = [p for p in container.demux() if p.pts is not None and 1.3 <= p.pts * p.time_base < 1.7]
    for packet in spoilt:
        data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    damaged = folder / "damaged.mp4"
    damaged.write_bytes(data)
    clip = read_clip(damaged)
    assert not ((clip.times > 1.35) & (clip.times < 1.65)).any()
    assert (clip.waveform[22_400:25_600] == 0).all()
    for said in ("no new frame", "no sound", "damaged piece of picture", "damaged piece of sound"):
        assert any(said in warning for warning in clip.warnings)
    assert next(iter_clips(damaged, 1.0, 1.0)).warnings == ()  # the first second is intact


def test_a_cut_file_is_answered_as_far_as_it_goes(folder):
    whole = write_media(folder / "whole.mkv")
    cut = folder / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    clip = read_clip(cut)
    assert 0.5 < clip.duration < 2.5
    assert any("the file promises 3.0" in warning for warning in clip.warnings)


def test_what_cannot_be_answered_says_why_in_a_sentence(folder, plain):
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("not a film\n" * 100)
    (folder / "no_index.mp4").write_bytes(plain.read_bytes()[:-3000])
    write_media(folder / "mute.mp4", sound=None)
    write_media(folder / "moving.gif", "gif", "rgb8", sound=None)
    with av.open(str(plain)) as source, av.open(str(folder / "song.m4a"), "w", format="mp4") as song:
        stream = song.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                song.mux(packet)
    data = bytearray(plain.read_bytes())
    with av.open(str(plain)) as container:
        for p in list(container.demux(video=0))[:-1]:  # the last is empty
            data[p.pos : p.pos + p.size] = bytes(p.size)
    (folder / "noise.mp4").write_bytes(data)
    cases = {
        "missing.mp4": "does not exist", "": "is not a file", "empty.mp4": "is empty",
        "text.mp4": "cannot be read as a media file", "no_index.mp4": "cannot be read as a media file",
        "mute.mp4": "has no sound", "moving.gif": "has no sound", "song.m4a": "has no picture",
        "noise.mp4": "cannot be decoded",
    }  # fmt: skip
    for name, reason in cases.items():
        for use in (read_clip, probe, lambda path: next(iter_clips(path, 1, 1))):
            with pytest.raises(MediaError, match=reason) as raised:
                use(folder / name)
            assert "\n" not in str(raised.value)
    for start, duration in ((2.5, 1), (9, None)):
        with pytest.raises(MediaError, match="too short"):
            read_clip(plain, start, duration)
    with pytest.raises(MediaError, match="too short"):
        next(iter_clips(plain, 4, 1))
    with pytest.raises(MediaError, match=r"3.00 s and 3.50 s are needed"):
        next(iter_clips(plain, 9, 1, min_duration=3.5))


def tracks_together(path, *sources):
    """The picture of the first file, and the sound of all."""
    files = [av.open(str(source)) for source in (sources[0], *sources)]
    inputs = [file.streams[min(number, 1)] for number, file in enumerate(files)]  # the picture is first
    with av.open(str(path), "w") as target:
        outputs = [target.add_stream_from_template(stream) for stream in inputs]
        packets = [
            (packet.dts * packet.time_base, number, packet)
            for number, (file, stream) in enumerate(zip(files, inputs, strict=True))
            for packet in file.demux(stream)
            if packet.dts is not None
        ]
        for _, number, packet in sorted(packets, key=lambda item: item[:2]):
            packet.stream = outputs[number]
            target.mux(packet)
    return path


def loudness(clip):
    return np.abs(clip.waveform).max()


@pytest.fixture(scope="module")
def silent(folder):
    return write_media(folder / "silent.mp4", tone_from=99)


def spoil_sound(path, track):
    """Overwrite every packet of a track."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.audio[track]):
            if packet.pos is not None:
                data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_silent_track_gives_way_to_one_with_sound(folder, plain, silent, suffix):
    path = tracks_together(folder / f"two{suffix}", silent, plain)
    clip = read_clip(path)
    assert onsets(clip)[1] == pytest.approx(ONSET, abs=0.05)
    assert clip.warnings == ("sound track 1 is silent; track 2 is used",)
    for part in iter_clips(path, 1.0, 1.0):
        assert clip.warnings[0] in part.warnings
    assert loudness(read_clip(path, audio_stream=1)) < 1e-3
    chosen = read_clip(path, audio_stream=2)
    np.testing.assert_array_equal(chosen.waveform, clip.waveform)
    assert chosen.warnings == ()
    for use in (read_clip, probe, lambda path, **options: next(iter_clips(path, 1, 1, **options))):
        for number in (0, 3):
            with pytest.raises(MediaError, match=f"no sound track {number}; expected a number from 1 to 2"):
                use(path, audio_stream=number)


def test_the_default_track_is_kept_if_it_sounds_at_all(folder, plain, silent):
    late = write_media(folder / "late.mp4", seconds=12, tone_from=11, size=(16, 16))
    early = write_media(folder / "early.mp4", seconds=12, size=(16, 16))
    clip = read_clip(tracks_together(folder / "late_first.mkv", late, early))
    assert onsets(clip)[1] == pytest.approx(11, abs=0.05)
    assert clip.warnings == ()
    clip = read_clip(tracks_together(folder / "sound_first.mp4", plain, silent))
    assert (loudness(clip), clip.warnings) == (pytest.approx(0.5, abs=0.1), ())
    clip = read_clip(tracks_together(folder / "both_silent.mp4", silent, silent))
    assert clip.warnings == ("the sound is silent throughout",)


def test_a_track_that_cannot_be_decoded_gives_way_to_one_that_can(folder, plain, silent):
    clip = read_clip(spoil_sound(tracks_together(folder / "spoilt_first.mp4", silent, plain), 0))
    assert loudness(clip) > 0.4
    assert clip.warnings == ("sound track 1 cannot be decoded; track 2 is used",)
    clip = read_clip(spoil_sound(tracks_together(folder / "spoilt_second.mp4", silent, plain), 1))
    assert clip.warnings == ("the sound is silent throughout",)
    with pytest.raises(MediaError, match="no part of its sound is intact"):
        read_clip(folder / "spoilt_first.mp4", audio_stream=1)


def test_sound_goes_on_where_its_rate_and_channels_change(folder):
    """Several frames share a timestamp in MPEG; the others' are guessed by the rate at the beginning."""
    for first, second in (((22_050, "stereo"), (48_000, "mono")), ((48_000, "mono"), (16_000, "stereo"))):
        parts = []
        for number, (rate, layout) in enumerate((first, second)):
            path = folder / f"part{number}.ts"
            with av.open(str(path), "w") as container:
                video = container.add_stream("libx264", rate=25, options={"g": "12"})
                video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
                audio = container.add_stream("aac", rate=rate, layout=layout, options={"aac_pns": "0"})
                t = np.arange(2 * rate) / rate
                tone = (0.5 * np.sin(2 * np.pi * (500 + 500 * number) * t)).astype(np.float32)
                wave = av.AudioFrame.from_ndarray(
                    np.tile(tone, (len(audio.layout.channels), 1)), "fltp", layout
                )
                wave.sample_rate, wave.time_base, wave.pts = rate, Fraction(1, rate), 2 * number * rate
                container.mux([*audio.encode(wave), *audio.encode(None)])
                for i in range(50):
                    frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * i, np.uint8))
                    frame.pts, frame.time_base = 50 * number + i, Fraction(1, 25)
                    container.mux(video.encode(frame))
                container.mux(video.encode(None))
            parts.append(path.read_bytes())
        (folder / "joined.ts").write_bytes(b"".join(parts))
        clip = read_clip(folder / "joined.ts")
        assert clip.duration == pytest.approx(4, abs=0.1)
        assert not any("no sound" in warning for warning in clip.warnings)
        window = np.hanning(800)
        for middle in np.arange(0.1, 3.8, 0.05):
            if abs(middle - 2) > 0.1:
                first_sample = round(middle * 16_000) - 400
                spectrum = np.abs(np.fft.rfft(clip.waveform[first_sample : first_sample + 800] * window))
                assert spectrum.argmax() * 20 == (500 if middle < 2 else 1000)
                assert spectrum.max() == pytest.approx(0.5 * window.sum() / 2, rel=0.1)


def test_silence_and_a_flat_picture_are_mentioned(tmp_path):
    frames = np.full((25, 48, 64, 3), 90, np.uint8)
    write_clip(
        Clip(frames, np.arange(25) / 25, np.zeros(16_000, np.float32), 16_000, 0, 1), tmp_path / "a.mp4"
    )
    assert read_clip(tmp_path / "a.mp4").warnings == (
        "the sound is silent throughout",
        "the picture is one flat colour throughout",
    )


@pytest.fixture
def clip():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :64]
    frames = [np.stack([2 * x + k, 3 * y, 128 + 0 * x], -1) for k in range(80)]
    waveform = np.convolve(rng.normal(0, 0.1, 51_200), np.ones(8) / 8, "same").astype(np.float32)
    return Clip(np.array(frames, np.uint8), 2 + np.arange(80) / 25, waveform, 16_000, 2.0, 3.2)


def test_written_clips_read_back_the_same_and_in_time(clip, tmp_path):
    write_clip(clip, tmp_path / "a.mp4")
    write_clip(clip, tmp_path / "b.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    back = read_clip(tmp_path / "a.mp4")
    np.testing.assert_allclose(back.times, clip.times - 2, atol=1e-5)
    assert back.duration == pytest.approx(3.2)
    assert np.abs(back.frames.astype(int) - clip.frames).mean() < 4
    lags = np.arange(-40, 41)
    match = [np.dot(np.roll(clip.waveform, lag), back.waveform) for lag in lags]
    assert lags[np.argmax(match)] == 0
    assert np.corrcoef(clip.waveform, back.waveform)[0, 1] > 0.9


def test_what_cannot_be_written_says_why_and_leaves_nothing(clip, tmp_path):
    with pytest.raises(MediaError, match="No such file or directory"):
        write_clip(clip, tmp_path / "nowhere" / "a.mp4")
    odd = Clip(clip.frames[:, :47], clip.times, clip.waveform, 16_000, 2.0, 3.2)
    with pytest.raises(MediaError, match=r"64x47.*even sizes"):
        write_clip(odd, tmp_path / "a.mp4")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # stands in for a full disk
    try:
        with pytest.raises(MediaError, match="cannot be written"):
            write_clip(clip, tmp_path / "a.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
