"""The still layers of a portrait: background, body, and head, painted once per clip.

Each layer is a square image at `SUPERSAMPLING` times the frame's size. Masks and height fields are float32
arrays over the layer; ``x`` and ``y`` are the coordinates of its pixels in fractions of the frame.
"""

from __future__ import annotations

import cv2
import numpy as np

from avff_lib.synth.portrait import CENTER_X, CENTER_Y, EYE_Y, HAIR_STYLES, MOUTH_Y, Identity, Scene

UPPER_RADIUS = 0.315  # from the head's centre to the skull's top
LOWER_RADIUS = 0.325  # and to the chin
SHADOW = np.array((0.50, 0.37, 0.34), np.float32)  # skin in the shade, relative to skin in the light
Values = np.ndarray | float


def grid(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates ``x (1, n)`` and ``y (n, 1)`` of the pixel centres."""
    at = (np.arange(n, dtype=np.float32) + 0.5) / n
    return at[None], at[:, None]


def step(low: Values, high: Values, value: np.ndarray) -> np.ndarray:
    """Smoothstep: 0 below ``low``, 1 above ``high``, smooth between."""
    part = np.clip((value - low) / (high - low), 0, 1)
    return part * part * (3 - 2 * part)


def bump(dx: Values, dy: Values, sx: float, sy: float) -> np.ndarray:
    """A Gaussian of height 1 and standard deviations ``sx``, ``sy``."""
    return np.exp(-0.5 * ((dx / sx) ** 2 + (dy / sy) ** 2))


def head_radius(who: Identity, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Normalised radius: 0 in the middle of the face, 1 on its outline."""
    up = (y - CENTER_Y) / np.where(y < CENTER_Y, UPPER_RADIUS, LOWER_RADIUS)
    width = who.face_width * (1 - who.taper * np.clip(up, 0, 1) ** 1.5)
    power = np.where(y < CENTER_Y, 2.25, who.chin)
    return (np.abs((x - CENTER_X) / width) ** power + np.abs(up) ** power) ** (1 / power)


def paint_head(who: Identity, scene: Scene, n: int) -> np.ndarray:
    """The head without eyeballs and mouth: ``(n, n, 4)`` uint8, RGB multiplied by alpha."""
    rng = np.random.default_rng(who.seed)
    x, y = grid(n)
    dx, side = x - CENTER_X, np.abs(x - CENTER_X)
    radius = head_radius(who, x, y)
    pixel = 4.0 / n  # width of a soft edge
    face = step(1 + pixel, 1 - pixel, radius)

    layer = np.zeros((n, n, 4), np.float32)
    hair_colour = who.hair * (0.55 + 0.5 * scene.ambient)
    strands = _strands(who, rng, dx, y)
    sheen = 0.75 + 0.9 * strands + 0.5 * bump(dx - 0.10 * scene.light[0], y - 0.22, 0.12, 0.045)
    hair = np.clip(hair_colour * scene.lamp * sheen[..., None], 0, 255)
    back, front = _hair_masks(who, rng, dx, y, radius, n)
    if HAIR_STYLES[who.hair_style][3] > 0.6:  # the neck is visible between the locks
        back = back * np.maximum(step(0.70, 0.66, y), step(0.0, 0.012, side - 0.60 * who.face_width))
    _over(layer, hair * 0.72, back)

    # Ears, behind the face.
    ear_x = side - who.face_width * 1.005
    ears = step(1.1, 0.95, np.hypot(ear_x / 0.026, (y - 0.487) / 0.058))
    inner = bump(ear_x - 0.006, y - 0.487, 0.010, 0.030)
    _over(layer, who.skin * scene.lamp * (0.82 - 0.32 * inner)[..., None], ears)

    _over(layer, _skin(who, scene, rng, x, y, radius, n), face)
    if who.beard:
        _paint_beard(layer, who, hair, rng, side, y, radius, face)
    _paint_brows(layer, who, rng, dx, side, y)
    shadow = cv2.GaussianBlur(front, (0, 0), 0.012 * n)
    layer[..., :3] *= 1 - 0.35 * (shadow * face)[..., None]
    _over(layer, hair, front)
    if who.glasses:
        _paint_glasses(layer, who, n)
    return np.clip(layer + 0.5, 0, 255).astype(np.uint8)


def paint_body(who: Identity, scene: Scene, n: int) -> np.ndarray:
    """Neck and shoulders: ``(n, n, 4)`` uint8, RGB multiplied by alpha."""
    x, y = grid(n)
    dx = x - CENTER_X
    layer = np.zeros((n, n, 4), np.float32)
    lit = np.clip(0.75 + 0.9 * scene.light[0] * dx / 0.2, 0.45, 1.1)
    hang = HAIR_STYLES[who.hair_style][3]
    if hang > 0.6:  # hair behind the neck
        behind = step(who.face_width * 0.95, who.face_width * 0.90, np.abs(dx)) * step(hang, hang - 0.04, y)
        _over(layer, np.broadcast_to(who.hair * 0.28, (n, n, 3)), behind * step(0.5, 0.55, y))
    neck_width = 0.56 * who.face_width + 0.25 * np.clip(y - 0.80, 0, 1) ** 1.5 + 0.008
    under_chin = 1 - 0.55 * step(0.93, 0.80, y + 1.2 * dx**2)
    neck = step(neck_width + 0.006, neck_width - 0.002, np.abs(dx)) * step(0.60, 0.62, y)
    tone = (lit * under_chin)[..., None]
    _over(layer, who.skin * scene.lamp * (SHADOW + (1 - SHADOW) * np.clip(tone, 0, 1)), neck)

    shoulder_y = 0.878 + 0.42 * np.clip(np.abs(dx) - 0.10, 0, 1) ** 1.35 - 0.04 * bump(dx, 0, 0.2, 1)
    neckline = 0.972 - 0.10 * np.clip(np.abs(dx) / 0.15, 0, 1.2) ** 2.2
    top = np.maximum(shoulder_y, np.where(np.abs(dx) < 0.17, neckline, 0))
    cloth = step(-0.004, 0.004, y - top)
    folds = 1 + 0.06 * np.sin(38 * dx + 9 * y) * step(0.12, 0.3, np.abs(dx))
    collar = 1 - 0.22 * bump(0, y - top - 0.012, 1, 0.006)
    _over(layer, scene.clothes * scene.lamp * (lit * folds * collar)[..., None], cloth)
    return np.clip(layer + 0.5, 0, 255).astype(np.uint8)


def paint_background(scene: Scene, n: int) -> np.ndarray:
    """A wall with light on it and objects out of focus: ``(n, n, 3)`` uint8."""
    rng = np.random.default_rng(scene.background)
    x, y = grid(n)
    hue = rng.uniform(0, 360)

    def colour(value: float) -> np.ndarray:
        hsv = ((hue + rng.normal(0, 30)) % 360, rng.uniform(0.04, 0.32), np.clip(value, 0.08, 0.95))
        return 255 * cv2.cvtColor(np.array([[hsv]], np.float32), cv2.COLOR_HSV2RGB)[0, 0]

    def corner(px: float, py: float) -> tuple[int, int]:
        return round(px * n), round(py * n)

    base = rng.uniform(0.3, 0.85)
    turn = rng.uniform(0, 2 * np.pi)
    ramp = 0.5 + (np.cos(turn) * (x - 0.5) + np.sin(turn) * (y - 0.5))
    image = colour(base) + (colour(base * 0.7) - colour(base)) * ramp[..., None]
    image = np.ascontiguousarray(np.broadcast_to(image, (n, n, 3)), np.float32)
    kind = rng.integers(4)
    if kind == 1:  # shelves
        for shelf in np.arange(rng.uniform(0.05, 0.15), 1, rng.uniform(0.18, 0.26)):
            at = 0.0
            while at < 1:
                width, height = rng.uniform(0.02, 0.06), rng.uniform(0.09, 0.15)
                cv2.rectangle(
                    image,
                    corner(at, shelf - height),
                    corner(at + width, shelf),
                    colour(rng.uniform(0.2, 0.8)).tolist(),
                    -1,
                )
                at += width + (rng.random() < 0.2) * rng.uniform(0.01, 0.08)
            cv2.rectangle(image, corner(0, shelf), corner(1, shelf + 0.02), colour(0.3).tolist(), -1)
    elif kind == 2:  # a window or pictures
        for _ in range(rng.integers(1, 4)):
            left, top = rng.uniform(-0.1, 0.8), rng.uniform(-0.1, 0.4)
            right, bottom = left + rng.uniform(0.15, 0.4), top + rng.uniform(0.2, 0.45)
            cv2.rectangle(image, corner(left, top), corner(right, bottom), colour(0.25).tolist(), -1)
            edge = 0.02
            inside = colour(rng.uniform(0.5, 0.95)).tolist()
            cv2.rectangle(
                image, corner(left + edge, top + edge), corner(right - edge, bottom - edge), inside, -1
            )
    elif kind == 3:  # lights out of focus
        for _ in range(rng.integers(8, 20)):
            spot = np.zeros((n, n, 3), np.float32)
            where = corner(*rng.uniform(0, 1, 2))
            cv2.circle(
                spot, where, round(rng.uniform(0.02, 0.06) * n), colour(rng.uniform(0.5, 1)).tolist(), -1
            )
            image = image + rng.uniform(0.2, 0.5) * spot
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.008, 0.02) * n)
    return np.clip(image * scene.lamp * rng.uniform(0.75, 1.0), 0, 255).astype(np.uint8)


