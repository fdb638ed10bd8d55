"""Talking heads: a portrait that moves, blinks and speaks, drawn from a track of mouth shapes.

The head is painted once per clip (`avff_lib.synth.layers`). For each frame it is warped (jaw, turn of the
head, brows), eyes and mouth are drawn on it, and it is composited over body and background. The effects of a
camera come last, in `camera`, for fake frames as for real ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avff_lib.synth.layers import bump, grid, head_radius, paint_background, paint_body, paint_head, step
from avff_lib.synth.portrait import CENTER_X, EYE_Y, MOUTH_Y, SUPERSAMPLING, Identity, Scene

FRAME_RATE = 25.0  # frames per second
JAW_DROP = 0.050  # of the chin at full opening, in fractions of the frame
LIP_OPENING = 0.078  # height of the fully open mouth
PIVOT = (CENTER_X, 0.86)  # the neck, around which the head rolls
FIXED_POINT_BITS = 4  # cv2 takes polygon corners in 1/16 pixels


@dataclass(frozen=True, eq=False)
class Motion:
    """Motion of the head; arrays over frames.

    Attributes:
        shift: ``(T, 2)`` right and down, in fractions of the frame.
        roll: ``(T,)`` radians.
        scale: ``(T,)`` around 1.
        turn: ``(T, 2)`` of the face to the right and down, in fractions of the frame at the nose.
        blink: ``(T,)`` 0 open to 1 closed.
        gaze: ``(T, 2)`` right and down, -1 to 1.
        brows: ``(T,)`` height, -1 lowered to 1 raised.
    """

    shift: np.ndarray
    roll: np.ndarray
    scale: np.ndarray
    turn: np.ndarray
    blink: np.ndarray
    gaze: np.ndarray
    brows: np.ndarray

    @classmethod
    def sample(cls, rng: np.random.Generator, n_frames: int) -> Motion:
        """Draw ``n_frames`` frames of head sway, blinks, and glances at 25 frames per second."""
        times = np.arange(n_frames) / FRAME_RATE
        sway = [_sway(rng, times) for _ in range(7)]
        place, size = rng.uniform(-0.02, 0.02, 2), rng.uniform(0.95, 1.04)
        return cls(
            shift=place + np.stack((0.010 * sway[0], 0.006 * sway[1]), -1),
            roll=rng.uniform(-0.03, 0.03) + 0.025 * sway[2],
            scale=size * (1 + 0.008 * sway[3]),
            turn=np.stack((0.012 * sway[4], 0.006 * sway[5]), -1) + rng.uniform(-0.008, 0.008, 2),
            blink=_blinks(rng, times),
            gaze=_glances(rng, times),
            brows=np.clip(0.5 * sway[6], -1, 1),
        )


def render(
    identity: Identity, scene: Scene, motion: Motion, mouth: np.ndarray, size: int = 144
) -> np.ndarray:
    """Draw the frames of a clip, before `camera`.

    Args:
        identity: the speaker.
        scene: background, clothes and light.
        motion: motion of the head, T frames.
        mouth: ``(T, 5)`` mouth shapes in [0, 1]: opening, width, rounding, teeth, tongue.
        size: height and width of the frames in pixels.

    Returns:
        ``(T, size, size, 3)`` uint8, RGB.

    Raises:
        ValueError: ``mouth`` and ``motion`` differ in length.
    """
    if mouth.shape != (len(motion.roll), 5):
        raise ValueError(
            f"mouth has shape {mouth.shape}; expected ({len(motion.roll)}, 5), a row for each frame of motion"
        )
    n = SUPERSAMPLING * size
    head = paint_head(identity, scene, n)
    body = paint_body(identity, scene, n)
    background = cv2.resize(paint_background(scene, n), (size, size), interpolation=cv2.INTER_AREA)
    warp = _Warp(identity, n)
    frames = np.empty((len(mouth), size, size, 3), np.uint8)
    for i, shape in enumerate(mouth):
        layer = warp(head, motion, i, jaw=float(shape[0]))
        _draw_eyes(layer, identity, motion, i)
        _draw_mouth(layer, identity, scene, motion, i, shape)
        frame = background
        for part, share in ((body, 0.35), (layer, 1.0)):
            placed = _place(part, motion, i, share, size)
            alpha = 255 - placed[..., 3:]
            frame = placed[..., :3] + ((frame * alpha.astype(np.uint16) + 127) // 255).astype(np.uint8)
        frames[i] = frame
    return frames


def mouth_ellipse(identity: Identity, motion: Motion, size: int = 144) -> np.ndarray:
    """Region of a blended mouth: ``(T, 5)`` centre x, y, half axes in pixels, angle in degrees."""
    return _ellipse(motion, size, MOUTH_Y + 0.018, 1.75 * identity.mouth_width, 0.105)


def face_ellipse(identity: Identity, motion: Motion, size: int = 144) -> np.ndarray:
    """Region of a face swap, from brows to chin: ``(T, 5)`` as in `mouth_ellipse`."""
    return _ellipse(motion, size, 0.555, 0.92 * identity.face_width, 0.225)


def camera(frames: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """The effects of the recording: a microphone in front of the face, the lens, and the sensor.

    Args:
        frames: ``(T, H, W, 3)`` uint8, real or fake.
        scene: gives blur, vignette, noise, and occlusion.
        rng: draws the noise and the microphone's position.

    Returns:
        ``(T, H, W, 3)`` uint8.
    """
    size = frames.shape[1]
    x, y = grid(size)
    fall_off = (1 - scene.vignette * 2 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))[..., None].astype(np.float32)
    blur = scene.blur * size / 144
    shot = np.empty_like(frames)
    hold = rng.uniform((-0.06, -0.02, -0.35), (0.06, 0.04, 0.35))
    for i, frame in enumerate(frames):
        if scene.occlusion is not None:
            frame = _hold_microphone(frame, scene.occlusion, i / len(frames), hold)
        lit = cv2.GaussianBlur(frame, (0, 0), blur) * fall_off
        noise = rng.standard_normal((size, size, 1), np.float32) * np.float32(scene.noise)
        shot[i] = np.clip(lit + noise + 0.5, 0, 255)
    return shot


def _hold_microphone(
    frame: np.ndarray, when: tuple[float, float], now: float, hold: np.ndarray
) -> np.ndarray:
    """The frame with a microphone, which rises from below at ``when[0]`` and has gone by ``when[1]``."""
    size = len(frame)
    start, end = when
    raised = float(step(0, 0.25, np.array(min(now - start, end - now) / (end - start))))
    if raised == 0:
        return frame
    right, down, tilt = hold
    head = np.array((CENTER_X + right, MOUTH_Y + 0.03 + down + 0.5 * (1 - raised)))
    handle = head + 0.5 * np.array((np.sin(tilt), np.cos(tilt)))
    frame = frame.copy()
    ends = np.round(np.stack((head, handle)) * size * 2**FIXED_POINT_BITS).astype(np.int32)
    cv2.line(frame, ends[0], ends[1], (36, 36, 40), round(0.07 * size), cv2.LINE_AA, FIXED_POINT_BITS)
    for shrink, colour in ((1.0, (52, 52, 56)), (0.7, (76, 76, 80)), (0.35, (104, 104, 108))):
        centre = head - (1 - shrink) * 0.03
        at = np.round(centre * size * 2**FIXED_POINT_BITS).astype(int)
        radius = round(0.075 * shrink * size * 2**FIXED_POINT_BITS)
        cv2.circle(frame, at, radius, colour, -1, cv2.LINE_AA, FIXED_POINT_BITS)
    return frame


class _Warp:
    """Warps the painted head: the jaw drops, the face turns, the brows rise."""

    def __init__(self, identity: Identity, n: int) -> None:
        x, y = grid(n)
        side = np.abs(x - CENTER_X)
        radius = head_radius(identity, x, y)
        self.n = n
        self.x, self.y = (np.broadcast_to(a * n - 0.5, (n, n)).astype(np.float32) for a in (x, y))
        width = identity.face_width
        jaw = step(MOUTH_Y - 0.005, 0.79, y) * step(1.20 * width, 0.80 * width, side)
        self.jaw = (JAW_DROP * n * jaw).astype(np.float32)
        self.depth = (n * np.clip(1.15 - radius, 0, 1)).astype(np.float32)
        brow_y = EYE_Y - identity.brow_height
        self.brows = (0.010 * n * bump(side - 0.1, y - brow_y, 0.08, 0.018)).astype(np.float32)

    def __call__(self, head: np.ndarray, motion: Motion, i: int, jaw: float) -> np.ndarray:
        turn_x, turn_y = motion.turn[i].astype(np.float32)
        map_x = self.x - turn_x * self.depth
        map_y = self.y - np.float32(jaw) * self.jaw + np.float32(motion.brows[i]) * self.brows
        map_y -= turn_y * self.depth
        return cv2.remap(head, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _draw_eyes(layer: np.ndarray, who: Identity, motion: Motion, i: int) -> None:
    """Draw both eyes on ``layer (n, n, 4)`` in place."""
    n = len(layer)
    open_ = (1 - motion.blink[i]) * (1 + 0.12 * max(0.0, motion.brows[i]))
    along = np.linspace(-1, 1, 15)  # from the nose to the temple
    arch = np.sqrt(np.clip(1 - np.abs(along) ** 2.2, 0, 1))
    width, height = who.eye_size * 0.86, who.eye_size * 0.42
    lash, rim = who.skin * 0.16, who.skin * (0.74, 0.58, 0.54)
    for way in (-1, 1):
        centre = np.array((CENTER_X + way * who.eye_distance, EYE_Y))
        centre = centre + motion.turn[i] * 0.62
        tilt = -who.eye_tilt * 0.35 * width * along
        lower = height * 0.62 * arch + tilt
        upper = lower - (height * 1.62 * arch) * open_
        upper_lid = np.stack((way * width * along, upper), -1) + centre
        lower_lid = np.stack((way * width * along, lower), -1) + centre
        if open_ > 0.12:
            radius = who.eye_size * 0.44
            left, top = np.floor((centre - 1.3 * who.eye_size) * n).astype(int)
            right, bottom = np.ceil((centre + 1.3 * who.eye_size) * n).astype(int)
            patch = layer[top:bottom, left:right]
            ball = np.full_like(patch, 255)
            ball[..., :3] = np.clip(0.30 * who.skin + (148, 150, 152), 0, 235)
            iris = centre + motion.gaze[i] * (0.38 * width, 0.25 * height)
            corner = (left / n, top / n)
            _disc(ball, iris - corner, radius, who.iris * 0.55, n)
            _disc(ball, iris - corner, radius * 0.84, who.iris, n)
            _disc(ball, iris - corner, radius * 0.45, (12, 10, 12), n)
            shade = upper_lid + np.array((0, 0.35 * height))
            _fill(ball, np.concatenate((upper_lid - (0, 0.01), shade[::-1])) - corner, None, n)
            _disc(ball, iris - corner + (-0.3 * radius, -0.4 * radius), radius * 0.24, (250, 250, 250), n)
            mask = np.zeros(patch.shape[:2], np.uint8)
            _fill(mask, np.concatenate((upper_lid, lower_lid[::-1])) - corner, 255, n)
            weight = mask[..., None].astype(np.uint16)
            patch[...] = (patch * (255 - weight) + ball * weight + 127) // 255
        _stroke(layer, lower_lid, rim, 1, n)
        _stroke(layer, upper_lid, lash, 2 + n // 300, n)


def _draw_mouth(
    layer: np.ndarray, who: Identity, scene: Scene, motion: Motion, i: int, shape: np.ndarray
) -> None:
    """Draw lips, teeth, and tongue on ``layer (n, n, 4)`` in place."""
    n = len(layer)
    opening, width, rounding, teeth, tongue = (float(value) for value in shape)
    centre = np.array((CENTER_X, MOUTH_Y)) + motion.turn[i] * 0.5
    half = who.mouth_width * (0.78 + 0.44 * width) * (1 - 0.40 * rounding)
    s = np.linspace(-1, 1, 33)
    # Rounded lips make an oval, spread lips a lens.
    arch = (1 - np.abs(s) ** (2 - 0.2 * rounding)) ** (0.85 - 0.30 * rounding)
    gap = LIP_OPENING * opening
    corners = -0.016 * width * s**2
    inner_top = -0.28 * gap * arch + corners
    inner_low = 0.72 * gap * arch + corners
    pout = 1 + 0.35 * rounding
    bow = 1 - 0.28 * np.exp(-((s / 0.11) ** 2)) + 0.10 * np.exp(-(((np.abs(s) - 0.26) / 0.16) ** 2))
    outline = (1 - np.abs(s) ** 1.9) ** 0.8
    stretch = 1 - 0.22 * opening
    outer_top = inner_top - who.lip_upper * pout * stretch * bow * outline
    outer_low = inner_low + who.lip_lower * pout * stretch * outline

    def band(top: np.ndarray, low: np.ndarray, reach: float = 1.0) -> np.ndarray:
        keep = np.abs(s) <= reach
        xs = half * s[keep]
        edges = (np.stack((xs, top[keep]), -1), np.stack((xs, low[keep]), -1)[::-1])
        return np.concatenate(edges) + centre

    light = scene.lamp * (0.55 + 0.45 * scene.ambient + 0.25 * scene.light[2])
    lips = who.lips * light
    box = band(outer_top - 0.02, outer_low + 0.03)
    (left, top), (right, bottom) = (np.floor(box.min(0) * n).astype(int), np.ceil(box.max(0) * n).astype(int))
    patch = layer[max(top, 0) : bottom, max(left, 0) : right]
    origin = np.array((left, top)) / n
    if opening > 0.02:
        _fill(patch, band(inner_top, inner_low) - origin, (44, 16, 18), n)
        if tongue > 0:
            rise = inner_low - (0.25 + 0.6 * tongue) * 0.8 * gap * np.sqrt(np.clip(1 - (s / 0.8) ** 2, 0, 1))
            rise = np.maximum(rise, inner_top)
            _fill(patch, band(rise, inner_low, 0.8) - origin, np.array((176, 84, 86)) * light, n)
        if teeth > 0:
            edge = np.minimum(inner_top + 0.019 * teeth * arch**0.5, inner_low)
            _fill(patch, band(inner_top, edge, 0.88) - origin, np.array((236, 230, 218)) * light * 0.95, n)
    _fill(patch, band(outer_top, inner_top) - origin, lips * 0.82, n)
    _fill(patch, band(inner_low, outer_low) - origin, lips, n)
    glow_top = inner_low + 0.25 * (outer_low - inner_low)
    glow_low = inner_low + 0.62 * (outer_low - inner_low)
    _fill(patch, band(glow_top, glow_low, 0.55) - origin, np.minimum(lips * 1.1 + 10, 255), n)
    seam = np.stack((half * s, inner_top), -1) + centre - origin
    _stroke(patch, seam, lips * 0.42, 1, n)
    if opening <= 0.02:
        _stroke(patch, seam, lips * 0.42, 2, n)
    patch[...] = cv2.GaussianBlur(patch, (0, 0), 0.0022 * n)


def _fill(image: np.ndarray, points: np.ndarray, colour: np.ndarray | tuple | int | None, n: int) -> None:
    """Fill a polygon ``points (P, 2)``, in fractions of ``n`` pixels; without a colour, darken it."""
    corners = [np.round((points * n - 0.5) * 2**FIXED_POINT_BITS).astype(np.int32)]
    if colour is None:
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.fillPoly(mask, corners, 90, cv2.LINE_AA, FIXED_POINT_BITS)
        image[..., :3] = (image[..., :3] * (255 - mask[..., None].astype(np.uint16))) // 255
    else:
        cv2.fillPoly(image, corners, _rgba(colour), cv2.LINE_AA, FIXED_POINT_BITS)


def _stroke(image: np.ndarray, points: np.ndarray, colour: np.ndarray, thickness: int, n: int) -> None:
    corners = [np.round((points * n - 0.5) * 2**FIXED_POINT_BITS).astype(np.int32)]
    cv2.polylines(image, corners, False, _rgba(colour), thickness, cv2.LINE_AA, FIXED_POINT_BITS)


def _disc(image: np.ndarray, centre: np.ndarray, radius: float, colour: np.ndarray | tuple, n: int) -> None:
    x, y = np.round((np.asarray(centre) * n - 0.5) * 2**FIXED_POINT_BITS).astype(int)
    fixed_radius = round(radius * n * 2**FIXED_POINT_BITS)
    cv2.circle(image, (int(x), int(y)), fixed_radius, _rgba(colour), -1, cv2.LINE_AA, FIXED_POINT_BITS)


def _rgba(colour: np.ndarray | tuple | int) -> tuple[float, ...] | int:
    if isinstance(colour, int):
        return colour
    return (*np.clip(colour, 0, 255).tolist(), 255)


def _pose(motion: Motion, i: int, share: float) -> np.ndarray:
    """``(2, 3)`` map from the resting head to its position in the frame, in fractions of the frame."""
    angle, scale = share * motion.roll[i], 1 + share * (motion.scale[i] - 1)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array(((cos, -sin), (sin, cos)))
    move = np.array(PIVOT) - turn @ PIVOT + share * motion.shift[i]
    return np.column_stack((turn, move))


def _place(layer: np.ndarray, motion: Motion, i: int, share: float, size: int) -> np.ndarray:
    """Move a layer by ``share`` of the head's motion: ``(size, size, 4)``."""
    n = len(layer)
    pose = _pose(motion, i, share)
    pose[:, 2] = (pose[:, 2] + pose[:, :2] @ (0.5 / n, 0.5 / n)) * n - 0.5
    border = cv2.BORDER_REPLICATE if share < 1 else cv2.BORDER_CONSTANT
    moved = cv2.warpAffine(layer, pose, (n, n), flags=cv2.INTER_LINEAR, borderMode=border)
    return cv2.resize(moved, (size, size), interpolation=cv2.INTER_AREA)


