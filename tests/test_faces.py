"""The speaker's face is found, followed and cropped, on faces that the library draws itself."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from avff_lib.faces.crop import crop_face
from avff_lib.faces.detect import detect_faces, find_faces
from avff_lib.faces.mouth import speaker_face
from avff_lib.faces.track import FaceTrack, FaceTracker, track_faces
from avff_lib.faces.tracked import TrackedClip, iter_tracked, join
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.media.picture import ArrayPicture
from avff_lib.synth.face import Motion, render
from avff_lib.synth.portrait import Identity, Scene


@pytest.fixture(scope="module")
def heads():
    """Two portraits ``(144, 144, 3)``."""
    rng = np.random.default_rng(3)
    mouth = np.array([[0, 0.5, 0, 0, 0]])
    return [
        render(Identity.sample(rng), Scene.sample(rng), Motion.sample(rng, 1), mouth)[0] for _ in range(2)
    ]


def clip_of(frames):
    times, silence = np.arange(len(frames)) / 25, np.zeros(640 * len(frames), np.float32)
    return Clip(np.asarray(frames), times, silence, 16_000, 0.0, len(frames) / 25)


def canvas(width=320, height=180):
    return np.full((height, width, 3), 128, np.uint8)


def flickering(frame, k):
    """Light that changes a little: in a film of which nothing else moves, whoever comes in begins a shot."""
    return np.where(frame == 128, 122 + 12 * (k % 2), frame).astype(np.uint8)


def centres(track):
    return (track.boxes[:, :2] + track.boxes[:, 2:]) / 2


def test_a_moving_face_is_followed_between_detections(heads, monkeypatch):
    looks = []
    monkeypatch.setattr(
        "avff_lib.faces.track.find_faces", lambda *image: looks.append(1) or find_faces(*image)
    )
    frames, lefts = [], np.linspace(0, 170, 41).astype(int)
    for left in lefts:
        frames.append(canvas())
        frames[-1][20:164, left : left + 144] = heads[0]
    (track,) = track_faces(clip_of(frames))
    assert len(looks) == 9
    assert track.boxes.shape == (41, 4)
    assert track.detected.all()
    assert 0.5 < track.score <= 1
    still = detect_faces(frames[0])[0]
    offsets = centres(track)[:, 0] - (still[0] + still[2]) / 2 - lefts
    assert np.abs(offsets[5:-5]).max() < 4  # smoothing rounds the ends off
    assert np.abs(np.diff(centres(track), n=2, axis=0)).max() < 1


@pytest.mark.parametrize("size", [(64, 48), (1280, 720)])
def test_small_and_large_frames(heads, size):
    side = size[1]
    frame = canvas(*size)
    frame[:, :side] = cv2.resize(heads[0], (side, side), interpolation=cv2.INTER_AREA)
    left, top, right, bottom, score = detect_faces(frame)[0]
    assert 0 < left < right < side
    assert 0 < top < bottom < size[1] * 1.05
    assert score > 0.5


def test_no_face_is_an_explicit_state():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (11, 96, 128, 3)).astype(np.uint8)
    clip = clip_of(noise)
    assert track_faces(clip) == []
    assert speaker_face(clip) is None


def test_one_detection_alone_is_a_false_alarm(heads):
    frames = [flickering(canvas(640, 360), k) for k in range(21)]
    frames[10][20:92, 20:92] = heads[0][::2, ::2]
    assert track_faces(clip_of(frames)) == []


def talking(seed, frames, moving):
    """A head ``(T, 144, 144, 3)`` whose mouth opens five times a second, or stays shut."""
    rng = np.random.default_rng(seed)
    opening = 0.5 - 0.5 * np.cos(2 * np.pi * 5 * np.arange(frames) / 25) if moving else np.zeros(frames)
    mouth = np.stack([opening, 0 * opening + 0.5, 0 * opening, 0 * opening, 0 * opening], axis=1)
    return render(Identity.sample(rng), Scene.sample(rng), Motion.sample(rng, frames), mouth)


def test_the_speaker_is_who_speaks_and_not_who_is_largest():
    """The large face on the left keeps its mouth shut; the one on the right is half as large and speaks."""
    large, small = talking(3, 41, moving=False), talking(4, 41, moving=True)[:, ::2, ::2]
    frames = np.stack([canvas() for _ in range(41)])
    frames[:, :144, :144], frames[:, 60:132, 220:292] = large, small
    clip = clip_of(frames)
    tracks = track_faces(clip)
    assert len(tracks) == 2
    assert centres(speaker_face(clip))[:, 0].mean() > 200


def test_a_short_visit_makes_nobody_the_speaker():
    speaker, visitor = talking(3, 61, moving=True), talking(4, 61, moving=True)
    frames = np.stack([flickering(canvas(640, 360), k) for k in range(61)])
    frames[:, :144, :144], frames[:11, :144, 170:314] = speaker, visitor[:11]
    clip = clip_of(frames)
    tracks = track_faces(clip)
    assert len(tracks) == 2
    assert centres(speaker_face(clip))[:, 0].mean() < 144


def test_a_face_lost_on_the_way_is_said_so(heads):
    frames = [flickering(canvas(640, 360), k) for k in range(31)]
    for k in (*range(11), *range(20, 31)):
        frames[k][20:164, 90:234] = heads[0]
    clip = clip_of(frames)
    (track,) = track_faces(clip)
    np.testing.assert_array_equal(np.flatnonzero(~track.detected), np.arange(11, 20))
    cropped = crop_face(clip, track, 64)
    assert cropped.frames.shape == (31, 64, 64, 3)
    assert cropped.warnings == (
        "the face was lost in 9 of 31 frames, between 0.44 and 0.76 s; its last place was kept",
    )
    assert cropped.waveform is clip.waveform


def test_crops_are_square_with_margin_and_repeat_the_edge():
    y, x = np.mgrid[:60, :80]
    frame = np.stack([x, y, 0 * x], -1).astype(np.uint8)
    box = np.array([[20, 10, 40, 40]], np.float32)  # 30 high: a square of 39 around (30, 25)
    inside = crop_face(clip_of([frame]), FaceTrack(box, np.array([True]), 0.9), 39)
    np.testing.assert_array_equal(inside.frames[0], frame[6:45, 10:49])
    assert inside.warnings == ()
    corner = FaceTrack(box - [25, 20, 25, 20], np.array([True]), 0.9)
    crop = crop_face(clip_of([frame]), corner, 39).frames[0]
    np.testing.assert_array_equal(crop[0, 0], frame[0, 0])
    np.testing.assert_array_equal(crop[:14], np.repeat(crop[14:15], 14, axis=0))


# -- files, piece by piece --


@pytest.fixture(scope="module")
def film(heads, tmp_path_factory):
    """Ten seconds: one head, after 3 s a small one beside it, after a cut at 6 s the other way round."""
    frames = [flickering(canvas(), k) for k in range(250)]
    for k, frame in enumerate(frames):
        left, right = heads if k < 150 else heads[::-1]
        if k >= 150:
            frame //= 3
        frame[20:164, 8:152] = left
        if k >= 75:  # so small that it does not begin a new shot
            frame[60:130, 200:270] = cv2.resize(right, (70, 70), interpolation=cv2.INTER_AREA)
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    rng = np.random.default_rng(0)
    clip = clip_of(frames)
    write_clip(replace(clip, waveform=rng.uniform(-0.1, 0.1, len(clip.waveform)).astype(np.float32)), path)
    return path


def test_pieces_of_a_file_make_up_the_whole_however_long_they_are(film):
    (whole,) = iter_tracked(film, 32, seconds=20.0, views=True)
    pieces = list(iter_tracked(film, 32, seconds=1.4, views=True))
    assert [piece.last for piece in pieces] == [False] * 5 + [True]  # less than a lookahead is no piece
    joined = join(pieces)
    assert (joined.start, joined.duration) == (whole.start, pytest.approx(whole.duration))
    for name in ("times", "waveform", "cuts"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name), err_msg=name)
    assert joined.faces.keys() == whole.faces.keys() == {1, 2, 3, 4}
    for number, face in whole.faces.items():
        for name, values in vars(face).items():
            np.testing.assert_array_equal(getattr(joined.faces[number], name), values, err_msg=name)


def test_a_tracked_file_knows_who_is_where(film):
    (whole,) = iter_tracked(film, 32, seconds=20.0)
    np.testing.assert_allclose(whole.cuts, [6.0])
    first, second, third, fourth = whole.faces.values()
    assert first.times[first.detected][[0, -1]] == pytest.approx([0.0, 5.96])
    assert second.times[second.detected][0] == pytest.approx(3.0, abs=0.21)
    assert third.times[0] == fourth.times[0] == pytest.approx(6.0)
    assert first.boxes[:, 2].max() < 0.5 < second.boxes[:, 0].min()
    assert (first.frames.shape[1:], len(first.views)) == ((32, 32, 3), 0)
    # Motion is measured only where there is more than one face.
    alone = first.times < second.times[0]
    assert not first.mouth_motion[alone].any()
    assert first.mouth_motion[~alone][1:].any()


def test_a_window_holds_the_faces_and_the_sound_of_its_time(film):
    (whole,) = iter_tracked(film, 32, seconds=20.0)
    window = whole.window(5.6, 1.0)
    assert (window.times[0], window.times[-1]) == (pytest.approx(5.6), pytest.approx(6.56))
    assert window.faces.keys() == {1, 2, 3, 4}
    np.testing.assert_array_equal(window.waveform, whole.waveform[89_600:105_600])
    np.testing.assert_allclose(window.cuts, [6.0])
    clip = window.face_clip(1)
    assert clip.times[-1] < 6.0
    assert len(clip.frames) == len(clip.times)
    assert whole.window(1.0, 1.0).faces.keys() == {1}
    assert len(whole.window(6.0, 1.0).cuts) == 0  # a window may begin with a cut


def test_frames_wait_for_a_second_only(heads):
    tracker, frame = FaceTracker(), canvas()
    frame[20:164, 90:234] = heads[0]
    waiting = []
    for k in range(100):
        ready = tracker.update(ArrayPicture(frame), k / 25)
        waiting.append((waiting[-1] if waiting else 0) + 1 - len(ready))
    assert max(waiting) <= 26
    assert waiting[-1] == len(tracker.finish())


def test_a_face_keeps_its_number_while_it_is_lost_for_less_than_a_second(heads):
    def numbers(gap):
        tracker, found = FaceTracker(), set()
        for k in range(100):
            frame = flickering(canvas(640, 360), k)
            if not 40 <= k < 40 + gap:
                frame[20:164, 90:234] = heads[0]
            for ready in tracker.update(ArrayPicture(frame), k / 25):
                found |= ready.faces.keys()
        return found | {number for ready in tracker.finish() for number in ready.faces}

    assert numbers(gap=15) == {1}
    assert numbers(gap=40) == {1, 2}


@pytest.mark.parametrize("side", [44, 60])
def test_a_small_face_in_a_large_picture_is_found(heads, side):
    frame = np.full((1080, 1920, 3), 128, np.uint8)
    frame[500 : 500 + side, 900 : 900 + side] = cv2.resize(
        heads[0], (side, side), interpolation=cv2.INTER_AREA
    )
    assert len(detect_faces(frame)) == 0
    tracks = track_faces(clip_of([frame] * 11))
    assert len(tracks) == 1
    assert np.abs(centres(tracks[0]) - [900 + side / 2, 500 + side / 2]).max() < side / 2


def test_a_clip_of_one_face_is_a_file_of_one_face(heads):
    clip = clip_of([heads[0]] * 25)
    tracked = TrackedClip.of_face(clip)
    assert tracked.last
    assert tracked.speaker() == 1
    window = tracked.window(0.2, 0.5).face_clip(1)
    np.testing.assert_array_equal(window.frames, clip.window(0.2, 0.5).frames)
    np.testing.assert_array_equal(window.waveform, clip.window(0.2, 0.5).waveform)
