"""The speaker's face is found, followed and cropped, on faces that the library draws itself."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from avff_lib.faces.crop import crop_face
from avff_lib.faces.detect import detect_faces
from avff_lib.faces.track import FaceTrack, speaker_face, track_faces
from avff_lib.media.clip import Clip
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


def centres(track):
    return (track.boxes[:, :2] + track.boxes[:, 2:]) / 2


def test_a_moving_face_is_followed_between_detections(heads, monkeypatch):
    looks = []
    monkeypatch.setattr(
        "avff_lib.faces.track.detect_faces", lambda image: looks.append(1) or detect_faces(image)
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
    assert track_faces(clip_of(noise)) == []
    assert speaker_face([]) is None


def test_one_detection_alone_is_a_false_alarm(heads):
    frames = [canvas() for _ in range(21)]
    frames[10][20:164, 20:164] = heads[0]
    assert track_faces(clip_of(frames)) == []


def test_the_speaker_is_the_face_seen_longest_and_largest(heads):
    def speaker_at(large_leaves):
        """Where the speaker is if the large face on the right is there for so many frames of 41."""
        frames = []
        for k in range(41):
            frames.append(canvas())
            frames[-1][100:172, 20:92] = heads[1][::2, ::2]
            if k < large_leaves:
                frames[-1][:144, 176:] = heads[0]
        tracks = track_faces(clip_of(frames))
        assert len(tracks) == 2
        return centres(speaker_face(tracks))[:, 0].mean()

    assert speaker_at(large_leaves=41) > 176
    assert speaker_at(large_leaves=6) < 92  # four times the area, but a seventh of the time


def test_a_face_lost_on_the_way_is_said_so(heads):
    frames = [canvas() for _ in range(31)]
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
