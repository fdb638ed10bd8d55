"""Faces are found small, and with the angle by which they are turned."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from avff_lib.faces.detect import detect_faces, find_faces
from avff_lib.synth.face import Motion, render
from avff_lib.synth.portrait import Identity, Scene


def portrait(seed):
    """A head ``(288, 288, 3)`` whose box is about half as high."""
    rng = np.random.default_rng(seed)
    person, scene, motion = Identity.sample(rng), Scene.sample(rng), Motion.sample(rng, 1)
    head = render(person, scene, motion, np.array([[0, 0.3, 0, 0, 0]]))[0]
    return cv2.resize(head, (288, 288))


def turned(image, degrees):
    """Clockwise about the middle."""
    matrix = cv2.getRotationMatrix2D((143.5, 143.5), -degrees, 1)
    return cv2.warpAffine(image, matrix, (288, 288), borderMode=cv2.BORDER_REPLICATE)


def off_by(roll, degrees):
    return abs((roll - degrees + 180) % 360 - 180)


def test_a_small_face_is_found_in_a_larger_picture_only():
    frame = np.full((720, 1280, 3), 128, np.uint8)
    frame[300:364, 700:764] = cv2.resize(portrait(0), (64, 64), interpolation=cv2.INTER_AREA)
    assert find_faces(frame, 320).shape == (0, 10)
    ((left, top, right, bottom, confidence, roll, *mouth),) = find_faces(frame, 1280)
    assert 710 < left < right < 754
    assert 310 < top < bottom < 364
    assert 24 < bottom - top < 40
    assert left < (mouth[0] + mouth[2]) / 2 < right
    assert (top + bottom) / 2 < (mouth[1] + mouth[3]) / 2 < bottom
    assert mouth[2] - mouth[0] == pytest.approx(mouth[3] - mouth[1], abs=0.01)  # a square
    assert 0.5 < confidence <= 1
    assert abs(roll) < 10


@pytest.mark.parametrize("degrees", [0, 30, 60, -30, -60])
def test_the_roll_of_a_turned_head(degrees):
    (face,) = find_faces(turned(portrait(0), degrees), 320)
    assert off_by(face[5], degrees) < 25


@pytest.mark.parametrize("seed", [22, 35, 36, 52])
def test_upside_down_is_told(seed):
    for degrees in (0, 180):
        (face,) = find_faces(turned(portrait(seed), degrees), 320)
        assert off_by(face[5], degrees) < 20


def test_boxes_are_in_pixels_of_the_picture_whatever_is_searched():
    large = cv2.resize(portrait(1), (1152, 1152))
    found = [find_faces(large, side)[0] for side in (320, 640)]
    np.testing.assert_allclose(found[0][:4], found[1][:4], atol=50)
    np.testing.assert_allclose(found[0][6:], found[1][6:], atol=50)
    np.testing.assert_array_equal(found[0][:5], detect_faces(large)[0])
