"""A file piece by piece, from the middle, and picture by picture: always what decoding it whole gives."""

import gc
import os
import tracemalloc
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from test_media import flash_times, write_media

from avff_lib.errors import MediaError
from avff_lib.media.clip import Clip, to_samples
from avff_lib.media.decode import iter_pieces, read_clip
from avff_lib.media.encode import write_clip
from avff_lib.media.picture import PLANAR_FORMATS, ArrayPicture, PlanarPicture
from avff_lib.media.shots import ShotDetector, detect_cuts
from avff_lib.media.streams import Streams


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pieces")


@pytest.fixture(scope="module")
def plain(folder):
    return write_media(folder / "plain.mp4")


def pieces_of(path, seconds, **options):
    """The pieces, and the times of the frames handed on before each was given out."""
    handed, before = [], []

    def consume(picture, time):
        handed.append(time)
        return picture.shrunk(4, 4)

    pieces = []
    for piece in iter_pieces(path, seconds, consume, **options):
        pieces.append(piece)
        before.append(list(handed))
    return pieces, before


def late_sound_and_picture(path):
    return write_media(path, times=[t + Fraction(13, 1000) for t in flash_times(25)[3:]], sound="flac")


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.00003125, 3.0, 10.0])
@pytest.mark.parametrize("kind", ["plain.mp4", "ntsc.mp4", "late.mkv", "slow.mp4", "reordered.avi"])
def test_pieces_are_the_file_without_a_frame_or_sample_lost_or_doubled(folder, kind, seconds):
    path = folder / kind
    if kind == "late.mkv":
        late_sound_and_picture(path)
    else:
        fps = {"ntsc.mp4": Fraction(30_000, 1001), "slow.mp4": 5}.get(kind, 25)
        write_media(path, fps=fps, sound="pcm_s16le" if kind.endswith("avi") else "aac")
    whole = read_clip(path)
    pieces, before = pieces_of(path, seconds, lookahead=0.25)
    clips = [clip for clip, _ in pieces]
    assert [last for _, last in pieces] == [False] * (len(pieces) - 1) + [True]
    np.testing.assert_array_equal(np.concatenate([clip.times for clip in clips]), whole.times)
    assert before[-1] == whole.times.tolist()  # each frame once, in order
    waveform = np.concatenate([clip.waveform for clip in clips])
    first = to_samples(whole.times[0], 16_000)
    expected = whole.waveform[first:]
    np.testing.assert_array_equal(waveform, expected)
    size = to_samples(seconds, 16_000)
    for k, (clip, handed) in enumerate(zip(clips, before, strict=True)):
        assert clip.start == (first + k * size) / 16_000
        assert len(clip.waveform) == to_samples(clip.duration, 16_000)
        assert clip.frames.shape == (len(clip.times), 4, 4, 3)
        assert (clip.times >= clip.start - 0.5 / 16_000).all()
        assert (clip.times < clip.end - 0.4 / 16_000).all()
        if k < len(clips) - 1:
            assert clip.duration == pytest.approx(seconds, abs=0.6 / 16_000)
        expected_times = whole.times[whole.times < clip.end + 0.24]
        assert handed[: len(expected_times)] == expected_times.tolist()
    assert clips[-1].duration < seconds + 0.25


def test_pieces_say_what_is_missing_in_them(folder):
    times = [t for t in flash_times(25, 4) if not 1.5 < t < 3.5]
    path = write_media(
        folder / "frozen.mkv", times=times, seconds=4, sound="flac", sound_from=0.5, tone_from=2.1
    )
    pieces, _ = pieces_of(path, 1.0)
    warnings = [clip.warnings for clip, _ in pieces]
    assert warnings[0] == (
        "no sound from 0.00 to 0.50 s; zeros stand there",
        "the sound is silent throughout",
    )
    assert warnings[1] == ("no new frame from 1.48 to 2.00 s", "the sound is silent throughout")
    assert warnings[2] == ("no new frame from 2.00 to 3.00 s",)
    assert warnings[3] == ("no new frame from 3.00 to 3.52 s",)
    assert pieces[2][0].frames.shape == (0, 4, 4, 3)  # what is on the screen belongs to the piece before


