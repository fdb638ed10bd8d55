"""Forgeries of the picture: another take's lips, a mouth from a coarse generator, self-blended images."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from avff_lib.forge.face import Face, Patch, Region, Square, blend, pixels, square_of, warped
from avff_lib.synth.retouch import coarsened, soft_ellipse

MASK_SIZE = 256  # pixels, side of a region's mask
# Centre and half axes in face coordinates. The detector sees the corners of a mouth a little above the lips.
MOUTH = (0.2j, 0.75, 0.5)  # from below the nose to above the chin
FACES = (
    (-0.45j, 0.9, 1.3),  # from the forehead to the chin
    (-0.1j, 0.85, 0.95),  # from below the eyes to the chin
    (-0.5j, 0.85, 0.85),  # eyes, nose and mouth
)
QUALITY = (0.3, 0.9)  # of a generated mouth, as in `avff_lib.synth.retouch`
COLOR_FRAMES = 8  # in which the colours of two takes are compared
MAX_GAIN = 1.5  # of contrast, when colours are matched


def replace_mouth(
    frames: np.ndarray,
    face: Face,
    weight: np.ndarray,
    rng: np.random.Generator,
    *,
    other: tuple[np.ndarray, Face] | None = None,
    generated: bool,
) -> None:
    """Blend another mouth into a face, in place.

    Args:
        frames: ``(T, H, W, 3)`` uint8.
        face: its position in these frames.
        weight: ``(T,)``, of the new mouth in each frame.
        rng: draws the coarseness and the colour error of a generated mouth.
        other: ``(T, H', W', 3)`` uint8 of the same person, and the face in them; by default the frames' own
            mouth.
        generated: whether the mouth went through a generator, which loses resolution and shifts colours.
    """
    region = _ellipse(*MOUTH, softness=0.35)
    flaw = 1 - rng.uniform(*QUALITY)
    tint = 1 + rng.normal(0, 0.05 * flaw, 3)
    take = _other_take(frames, face, region, weight, *other) if other else lambda i, own, square: own

    def patch(i: int, own: np.ndarray, square: Square) -> np.ndarray:
        mouth = take(i, own, square)
        return coarsened(mouth, 1 + 2.2 * flaw) * tint if generated else mouth

    blend(frames, face, region, weight, patch)


def _other_take(
    frames: np.ndarray,
    face: Face,
    region: Region,
    weight: np.ndarray,
    other_frames: np.ndarray,
    other_face: Face,
) -> Patch:
    """The face of another take in place of the own one: at its position, and in its size and colours."""

    def aligned(i: int, square: Square) -> np.ndarray:
        scale = face.unit[i] / other_face.unit[i]
        return warped(
            other_frames[i], scale, face.mouth[i] - scale * other_face.mouth[i] - square.corner, square.side
        )

    # Once per clip: matched frame by frame, the colours would flicker with the mouth's opening.
    shown = np.flatnonzero(weight)
    shown = shown[np.linspace(0, len(shown) - 1, min(COLOR_FRAMES, len(shown))).astype(int)]
    squares = [(i, square_of(face, region, i)) for i in shown.tolist()]
    own = np.stack([pixels(frames[i], square) for i, square in squares]).astype(np.float32)
    new = np.stack([aligned(i, square) for i, square in squares]).astype(np.float32)
    own_spread, new_spread = (colors.std(axis=(0, 1, 2)) + 1 for colors in (own, new))
    gain = np.clip(own_spread / new_spread, 1 / MAX_GAIN, MAX_GAIN)
    own_mean, new_mean = own.mean(axis=(0, 1, 2)), new.mean(axis=(0, 1, 2))
    return lambda i, _, square: (aligned(i, square) - new_mean) * gain + own_mean


def blend_with_itself(frames: np.ndarray, face: Face, weight: np.ndarray, rng: np.random.Generator) -> None:
    """Blend a changed copy of a face into itself, in place.

    Self-blended images (Shiohara and Yamasaki, 2022, arXiv 2204.08376): the copy gets other colours, is
    sharper or coarser, and is moved and scaled slightly; the mask is deformed and softened, and the copy may
    be blended in with less than full weight. The draws hold for all frames, since images that are each
    blended in their own way would flicker. Here only the copy is changed, so that a fake equals the recording
    outside the face; in the original method, half of the images change the surroundings instead.

    Args:
        frames: ``(T, H, W, 3)`` uint8.
        face: its position in these frames.
        weight: ``(T,)``, of the blended face in each frame.
        rng: draws all of this.
    """
    region = _face_region(rng)
    contrast, brightness = 1 + rng.uniform(-0.1, 0.1), 255 * rng.uniform(-0.1, 0.1)
    tint = rng.uniform(-20, 20, 3) * (rng.random() < 0.3)
    coarse, factor = rng.random() < 0.5, rng.uniform(2, 4)
    sharpen = np.full((3, 3), -rng.uniform(0.05, 0.3))
    sharpen[1, 1] += 1 - sharpen.sum()
    scale, moved = rng.uniform(0.95, 1 / 0.95), complex(rng.uniform(-0.06, 0.06), rng.uniform(-0.03, 0.03))

    def patch(i: int, own: np.ndarray, square: Square) -> np.ndarray:
        center = (1 + 1j) * (square.side - 1) / 2
        copy = warped(own, complex(scale), (1 - scale) * center + moved * face.unit[i], square.side)
        copy = coarsened(copy, factor) if coarse else cv2.filter2D(copy, -1, sharpen)
        return (copy - 128.0) * contrast + 128 + brightness + tint

    blend(frames, face, region, weight, patch)


def _face_region(rng: np.random.Generator) -> Region:
    """A part of a face, deformed and with a soft edge, for `blend_with_itself`."""
    region = _ellipse(*FACES[rng.integers(len(FACES))], softness=0.02)
    across, down = (
        50 * cv2.GaussianBlur(rng.uniform(-1, 1, region.mask.shape), (0, 0), 7) + place
        for place in np.meshgrid(np.arange(MASK_SIZE), np.arange(MASK_SIZE))
    )
    mask = cv2.remap(region.mask, across.astype(np.float32), down.astype(np.float32), cv2.INTER_LINEAR)
    # The first blur and its threshold erode the mask, the second blur spreads it, so the edge stays in place.
    first, second = 2 * rng.integers(2, 13, size=2) + 1
    mask = (cv2.GaussianBlur(mask, (int(first),) * 2, 0) > 0.999).astype(np.float32)
    mask = cv2.GaussianBlur(mask, (int(second),) * 2, rng.uniform(5, 46))
    ratio = rng.choice((0.25, 0.5, 0.75, 1, 1, 1))
    return replace(region, mask=(ratio * mask).astype(np.float32))


def _ellipse(center: complex, half_width: float, half_height: float, *, softness: float) -> Region:
    """An ellipse around ``center``, in face coordinates."""
    radius = 1.15 * max(half_width, half_height)  # with room for a deformed edge
    scale = MASK_SIZE / (2 * radius)
    middle = (MASK_SIZE - 1) / 2
    shape = np.array([middle, middle, half_width * scale, half_height * scale, 0])
    return Region(soft_ellipse(shape, MASK_SIZE, softness)[..., 0], center, radius)