def _over(layer: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> None:
    """Composite ``colour (n, n, 3)`` over ``layer`` in place, with opacity ``alpha (n, n)``."""
    alpha = np.broadcast_to(alpha, layer.shape[:2])[..., None].astype(np.float32)
    layer *= 1 - alpha
    layer[..., :3] += np.minimum(colour, 255) * alpha
    layer[..., 3:] += 255 * alpha


def _skin(
    who: Identity,
    scene: Scene,
    rng: np.random.Generator,
    x: np.ndarray,
    y: np.ndarray,
    radius: np.ndarray,
    n: int,
) -> np.ndarray:
    """Lit skin ``(n, n, 3)``: a height field of hills and dents under one lamp."""
    dx, side = x - CENTER_X, np.abs(x - CENTER_X)
    eye, tip = side - who.eye_distance, EYE_Y + who.nose_length
    brow_y = EYE_Y - who.brow_height
    ridge = step(EYE_Y - 0.03, tip, y) * step(tip + 0.018, tip - 0.004, y)
    fold_x = who.nose_width + 0.012 + 0.5 * np.clip(y - tip + 0.01, 0, 1)
    fold = np.exp(-0.5 * ((side - fold_x) / 0.010) ** 2) * bump(0, y - tip - 0.04, 1, 0.035)
    height = (
        0.27 * np.sqrt(np.clip(1.02 - radius**2, 0, 1))
        + ridge * (0.014 + 0.042 * ridge) * np.exp(-0.5 * (dx / (0.014 + 0.45 * who.nose_width * ridge)) ** 2)
        + 0.016 * bump(side - who.nose_width * 0.82, y - tip + 0.004, 0.012, 0.014)
        - 0.026 * bump(eye, y - EYE_Y, 0.050, 0.030)
        + 0.011 * bump(eye, y - EYE_Y - 0.004, 0.026, 0.017)
        + 0.012 * bump(side - 0.08, y - brow_y, 0.07, 0.022)
        + 0.018 * bump(side - 0.125, y - 0.55, 0.055, 0.050)
        + 0.016 * bump(dx, y - MOUTH_Y, 0.070, 0.035)
        - 0.005 * bump(dx, y - tip - 0.042, 0.007, 0.022)
        - 0.007 * bump(dx, y - MOUTH_Y - 0.047, 0.040, 0.011)
        + 0.014 * bump(dx, y - 0.762, 0.045, 0.030)
        - (0.001 + 0.0075 * who.age) * fold
        - 0.003 * who.age * bump(eye, y - EYE_Y - 0.034, 0.030, 0.006)
        - 0.0016 * who.age * np.sin((y - 0.30) * 190) * bump(dx, y - 0.33, 0.10, 0.035)
    ).astype(np.float32)
    height = cv2.GaussianBlur(height, (0, 0), 0.004 * n)
    slope_y, slope_x = np.gradient(height, 1 / n)
    normal = np.stack((-slope_x, -slope_y, np.ones_like(slope_x)), -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    diffuse = np.clip((normal @ scene.light + 0.15) / 1.15, 0, 1)
    half_way = scene.light + np.array((0, 0, 1))
    shine = np.clip(normal @ (half_way / np.linalg.norm(half_way)), 0, 1) ** 28

    light = np.clip(scene.ambient + (1.05 - scene.ambient) * diffuse, 0, 1.05)[..., None]
    skin = np.broadcast_to(who.skin, (n, n, 3)).copy()
    flush = (
        0.5 * bump(side - 0.125, y - 0.56, 0.05, 0.04)
        + 0.35 * bump(dx, y - tip, 0.035, 0.025)
        + 0.15 * bump(dx, y - 0.76, 0.05, 0.03)
    )[..., None]
    skin *= 1 - flush * (0.03, 0.15, 0.14)
    shade = (
        0.5 * bump(eye, y - EYE_Y + 0.006, 0.036, 0.020)
        + 0.25 * who.age * bump(eye, y - EYE_Y - 0.03, 0.03, 0.01)
    )[..., None]
    skin *= 1 - shade * (0.22, 0.30, 0.26)
    if who.freckles:
        spots = cv2.GaussianBlur(rng.standard_normal((n, n), np.float32), (0, 0), 0.0035 * n)
        spots = step(1.5, 2.4, spots / spots.std()) * bump(side - 0.06, y - 0.53, 0.09, 0.045)
        skin *= 1 - who.freckles * spots[..., None] * (0.25, 0.36, 0.42)
    grain = cv2.GaussianBlur(rng.standard_normal((n, n), np.float32), (0, 0), 0.8)
    skin *= 1 + 0.012 * (1 + who.age) * grain[..., None]
    skin = skin * scene.lamp * (SHADOW + (1 - SHADOW) * light)
    skin *= (1 - 0.30 * step(0.72, 1.02, radius) - 0.16 * bump(dx, y - tip - 0.020, 0.030, 0.008))[..., None]
    skin += 30 * (0.4 + 0.6 * diffuse[..., None]) * shine[..., None] * scene.lamp
    # Nostrils and the crease above the eyes.
    nostril = bump(side - who.nose_width * 0.52, y - tip - 0.008, 0.0085, 0.0045)
    crease_y = EYE_Y - 0.026 - 0.2 * who.eye_tilt * eye + 5 * eye**2
    crease = np.exp(-0.5 * ((y - crease_y) / 0.0025) ** 2) * step(0.042, 0.030, np.abs(eye))
    return skin * (1 - 0.72 * nostril - 0.30 * crease)[..., None]


def _strands(who: Identity, rng: np.random.Generator, dx: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Brightness of strands of hair, ``(n, n)`` in [0, 1]: streaks away from the parting, or curls."""
    if who.hair_style == "curly":
        n = y.shape[0]
        curls = cv2.GaussianBlur(rng.standard_normal((n, n), np.float32), (0, 0), 0.011 * n)
        return np.clip(0.4 + 0.22 * curls / curls.std(), 0, 1)
    angle = np.arctan2(dx - who.part, y - 0.05)
    streaks = np.zeros(np.broadcast_shapes(dx.shape, y.shape), np.float32)
    for cells in (25, 70, 160):
        streaks += np.interp(angle, np.linspace(-np.pi, np.pi, 4 * cells), rng.random(4 * cells))
    return (streaks / 3).astype(np.float32)


def _hair_masks(
    who: Identity, rng: np.random.Generator, dx: np.ndarray, y: np.ndarray, radius: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the hair behind and in front of the face, each ``(n, n)`` in [0, 1]."""
    stand_off, hairline, fall, hang, ragged = HAIR_STYLES[who.hair_style]
    if who.hair_style == "bald":
        none = np.zeros((n, n), np.float32)
        return none, none
    edge = cv2.GaussianBlur(rng.standard_normal((n, n), np.float32), (0, 0), 0.012 * n)
    edge *= ragged / edge.std()
    side = np.abs(dx)
    # The cap: the head's outline, pushed outwards and up.
    scale = 1 + stand_off / who.face_width
    cap = step(
        0.014,
        -0.014,
        (head_radius(who, dx / scale + CENTER_X, (y - CENTER_Y) / scale + CENTER_Y) - 1) * 0.3 + edge,
    )
    lowest = max(hang, 0.47)
    back = cap * step(lowest + 0.012, lowest - 0.012, y + edge)
    if hang > 0.6:
        curtain = who.face_width + stand_off * (0.8 + 0.35 * np.sin(8 * (y - 0.3)))
        hanging = step(curtain + 0.008, curtain - 0.008, side + edge) * step(CENTER_Y - 0.03, CENTER_Y, y)
        curl = lowest - 0.05 * (side / 0.3) ** 3
        back = np.maximum(back, hanging * step(curl + 0.01, curl - 0.01, y + edge))
    if who.hair_style == "bun":
        back = np.maximum(back, step(1.08, 0.92, np.hypot(dx / 0.095, (y - 0.125) / 0.075) + edge))
    line = hairline + fall * np.abs(dx - 0.6 * who.part) ** 2.1 + 0.4 * ragged * np.sin(60 * dx)
    line = line + edge * (0.6 if who.hair_style != "fringe" else 2.0)
    front = cap * step(0.008, -0.008, y - np.minimum(line, 0.50 if hang < 0.6 else 0.62))
    if hang > 0.6:  # locks beside the cheeks
        lock = who.face_width * (0.93 + 0.05 * np.cos(9 * (y - 0.45)))
        lock = step(lock - 0.006, lock + 0.006, side + 0.5 * edge) * step(0.30, 0.40, y)
        front = np.maximum(front, lock * back)
    if who.hair_style == "buzz":
        front = 0.8 * cv2.GaussianBlur(front, (0, 0), 0.008 * n)
    return back.astype(np.float32), front.astype(np.float32)


def _paint_beard(
    layer: np.ndarray,
    who: Identity,
    hair: np.ndarray,
    rng: np.random.Generator,
    side: np.ndarray,
    y: np.ndarray,
    radius: np.ndarray,
    face: np.ndarray,
) -> None:
    cheek = (
        0.60
        + 0.10 * np.cos(np.clip(side / who.face_width, 0, 1) * np.pi) ** 2
        - 0.07 * (side / who.face_width) ** 2
    )
    area = step(0.0, 0.035, y - cheek)
    area = np.maximum(area, step(0.019, 0.004, np.abs(y - MOUTH_Y + 0.034)) * step(0.095, 0.075, side))
    lips = step(0.75, 1.15, np.hypot(side / (who.mouth_width * 0.95), (y - MOUTH_Y - 0.004) / 0.026))
    stubble = rng.standard_normal(y.shape[0:1] * 2, np.float32)
    alpha = who.beard * area * lips * face * (0.78 + 0.12 * stubble)
    _over(layer, hair * 0.85, np.clip(alpha, 0, 1))


def _paint_brows(
    layer: np.ndarray,
    who: Identity,
    rng: np.random.Generator,
    dx: np.ndarray,
    side: np.ndarray,
    y: np.ndarray,
) -> None:
    along = (side - who.eye_distance + 0.002) / 0.058  # -1 at the nose, 1 at the temple
    middle = EYE_Y - who.brow_height + 0.010 * along**2 - 0.4 * who.eye_tilt * 0.058 * along - 0.001 * along
    thick = who.brow_thickness * (0.70 - 0.34 * along) * step(1.1, 0.6, np.abs(along))
    hairs = 0.85 + 0.15 * np.sin(500 * side + 350 * y + rng.uniform(0, 6))
    alpha = np.exp(-(((y - middle) / np.maximum(thick, 1e-4)) ** 2)) * hairs * step(1.08, 0.92, np.abs(along))
    _over(layer, np.minimum(who.hair, 150) * 0.62, 0.88 * alpha)


def _paint_glasses(layer: np.ndarray, who: Identity, n: int) -> None:
    frame = (20.0, 18.0, 20.0, 255.0)
    rng = np.random.default_rng(who.seed + 1)
    roundness, thick = rng.uniform(2, 4), max(1, round(0.0075 * n))
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    lens = np.stack((np.cos(t), np.sin(t)), -1)
    lens = np.sign(lens) * np.abs(lens) ** (2 / roundness)
    for way in (-1, 1):
        rim = (lens * (0.072, 0.052) + (CENTER_X + way * who.eye_distance * 1.02, EYE_Y + 0.012)) * n
        cv2.polylines(layer, [np.round(rim * 16).astype(np.int32)], True, frame, thick, cv2.LINE_AA, 4)
        hinge = np.array(((who.eye_distance * 1.02 + 0.072, -0.012), (who.face_width + 0.004, -0.018)))
        arm = (hinge * (way, 1) + (CENTER_X, EYE_Y + 0.006)) * n
        cv2.polylines(layer, [np.round(arm * 16).astype(np.int32)], False, frame, thick, cv2.LINE_AA, 4)
    gap = who.eye_distance * 1.02 - 0.072
    bridge = np.array(((-gap, 0.004), (0, -0.006), (gap, 0.004)))
    bridge = (bridge + np.array((CENTER_X, EYE_Y))) * n
    cv2.polylines(layer, [np.round(bridge * 16).astype(np.int32)], False, frame, thick, cv2.LINE_AA, 4)