def test_a_file_too_short_for_pieces_is_refused(plain):
    with pytest.raises(MediaError, match=r"3.00 s and 3.50 s are needed"):
        pieces_of(plain, 4.0, min_duration=3.5)
    ((clip, last),) = pieces_of(plain, 4.0, min_duration=3.03)[0]
    assert (last, len(clip.waveform)) == (True, to_samples(3.03, 16_000))  # less than a frame of silence


def test_frames_too_fast_are_thinned(folder):
    frames = np.random.default_rng(0).integers(0, 256, (240, 16, 16, 3), dtype=np.uint8)
    for rate, kept in ((120, 60), (60, 60), (61, 61), (25, 25)):
        count = 2 * rate
        clip = Clip(frames[:count], np.arange(count) / rate, np.zeros(32_000, np.float32), 16_000, 0.0, 2.0)
        write_clip(clip, folder / "fast.mp4")
        pieces, before = pieces_of(folder / "fast.mp4", 1.0)
        np.testing.assert_allclose(before[-1], np.arange(2 * kept) / kept, atol=1e-4)
        assert [clip.duration for clip, _ in pieces] == pytest.approx([1.0, 1.0])
        assert not any("no new frame" in warning for clip, _ in pieces for warning in clip.warnings)


def test_pieces_take_memory_that_does_not_grow(folder):
    path = write_media(folder / "long.mp4", size=(128, 96), seconds=20)  # 18 MB of RGB frames
    tracemalloc.start()
    assert sum(1 for _ in iter_pieces(path, 1.0, lambda picture, _: picture.shrunk(4, 4))) == 20
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="no list of threads")
def test_decoders_stop_when_a_file_is_left_early(plain):
    gc.collect()
    gc.disable()  # nothing waits for a cycle of references to be found
    try:
        threads = len(os.listdir("/proc/self/task"))
        for _ in range(20):
            next(iter_pieces(plain, 0.2, lambda picture, _: picture.shrunk(4, 4)))
            with Streams(plain, 16_000, 1280) as streams:
                next(streams.frames)
            del streams
            assert len(os.listdir("/proc/self/task")) == threads
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("name", "codec", "sound", "rate", "seeks"),
    [
        ("a.mp4", "libx264", "aac", 44_100, True), ("a.mkv", "libx264", "aac", 48_000, True),
        ("pcm.mov", "mpeg4", "pcm_s16le", 22_050, True), ("a.webm", "libvpx-vp9", "libopus", 48_000, True),
        ("hevc.mp4", "libx265", "aac", 48_000, True), ("open_groups.mp4", "libx264", "aac", 48_000, False),
        ("a.avi", "mpeg4", "mp2", 44_100, False), ("a.ts", "libx264", "aac", 48_000, False),
        ("a.mpg", "mpeg1video", "mp2", 44_100, False),
    ],
)  # fmt: skip
def test_from_the_middle_comes_what_comes_from_the_beginning(
    folder, monkeypatch, name, codec, sound, rate, seeks
):
    options = {"x264-params": "open-gop=1"} if name == "open_groups.mp4" else None
    path = write_media(
        folder / name, codec, size=(64, 64), sound=sound, rate=rate, seconds=5, moving=True, tone_from=0.2,
        options=options,
    )  # fmt: skip
    decoded = []
    decode = Streams._decoded

    def counted(self, frames):
        for frame in decode(self, frames):
            decoded.append(frame.time)
            yield frame

    monkeypatch.setattr(Streams, "_decoded", counted)
    starts = np.random.default_rng(0).uniform(0, 4.4, 12).tolist()
    lengths = [0.2, 0.5, 1.0, 0.31] * 3
    sought = [
        read_clip(path, start, min(length, 4.9 - start))
        for start, length in zip(starts, lengths, strict=True)
    ]
    decoded.clear()
    read_clip(path, 4.5, 0.2)
    assert (len(decoded) < 50) == seeks  # of 118; key frames are half a second apart
    monkeypatch.setattr(Streams, "seek", lambda self, time: None)
    for clip in sought:
        whole = read_clip(path, clip.start, clip.duration)
        np.testing.assert_array_equal(clip.times, whole.times)
        np.testing.assert_array_equal(clip.frames, whole.frames)
        np.testing.assert_allclose(clip.waveform, whole.waveform, rtol=0, atol=1e-6)
        assert clip.warnings == whole.warnings


