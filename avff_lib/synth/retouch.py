"""Visual fakes of rendered frames: a blended mouth and a swapped face.

``quality`` runs from 0, obvious, to 1, nearly invisible. Regions are ellipses, one per frame, as
`avff_lib.synth.face.mouth_ellipse` and `face_ellipse` return them: ``(T, 5)`` with centre x, centre y,
half width, half height in pixels, and the angle in degrees.
"""

from __future__ import annotations

import cv2
import numpy as np


def blend_mouth(
    frames: np.ndarray, other: np.ndarray, ellipses: np.ndarray, *, quality: float, rng: np.random.Generator
) -> np.ndarray:
    """Blend the mouth of ``other`` into ``frames``, as lip-sync generators do.

    The region is taken at low resolution, its colours are slightly wrong, and its edge is soft.

    Args:
        frames: ``(T, H, W, 3)`` uint8, kept outside of the ellipses.
        other: ``(T, H, W, 3)`` uint8, the same person in the same pose with the new mouth.
        ellipses: ``(T, 5)`` mouth regions.
        quality: 0 to 1.
        rng: draws the colour error.

    Returns:
        ``(T, H, W, 3)`` uint8.
    """
    size = frames.shape[1]
    tint = 1 + rng.normal(0, 0.05 * (1 - quality), 3)
    blended = np.empty_like(frames)
    for i, (original, drawn) in enumerate(zip(frames, other, strict=True)):
        mask = soft_ellipse(ellipses[i], size, softness=0.25)
        blended[i] = mix(original, coarsened(drawn, 1 + 2.2 * (1 - quality)) * tint, mask)
    return blended


def swap_face(
    frames: np.ndarray, donor: np.ndarray, ellipses: np.ndarray, *, quality: float, rng: np.random.Generator
) -> np.ndarray:
    """Blend the inner face of ``donor`` into ``frames``, as face swaps do.

    The donor's colours are matched to the frame's, but not exactly; the seam jitters over time, and the
    pasted face is slightly less sharp than its surroundings.

    Args:
        frames: ``(T, H, W, 3)`` uint8, kept outside of the ellipses.
        donor: ``(T, H, W, 3)`` uint8, another face (`Identity.lend_face`) in the same pose and speech.
        ellipses: ``(T, 5)`` inner faces.
        quality: 0 to 1.
        rng: draws the seam's motion and the colour error.

    Returns:
        ``(T, H, W, 3)`` uint8.
    """
    size = frames.shape[1]
    flaw = 1 - quality
    jitter = rng.normal(0, 0.008 * size * flaw, (len(frames), 5)) * (1, 1, 1, 1, 0)
    tint = 1 + rng.normal(0, 0.04 * flaw, 3)
    swapped = np.empty_like(frames)
    for i, (original, drawn) in enumerate(zip(frames, donor, strict=True)):
        mask = soft_ellipse(ellipses[i] + jitter[i], size, softness=0.12 + 0.15 * quality)
        inside = mask[..., 0] > 0.5
        gain = (original[inside].mean(0) + 1) / (drawn[inside].mean(0) + 1)
        soft = cv2.GaussianBlur(drawn, (0, 0), 0.3 + 0.7 * flaw)
        swapped[i] = mix(original, soft * (gain * tint), mask)
    return swapped


def soft_ellipse(ellipse: np.ndarray, size: int, softness: float) -> np.ndarray:
    """``(size, size, 1)`` float32 mask in [0, 1]: 1 well inside, falling to 0 at the ellipse's edge."""
    x, y, half_width, half_height, angle = ellipse
    turn = np.deg2rad(angle)
    xs = np.arange(size, dtype=np.float32)[None] - np.float32(x)
    ys = np.arange(size, dtype=np.float32)[:, None] - np.float32(y)
    along = (xs * np.cos(turn) + ys * np.sin(turn)) / half_width
    across = (ys * np.cos(turn) - xs * np.sin(turn)) / half_height
    radius = np.sqrt(along**2 + across**2)
    mask = np.clip((1 - radius) / softness, 0, 1)
    return (mask * mask * (3 - 2 * mask))[..., None].astype(np.float32)


def coarsened(image: np.ndarray, factor: float) -> np.ndarray:
    """An image ``(H, W, 3)`` as from a generator with ``factor`` times less resolution."""
    height, width = image.shape[:2]
    low = max(1, round(width / factor)), max(1, round(height / factor))
    coarse = cv2.resize(image, low, interpolation=cv2.INTER_AREA)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def mix(under: np.ndarray, over: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image ``(H, W, 3)`` uint8: ``under``, with ``over`` where ``mask`` ``(H, W, 1)`` is 1."""
    return np.clip(under + (over - under) * mask + 0.5, 0, 255).astype(np.uint8)