def _ellipse(motion: Motion, size: int, y: float, half_width: float, half_height: float) -> np.ndarray:
    ellipses = np.empty((len(motion.roll), 5))
    for i, (roll, scale) in enumerate(zip(motion.roll, motion.scale, strict=True)):
        middle = _pose(motion, i, 1.0) @ (*(np.array((CENTER_X, y)) + 0.5 * motion.turn[i]), 1)
        ellipses[i] = (
            *middle * size,
            half_width * scale * size,
            half_height * scale * size,
            np.rad2deg(roll),
        )
    return ellipses


def _sway(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Slow irregular motion ``(T,)`` of about unit size: a sum of sines below 1 Hz."""
    frequency = rng.uniform(0.08, 0.9, 4)
    weight = rng.uniform(0.5, 1.0, 4) / (1 + 2 * frequency)
    phase = rng.uniform(0, 2 * np.pi, 4)
    waves = weight * np.sin(2 * np.pi * frequency * times[:, None] + phase)
    return waves.sum(1) / np.sqrt((weight**2).sum() / 2) * 0.7


def _blinks(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Eyelids ``(T,)``: closed (1) for a moment every two to six seconds."""
    closed = np.zeros(len(times))
    at = rng.uniform(-2, 3)
    while len(times) and at < times[-1] + 1:
        closed = np.maximum(closed, np.exp(-(((times - at) / 0.07) ** 4)))
        at += rng.uniform(2, 6)
    return closed


def _glances(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Gaze ``(T, 2)``: rests, then jumps; mostly at the camera."""
    gaze = np.zeros((len(times), 2))
    at = 0.0
    while len(times) and at <= times[-1]:
        gaze[times >= at] = rng.normal(0, 0.25, 2).clip(-1, 1)
        at += rng.uniform(0.5, 2.5)
    return gaze