def test_what_cannot_be_sought_exactly_is_decoded_from_the_beginning(folder, plain):
    """Sound that pauses in mid-file is not where counting frames from the beginning would place it."""
    path = folder / "pause.mp4"
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            sound = packet.stream.type == "audio"
            if packet.dts is None or (sound and 24_000 < packet.pts < 38_880):
                continue
            if sound and packet.pts > 24_000:
                packet.pts, packet.dts = packet.pts + 300, packet.dts + 300
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    whole = read_clip(path)
    assert any("no sound from 0.5" in warning for warning in whole.warnings)
    part = read_clip(path, 1.9, 0.5)
    np.testing.assert_array_equal(part.waveform, whole.waveform[30_400:38_400])
    np.testing.assert_array_equal(part.frames, whole.window(1.9, 0.5).frames)


@pytest.mark.parametrize("form", sorted(PLANAR_FORMATS))
def test_a_part_of_a_picture_is_that_part_of_its_rgb(form):
    rng = np.random.default_rng(0)
    for width, height in ((64, 48), (62, 46), (2, 2)):
        frame = av.VideoFrame(width, height, form)
        for plane in frame.planes:
            plane.update(rng.integers(0, 256, plane.buffer_size, dtype=np.uint8).tobytes())
        frame.colorspace = 1  # BT.709, unlike the default
        picture = PlanarPicture(frame)
        rgb = picture.rgb()
        assert picture.size == rgb.shape[:2] == (height, width)
        for _ in range(40):
            top, left = rng.integers(height), rng.integers(width)
            bottom, right = rng.integers(top + 1, height + 1), rng.integers(left + 1, width + 1)
            np.testing.assert_array_equal(
                picture.region(top, left, bottom, right), rgb[top:bottom, left:right]
            )


def test_pictures_stay_as_they_are_stored_where_that_can_be(folder, plain):
    def picture_of(path, max_side=1280):
        with Streams(path, 16_000, max_side) as streams:
            start, _, frame = next(streams.frames)
            return streams.picture(frame, start)

    whole = read_clip(plain).frames[0]
    stored = picture_of(plain)
    assert isinstance(stored, PlanarPicture)
    np.testing.assert_array_equal(stored.rgb(), whole)
    np.testing.assert_array_equal(ArrayPicture(whole).region(3, 4, 20, 30), whole[3:20, 4:30])
    shrunk = picture_of(plain, 32)
    assert isinstance(shrunk, PlanarPicture)
    assert shrunk.size == (24, 32)
    odd = write_media(folder / "odd.mkv", "libx264", "yuv444p", (63, 47), sound="flac")
    deep = write_media(folder / "deep.mp4", "libx264", "yuv420p10le")
    for path in (odd, deep):
        picture = picture_of(path)
        assert isinstance(picture, ArrayPicture)
        np.testing.assert_array_equal(picture.rgb(), read_clip(path).frames[0])


def test_cuts_are_those_of_the_frames_so_far():
    rng = np.random.default_rng(0)
    scenes = np.repeat(rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8), 8, axis=1).repeat(8, axis=2)
    scenes[2:, :, :24] = scenes[2:, :, 40:] = 0  # bars at the sides
    frames = np.concatenate(
        [np.clip(scene + rng.integers(-3, 4, (9, 64, 64, 1)), 0, 255) for scene in scenes]
    )
    clip = Clip(frames.astype(np.uint8), np.arange(36) / 25, np.zeros(0, np.float32), 16_000, 0.0, 1.44)
    assert detect_cuts(clip) == [9, 18, 27]
    barred = replace(clip, frames=clip.frames[18:])
    assert detect_cuts(barred) == [9]
    detector = ShotDetector()
    found = [detector.update(ArrayPicture(frame).thumbnail) for frame in clip.frames]
    assert np.flatnonzero(found).tolist() == [9, 18, 27]
    for end in range(1, 36):  # what comes later changes nothing
        part = replace(clip, frames=clip.frames[:end])
        assert detect_cuts(part) == [i for i in (9, 18, 27) if i < end]


def test_a_frame_is_given_back_as_soon_as_it_is_used(plain):
    """No cycle holds it: those wait for the garbage collector, and hundreds of frames with them."""

    def frames() -> int:
        pieces = iter_pieces(plain, 1.0, lambda picture, time: picture.shrunk(4, 4))
        return sum(len(clip.frames) for clip, _ in pieces)

    frames()  # what is kept once, is kept
    gc.collect()
    gc.disable()
    try:
        count = frames()
        assert gc.collect() < count / 2
    finally:
        gc.enable()
