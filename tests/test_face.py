"""The drawn faces: seen by the detector, driven by the mouth track, and forged only where they should be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avff_lib.faces.detect import detect_faces
from avff_lib.media.clip import Clip
from avff_lib.media.decode import read_clip
from avff_lib.media.encode import write_clip
from avff_lib.synth.face import Motion, camera, face_ellipse, mouth_ellipse, render
from avff_lib.synth.portrait import Identity, Scene
from avff_lib.synth.retouch import blend_mouth, swap_face

CLOSED = np.array((0, 0.5, 0, 0, 0))


def actor(seed: int, frames: int) -> tuple[Identity, Scene, Motion]:
    rng = np.random.default_rng(seed)
    return Identity.sample(rng), Scene.sample(rng), Motion.sample(rng, frames)


def inside(ellipses: np.ndarray, size: int = 144) -> np.ndarray:
    """``(T, size, size)`` bool, by OpenCV's convention for pixel centres."""
    y, x = np.mgrid[:size, :size]
    cx, cy, a, b, degrees = (column[:, None, None] for column in ellipses.T)
    turn = np.deg2rad(degrees)
    along = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
    across = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
    return (along / a) ** 2 + (across / b) ** 2 <= 1


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(int) - b).max(-1)


def test_detector_finds_the_faces_through_noise_and_codec(tmp_path):
    frames = []
    for seed in range(40):
        who, scene, motion = actor(seed, 2)
        mouth = np.random.default_rng(seed).random((2, 5))
        frames.append(camera(render(who, scene, motion, mouth), scene, np.random.default_rng(seed)))
    frames = np.concatenate(frames)
    times = np.arange(len(frames)) / 25
    silence = np.zeros(round(16_000 * len(frames) / 25), np.float32)
    path = tmp_path / "faces.mp4"
    write_clip(Clip(frames, times, silence, 16_000, 0.0, len(frames) / 25), path, crf=30)
    boxes = [detect_faces(frame) for frame in read_clip(path).frames]
    found = [len(box) == 1 and 0.4 < (box[0, 3] - box[0, 1]) / 144 < 0.75 for box in boxes]
    assert len(found) == 80
    assert np.mean(found) >= 0.95


def test_same_inputs_same_frames():
    who, scene, motion = actor(1, 3)
    mouth = np.random.default_rng(1).random((3, 5))
    again = actor(1, 3)
    first = camera(render(who, scene, motion, mouth), scene, np.random.default_rng(0))
    np.testing.assert_array_equal(first, camera(render(*again, mouth), again[1], np.random.default_rng(0)))
    assert first.shape == (3, 144, 144, 3)
    assert first.dtype == np.uint8


def test_mouth_track_moves_the_mouth_and_jaw_only():
    who, scene, motion = actor(2, 5)
    still = Motion(*(np.repeat(value[:1], 5, axis=0) for value in vars(motion).values()))
    mouth = np.tile(CLOSED, (5, 1))
    mouth[:, 0] = np.linspace(0, 1, 5)
    frames = render(who, scene, still, mouth)
    changed = [(difference(frame, frames[0]) > 8) for frame in frames]
    areas = [int(mask.sum()) for mask in changed]
    assert areas[0] == 0
    assert areas == sorted(areas)  # wider open, more changes
    assert areas[-1] > 300
    eyes_and_hair = slice(0, round(0.52 * 144))
    assert not changed[-1][eyes_and_hair].any()


def test_each_column_of_the_mouth_track_is_seen():
    who, scene, motion = actor(3, 1)
    base = np.array([[0.6, 0.5, 0.2, 0.2, 0.2]])
    neutral = render(who, scene, motion, base)
    for column in range(5):
        other = base.copy()
        other[0, column] = 0.9
        assert difference(render(who, scene, motion, other), neutral).max() > 20, column


def test_eyes_close_in_a_blink():
    who, scene, motion = actor(4, 1)
    who = replace(who, glasses=False)
    mouth = CLOSED[None]
    eyes = (slice(56, 76), slice(40, 104))
    open_, closed = (
        render(who, scene, replace(motion, blink=np.array([value])), mouth)[0][eyes] for value in (0.0, 1.0)
    )
    assert open_.max() > closed.max()  # the white of the eyes and the highlights are gone


@pytest.mark.parametrize("forge", ["mouth", "face"])
def test_forgery_stays_in_its_region_and_improves_with_quality(forge):
    who, scene, motion = actor(5, 6)
    donor = Identity.sample(np.random.default_rng(99))
    mouth = np.random.default_rng(5).random((6, 5))
    frames = render(who, scene, motion, mouth)
    if forge == "mouth":
        wanted, region, method = (
            render(who, scene, motion, mouth[::-1]),
            mouth_ellipse(who, motion),
            blend_mouth,
        )
    else:
        donor = donor.lend_face(who)
        wanted, region, method = render(donor, scene, motion, mouth), face_ellipse(who, motion), swap_face
    core = region * (1, 1, 0.6, 0.6, 1)
    margin = region * (1, 1, 1.1, 1.1, 1)
    errors = []
    for quality in (0.0, 0.5, 1.0):
        rng = np.random.default_rng(0)
        forged = method(frames, wanted, region, quality=quality, rng=rng)
        if quality > 0:  # the clumsiest seam may stray a little further
            assert not difference(forged, frames)[~inside(margin)].any()
        assert difference(forged, frames)[inside(core)].max() > 20
        errors.append(float(difference(forged, wanted)[inside(core)].mean()))
    assert errors[0] > errors[1] > errors[2]


def test_microphone_hides_the_mouth_for_part_of_the_clip():
    who, scene, motion = actor(6, 20)
    frames = render(who, scene, motion, np.tile(CLOSED, (20, 1)))
    hidden = replace(scene, occlusion=(0.3, 0.7), noise=0.0)
    plain = camera(frames, replace(hidden, occlusion=None), np.random.default_rng(0))
    shot = camera(frames, hidden, np.random.default_rng(0))
    touched = (difference(shot, plain) > 3).reshape(20, -1).any(1)
    assert touched[10]
    assert not touched[:6].any()
    assert not touched[15:].any()


def test_tracks_of_different_length_are_refused():
    who, scene, motion = actor(7, 4)
    with pytest.raises(ValueError, match=r"expected \(4, 5\)"):
        render(who, scene, motion, np.zeros((3, 5)))
