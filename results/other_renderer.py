"""Talking heads that share neither drawing nor voice with `avff_lib.synth`: the clips of another renderer.

    python results/other_renderer.py data/other

A detector trained on the embedded corpus knows one renderer. These clips show how far the detector, and its
test for inputs out of distribution, depend on it. Heads are ellipsoids, hit by the rays of a pinhole camera,
with features as bumps on the surface (parallax and bump mapping). Voices are sums of sinusoids and filtered
noise (Serra and Smith, 1990). Half of the clips are real: a single track of phones drives lips and voice. In
the fakes, one of the two comes from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro
from scipy.interpolate import CubicSpline
from scipy.signal import butter, fftconvolve, istft, sosfiltfilt, stft

from avff_lib.data.manifest import Row, write_manifest
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.utils.parallel import parallel_map

CATEGORIES = {"real": "RVRA", "shifted": "RVFA", "foreign_voice": "RVFA", "foreign_lips": "FVRA"}
FAKES = tuple(CATEGORIES)[1:]
PEOPLE = 20
HEIGHT, WIDTH, FPS, SECONDS = 192, 256, 25, 3.6
SAMPLE_RATE, TRACK_RATE = 16_000, 100  # Hz, of the voice and of the track of phones
SHIFT = (0.2, 0.6)  # seconds of a shifted voice, in either direction
MARGIN = SHIFT[1]  # seconds of speech before and after a clip

# Seconds; formants 1 to 3 in Hz; amplitudes of voice and noise, center of the noise in Hz; opening, spreading
# and rounding of the mouth.
PHONES = {
    "a": (0.14, 780, 1250, 2550, 1.00, 0.00, 1500, 0.95, 0.45, 0.0),
    "e": (0.12, 480, 1950, 2600, 0.85, 0.00, 1500, 0.50, 0.80, 0.0),
    "i": (0.12, 290, 2250, 3000, 0.70, 0.00, 1500, 0.28, 1.00, 0.0),
    "o": (0.13, 500, 870, 2450, 0.85, 0.00, 1500, 0.60, 0.15, 0.7),
    "u": (0.12, 320, 820, 2300, 0.65, 0.00, 1500, 0.25, 0.00, 1.0),
    "ae": (0.14, 670, 1720, 2450, 0.95, 0.00, 1500, 0.80, 0.70, 0.0),
    "m": (0.08, 260, 1050, 2250, 0.30, 0.00, 1500, 0.00, 0.45, 0.1),
    "n": (0.07, 270, 1650, 2600, 0.35, 0.00, 1500, 0.20, 0.50, 0.0),
    "l": (0.07, 360, 1150, 2750, 0.50, 0.00, 1500, 0.35, 0.50, 0.0),
    "v": (0.07, 300, 1150, 2300, 0.30, 0.08, 5200, 0.06, 0.55, 0.0),
    "s": (0.10, 300, 1700, 2650, 0.00, 0.35, 6000, 0.14, 0.75, 0.0),
    "sh": (0.10, 300, 1750, 2450, 0.00, 0.40, 3200, 0.18, 0.20, 0.7),
    "f": (0.09, 300, 1150, 2300, 0.00, 0.14, 5200, 0.05, 0.55, 0.0),
    "h": (0.06, 500, 1500, 2500, 0.00, 0.12, 1600, 0.40, 0.50, 0.0),
    "p": (0.07, 300, 900, 2200, 0.00, 0.00, 900, 0.00, 0.45, 0.1),  # closed; the burst follows as "f" or "h"
    "t": (0.06, 300, 1750, 2650, 0.00, 0.00, 4200, 0.15, 0.55, 0.0),
    "pause": (0.22, 450, 1450, 2500, 0.00, 0.00, 1500, 0.04, 0.45, 0.0),
}
VOWELS = ("a", "e", "i", "o", "u", "ae")
ONSETS = (("m",), ("n",), ("l",), ("v",), ("s",), ("sh",), ("f",), ("h",), ("p", "f"), ("t", "s"), ("p", "h"))
CODAS = ((), (), (), ("n",), ("l",), ("s",), ("m",))

# Coordinates of a head: to the right, down, towards the camera, in units of half its height.
HEAD = (0.74, 1.0, 0.85)  # half-axes
EYE_X, EYE_Y, MOUTH_Y = 0.30, -0.10, 0.50
CAMERA, HORIZON = 6.0, 0.45 * HEIGHT  # distance of the camera, and the row of the picture at its height
FOCAL = 0.35 * HEIGHT * CAMERA  # pixels
TEXELS, REACH = 320, 1.3  # side of the map of a face in texels; it extends from -REACH to REACH
IVORY, CAVITY, TONGUE = np.array([(0.88, 0.85, 0.81), (0.12, 0.04, 0.04), (0.6, 0.25, 0.25)])  # RGB in [0, 1]

Layers = Iterator[tuple[np.ndarray, np.ndarray]]  # opacity (H, W) and color (3,), from behind to the front


@dataclass(frozen=True, eq=False)
class Person:
    """Appearance, voice and way of speaking of one person; colors are RGB in [0, 1]."""

    face: np.ndarray  # `paint_face`
    slopes: np.ndarray
    skin: np.ndarray
    lips: np.ndarray
    hair: np.ndarray
    clothes: np.ndarray
    width: float  # of the head, relative to `HEAD`
    hairline: float  # on the forehead
    hair_length: float  # down to which it hangs behind the head
    pitch: float  # Hz
    tract: float  # factor of the formants
    rate: float  # of speaking

    @classmethod
    def sample(cls, seed: int, number: int) -> Person:
        """The person with this number; women have odd ones."""
        rng = np.random.default_rng([seed, number, 1])
        woman = number % 2 == 1
        tone = rng.uniform(0, 1)
        skin = (1 - tone) * np.array([0.93, 0.72, 0.60]) + tone * np.array([0.48, 0.29, 0.20])
        skin *= rng.uniform(0.97, 1.03, 3)
        hair = rng.uniform(0.08, 0.4) * rng.uniform(0.65, 0.95) ** np.arange(3)
        face, slopes = paint_face(skin, hair, rng)
        return cls(
            face=face,
            slopes=slopes,
            skin=skin,
            lips=skin * rng.uniform((0.85, 0.5, 0.5), (0.98, 0.68, 0.68)),
            hair=hair,
            clothes=rng.uniform(0.08, 0.75) * rng.uniform(0.6, 1, 3),
            width=rng.uniform(0.94, 1.06),
            hairline=rng.uniform(-0.72, -0.52),
            hair_length=rng.uniform(0.5, 1.4) if woman else rng.uniform(-0.2, 0.1),
            pitch=rng.uniform(170, 230) if woman else rng.uniform(90, 140),
            tract=rng.uniform(1.08, 1.2) if woman else rng.uniform(0.94, 1.05),
            rate=rng.uniform(0.9, 1.15),
        )


def cloud(rng: np.random.Generator, shape: tuple[int, int], slope: float) -> np.ndarray:
    """Noise of unit variance whose amplitude falls as frequency to the power of ``-slope``."""
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / np.maximum(np.hypot(fy, fx), 1 / shape[1]) ** slope
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, shape)
    return (noise / noise.std()).astype(np.float32)


def wander(rng: np.random.Generator, times: np.ndarray, interval: float) -> np.ndarray:
    """A smooth random curve at ``times``, of about unit variance, with a knot every ``interval`` seconds."""
    knots = np.arange(times[0] - interval, times[-1] + 2 * interval, interval)
    return CubicSpline(knots, rng.standard_normal(len(knots)))(times)


# --- speech ---


def utter(person: Person, rng: np.random.Generator) -> np.ndarray:
    """Random words: a track ``(N, 9)`` at `TRACK_RATE`, with the columns of `PHONES` but the first."""
    total = round((SECONDS + 2 * MARGIN) * TRACK_RATE)
    rows: list[tuple[float, ...]] = []
    while len(rows) < total + TRACK_RATE:
        word: list[str] = []
        for _ in range(rng.integers(1, 4)):
            onset, coda = ONSETS[rng.integers(len(ONSETS))], CODAS[rng.integers(len(CODAS))]
            word += [*onset, str(rng.choice(VOWELS)), *coda]
        for name in [*word, *(["pause"] if rng.random() < 0.3 else [])]:
            seconds, *targets = PHONES[name]
            rows += [tuple(targets)] * round(seconds * rng.uniform(0.8, 1.25) / person.rate * TRACK_RATE)
    track = np.array(rows)
    for columns, cutoff in ((slice(0, 6), 16), (slice(6, 9), 8)):  # lips are slower than the tongue
        low_pass = butter(2, cutoff, fs=TRACK_RATE, output="sos")
        track[:, columns] = sosfiltfilt(low_pass, track[:, columns], axis=0)
    first = rng.integers(len(track) - total)
    return np.maximum(track[first : first + total], 0)


def speak(track: np.ndarray, person: Person, rng: np.random.Generator) -> np.ndarray:
    """The voice ``(S,)`` of a track: harmonics under an envelope of formants, bands of noise, and a room."""
    times = np.arange(len(track)) / TRACK_RATE
    moments = np.arange(len(track) * SAMPLE_RATE // TRACK_RATE) / SAMPLE_RATE
    formants = np.column_stack([track[:, :3], np.full(len(track), 3600)]) * person.tract
    voiced, noisy, center = track[:, 3:6].T
    pitch = person.pitch * 2 ** (0.16 * wander(rng, times, 0.35) + 0.012 * wander(rng, times, 0.03))
    phase = 2 * np.pi * np.cumsum(np.interp(moments, times, pitch)) / SAMPLE_RATE
    voice = np.zeros(len(moments))
    for k in range(1, int(6000 / pitch.min())):
        gain = voiced * resonance(k * pitch[:, None], formants) * k**-0.9 * (k * pitch < 6000)
        voice += np.interp(moments, times, gain) * np.sin(k * phase + rng.uniform(0, 2 * np.pi))
    noise = rng.standard_normal(len(moments))
    bins, _, spectra = stft(
        noise, SAMPLE_RATE, nperseg=2 * SAMPLE_RATE // TRACK_RATE
    )  # a column for each step
    band = noisy * np.exp(-(((bins[:, None] - center) / (350 + 0.2 * center)) ** 2))
    spectra[:, : len(track)] *= band + 0.04 * voiced * resonance(bins[:, None, None], formants)
    voice += 12 * istft(spectra, SAMPLE_RATE)[1][: len(moments)]

    delay = np.arange(int(0.25 * SAMPLE_RATE)) / SAMPLE_RATE
    room = (
        rng.standard_normal(len(delay)) * np.exp(-delay / rng.uniform(0.02, 0.06)) * rng.uniform(0.01, 0.04)
    )
    room[0] = 1.0
    voice = fftconvolve(voice, room)[: len(voice)]
    hum = np.sin(2 * np.pi * 50 * moments) + rng.standard_normal(len(moments))
    voice = rng.uniform(0.05, 0.1) * (voice / voice.std() + 10 ** rng.uniform(-2.2, -1.4) * hum)
    return np.clip(voice, -1, 1).astype(np.float32)


def resonance(frequency: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """Gain of four resonances ``(N, 4)`` in Hz at each ``frequency`` ``(..., N or 1, 1)``: ``(..., N)``."""
    width = 50 + 0.05 * formants
    return (formants**2 / np.hypot(formants**2 - frequency**2, width * frequency)).prod(axis=-1)


# --- picture ---


def paint_face(skin: np.ndarray, hair: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The face from the front: color and height ``(N, N, 4)``, slopes of the height ``(N, N, 2)``."""
    x, y = np.meshgrid(*2 * [np.linspace(-REACH, REACH, TEXELS, dtype=np.float32)])

    def bump(cx: float, cy: float, wx: float, wy: float) -> np.ndarray:
        return np.exp(-(((np.abs(x) - cx) / wx) ** 2) - ((y - cy) / wy) ** 2)

    ridge = np.exp(-((x / (0.07 + 0.06 * np.clip(y + 0.2, 0, 1))) ** 2))
    height = 0.17 * ridge * np.clip((y + 0.25) / 0.5, 0, 1) / (1 + np.exp((y - 0.25) * 45))  # the nose
    height += 0.05 * bump(0.11, 0.22, 0.06, 0.06) - 0.08 * bump(EYE_X, EYE_Y, 0.17, 0.12)
    height += 0.04 * bump(0.3, -0.27, 0.25, 0.08) + 0.05 * bump(0.42, 0.18, 0.2, 0.2)  # brows, cheeks
    height += 0.05 * bump(0, MOUTH_Y, 0.25, 0.12) - 0.03 * bump(0, 0.66, 0.18, 0.05)
    height += 0.06 * bump(0, 0.84, 0.2, 0.13)  # the chin
    grain = 1 + 0.06 * cloud(rng, (TEXELS, TEXELS), slope=1.0) - 0.75 * bump(0.075, 0.29, 0.045, 0.025)
    color = (grain[..., None] * skin).astype(np.float32)
    for at, offset, grey in rng.uniform((0, -0.025, 0.5), (1, 0.025, 0.9), (220, 3)):  # brows, by hairs
        start = np.array([0.14 + 0.34 * at, -0.27 - 0.09 * np.sin(2.2 * at) + offset])
        for side in (-1, 1):
            ends = np.array([start, start + np.array([0.05, 0.05 * at - 0.03])]) * (side, 1)
            first, last = ((ends + REACH) * TEXELS / (2 * REACH)).astype(int).tolist()
            cv2.line(color, first, last, (grey * hair).tolist())
    slopes = np.stack(np.gradient(height, 2 * REACH / TEXELS)[::-1], axis=-1)
    return np.concatenate([color, height[..., None]], axis=-1), slopes


def render(person: Person, lips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Film ``(T, HEIGHT, WIDTH, 3)`` uint8 of a blinking person with these mouth shapes ``(T, 3)``."""
    light = np.array([rng.uniform(-0.9, 0.9), rng.uniform(-0.8, -0.1), 1.0], np.float32)
    light /= np.linalg.norm(light)
    room = paint_room(person, light, rng)
    warmth, blur = 1 + rng.uniform(-0.08, 0.08) * np.array([1, 0, -1], np.float32), rng.uniform(0.4, 0.8)
    times = np.arange(len(lips)) / FPS
    angles = np.stack([size * wander(rng, times, 0.9) for size in (0.07, 0.13, 0.05)], axis=1)
    angles[:, 1] += rng.uniform(-0.2, 0.2)
    shifts = np.stack([size * wander(rng, times, 1.2) for size in (3, 2)], axis=1)
    blinks = np.cumsum(rng.uniform(1.0, 3.5, 4))
    lids = 1 - np.exp(-(((times[:, None] - blinks) / 0.06) ** 2)).sum(axis=1)
    frames = []
    for angle, shift, shape, lid in zip(angles, shifts, lips, lids.tolist(), strict=True):
        image = room.copy()
        rotation = cv2.Rodrigues(angle)[0].astype(np.float32)
        paint_head(image, person, light, rotation, shift, [*shape.tolist(), lid])
        image = cv2.GaussianBlur(image.transpose(1, 2, 0), (0, 0), blur) * warmth
        image += 0.012 * rng.standard_normal((HEIGHT, WIDTH, 1), np.float32)
        frames.append((255 * np.sqrt(np.clip(image, 0, 1))).astype(np.uint8))
    return np.stack(frames)


def paint_room(person: Person, light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The static parts ``(3, HEIGHT, WIDTH)``: a blurred room, and the neck and shoulders in front of it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    room = rng.uniform(0.75, 1, (3, 1, 1)) * rng.uniform(0.15, 0.6)
    room = (room * (1 + 0.25 * cloud(rng, (HEIGHT, WIDTH), slope=1.6))).astype(np.float32)
    for _ in range(6):  # furniture and windows
        left, top = rng.uniform(-40, WIDTH), rng.uniform(-40, HEIGHT)
        inside = (x > left) & (x < left + rng.uniform(20, 90)) & (y > top) & (y < top + rng.uniform(20, 120))
        room[:, inside] = rng.uniform(0.75, 1, (3, 1)) * rng.uniform(0.2, 0.9)
    room = np.stack([cv2.GaussianBlur(plane, (0, 0), 5) for plane in room])
    view, eye = look(slice(None), slice(None), np.eye(3, dtype=np.float32), np.zeros(2))
    neck = (person.skin, (0, 1.15, -0.35), (0.40, 1.0, 0.40))
    shoulders = (person.clothes, (0, 2.45, -0.4), (1.6, 1.2, 0.9))
    for color, center, axes in (neck, shoulders):
        alpha, point, normal = hit(view, eye, center, axes)
        folds = 1 + 0.06 * np.sin(40 * point[0] + 9 * np.sin(point[1]))
        shadow = np.clip(0.35 + 1.2 * (point[1] - 0.9), 0.35, 1)  # of the chin
        cover(room, alpha, color, folds * shadow * lambert(normal, light))
    return room


def look(
    rows: slice, columns: slice, rotation: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, list[float]]:
    """The pixels' rays ``(3, H, W)`` and the camera's position, in the coordinates of a moved head."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)[:, rows, columns]
    x, y = x - WIDTH / 2 - float(shift[0]), y - HORIZON - float(shift[1])
    rays = np.stack([x / FOCAL, y / FOCAL, -np.ones_like(x)])
    return np.tensordot(rotation.T, rays, 1), (CAMERA * rotation[2]).tolist()


def hit(
    view: np.ndarray, eye: list[float], center: Sequence[float], axes: Sequence[float | np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An ellipsoid as seen by the camera.

    Args:
        view, eye: as `look` returns them.
        center: of the ellipsoid.
        axes: its half-axes, each a number or ``(H, W)``.

    Returns:
        Coverage ``(H, W)`` of the pixels; points and unit normals ``(3, H, W)`` of the surface.
    """
    start = [(e - c) / a for e, c, a in zip(eye, center, axes, strict=True)]
    step = [v / a for v, a in zip(view, axes, strict=True)]
    square = sum(d * d for d in step)
    along = -sum(s * d for s, d in zip(start, step, strict=True)) / square
    miss = sum((s + along * d) ** 2 for s, d in zip(start, step, strict=True))  # 1 on the outline
    along -= np.sqrt(np.maximum(1 - miss, 0) / square)
    unit = [s + along * d for s, d in zip(start, step, strict=True)]
    alpha = np.clip((1 - miss) * (0.5 * FOCAL / CAMERA) * axes[0] + 0.5, 0, 1)
    point = np.stack([u * a + c for u, a, c in zip(unit, axes, center, strict=True)])
    return alpha, point, normalized(np.stack([u / a for u, a in zip(unit, axes, strict=True)]))


def normalized(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt((vectors * vectors).sum(axis=0))


def lambert(normal: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Brightness ``(H, W)`` of a surface under a lamp and the sky."""
    return 0.7 * np.maximum(np.tensordot(light, normal, 1), 0) + 0.2 - 0.08 * normal[1]


def cover(image: np.ndarray, opacity: np.ndarray, color: np.ndarray, shade: np.ndarray) -> None:
    """Paint a color, ``(3,)`` or ``(3, H, W)``, over ``image`` ``(3, H, W)``."""
    image += opacity * (color.astype(np.float32).reshape(3, *(color.shape[1:] or (1, 1))) * shade - image)


def paint_head(
    image: np.ndarray,
    person: Person,
    light: np.ndarray,
    rotation: np.ndarray,
    shift: np.ndarray,
    shape: list[float],
) -> None:
    """Paint hair, ears and face into ``image`` ``(3, HEIGHT, WIDTH)``.

    Args:
        image: changed in place.
        person: the person with this head.
        light: unit vector towards the lamp.
        rotation: of the head, ``(3, 3)``.
        shift: of the head, in pixels ``(2,)``.
        shape: opening, spreading and rounding of the mouth, and opening of the eyes.
    """
    left, top = np.clip(np.array([WIDTH / 2 - 78, HORIZON - 86]) + shift, 0, None).astype(int).tolist()
    rows, columns = slice(top, top + 184), slice(left, left + 156)
    view, eye = look(rows, columns, rotation, shift)
    area, light, wide = image[:, rows, columns], light @ rotation, person.width * HEAD[0]

    def hair(center: Sequence[float], axes: Sequence[float], least: float, slope: float) -> None:
        """Hair on an ellipsoid, from the top to ``least``, and lower at the sides."""
        alpha, point, normal = hit(view, eye, center, axes)
        angle = np.arctan2(point[0], point[2] + 0.35)
        strands = 1 + 0.3 * np.sin(55 * angle + 3 * np.sin(4 * point[1])) * np.sin(23 * angle + 1)
        ends = least + 0.05 * np.sin(9 * point[0] + 50 * person.width) + 0.02 * np.sin(47 * point[0])
        ends += slope * np.maximum(np.abs(point[0]) - 0.45, 0)
        cover(
            area, alpha * np.clip(18 * (ends - point[1]), 0, 1), person.hair, lambert(normal, light) * strands
        )

    hair((0, 0.15, -0.35), (1.16 * wide, 1.2, 0.55), person.hair_length, 0.0)
    for side in (-1, 1):
        alpha, _, normal = hit(view, eye, (side * wide, 0.08, -0.1), (0.09, 0.2, 0.13))
        cover(area, alpha, person.skin, 0.9 * lambert(normal, light))

    # The head narrows downwards and the chin goes down with the jaw: half-axes that depend on the height.
    jaw = np.float32(0.16 * shape[0])
    y = eye[1] + (CAMERA - 0.4) * view[1]
    axes = (wide * (1 - 0.18 * np.clip(y, 0, 1.2) ** 2), HEAD[1] + jaw * (y > 0), HEAD[2])
    alpha, point, normal = hit(view, eye, (0, 0, 0), axes)
    u, v = point[:2]
    for _ in range(2):  # parallax: where the ray meets the bumps, which rise above the ellipsoid
        found = face_at(person.face, u, v, jaw)
        u, v = point[:2] - found[3] * view[:2] / view[2]
    normal[:2] -= face_at(person.slopes, u, v, jaw)
    normal = normalized(normal)
    shade = lambert(normal, light)
    halfway = normalized(light + np.array([0, 0, 1], np.float32))
    gloss = 0.1 * np.maximum(np.tensordot(halfway, normal, 1), 0) ** 24
    cover(area, alpha, found[:3] + gloss, shade)
    for opacity, color in (*eyes(person, u, v, shape[3]), *mouth(person, u, v, shape)):
        cover(area, alpha * opacity, color, shade)
    hair((0, -0.04, -0.04), (1.03 * wide, 1.08 * HEAD[1], 1.04 * HEAD[2]), person.hairline, 2.6)


def face_at(chart: np.ndarray, u: np.ndarray, v: np.ndarray, jaw: np.float32) -> np.ndarray:
    """A map ``(N, N, C)`` of a face, read at ``u`` and ``v`` ``(H, W)``; its chin goes down with the jaw."""
    v = v - jaw * np.clip((v - MOUTH_Y) / 0.1, 0, 1)
    x, y = ((at + REACH) * (TEXELS / (2 * REACH)) for at in (u, v))
    return cv2.remap(chart, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).transpose(2, 0, 1)


def eyes(person: Person, u: np.ndarray, v: np.ndarray, lid: float) -> Layers:
    """Both eyes, opened by ``lid`` in [0, 1]."""
    x, y = np.abs(u) - EYE_X, v - EYE_Y
    opening = 0.075 * max(lid, 0.0) * (1 - (x / 0.15) ** 2)
    inside = np.clip((opening - np.abs(y)) / 0.02 + 0.5, 0, 1) * (np.abs(x) < 0.15)
    distance = np.hypot(x, y)
    yield inside, IVORY
    yield inside * np.clip((0.07 - distance) / 0.02, 0, 1), person.hair + 0.1  # the iris
    yield inside * np.clip((0.034 - distance) / 0.015, 0, 1), np.zeros(3)
    yield inside * np.clip((0.022 - np.hypot(x - 0.02, y + 0.025)) / 0.01, 0, 1), np.full(3, 1.3)
    yield 0.75 * np.exp(-(((y + opening) / 0.018) ** 2)) * (np.abs(x) < 0.15), 0.35 * person.skin  # lashes


def mouth(person: Person, u: np.ndarray, v: np.ndarray, shape: list[float]) -> Layers:
    """The mouth of a ``shape`` as in `paint_head`."""
    opening, spreading, rounding, _ = shape
    arch = np.sqrt(np.clip(1 - (u / (0.27 + 0.05 * spreading - 0.10 * rounding)) ** 2, 0, 1))
    upper, lower = MOUTH_Y - 0.03 * opening * arch, MOUTH_Y + 0.005 + 0.21 * opening * arch
    full = arch * (1 + 0.25 * rounding)

    def between(first: np.ndarray, last: np.ndarray) -> np.ndarray:
        return np.clip((v - first) / 0.02 + 0.5, 0, 1) * np.clip((last - v) / 0.02 + 0.5, 0, 1) * (arch > 0)

    yield 0.9 * between(upper - 0.075 * full, lower + 0.09 * full), person.lips
    yield between(upper, lower), CAVITY
    yield between(upper, np.minimum(upper + 0.05, lower)) * (arch > 0.45), IVORY
    yield 0.8 * between(lower - 0.06 * opening, lower) * (arch > 0.5), TONGUE


# --- clips ---


@dataclass(frozen=True)
class Plan:
    """One clip: its speaker and its forgery."""

    seed: int
    index: int
    person: int
    method: str


def plan_clips(clips: int, seed: int, people: int = PEOPLE, real: bool = False) -> list[Plan]:
    """Plans, half of them real and the fakes evenly by method, all people in both; or all ``real``."""
    methods = [
        "real" if real or (i + i // people) % 2 == 0 else FAKES[i // 2 % len(FAKES)] for i in range(clips)
    ]
    return [Plan(seed, index, index % people, method) for index, method in enumerate(methods)]


def make_clip(plan: Plan) -> Clip:
    """The clip of a plan; the same plan gives the same clip."""
    rng = np.random.default_rng([plan.seed, plan.index])
    person = Person.sample(plan.seed, plan.person)
    heard = seen = utter(person, rng)
    lag = 0.0
    if plan.method == "shifted":
        lag = float(rng.uniform(*SHIFT) * rng.choice([-1, 1]))
    elif plan.method == "foreign_voice":
        heard = utter(person, rng)
    elif plan.method == "foreign_lips":
        seen = utter(Person.sample(plan.seed, (plan.person + 1) % PEOPLE), rng)
    times = np.arange(round(SECONDS * FPS)) / FPS
    track_times = np.arange(len(seen)) / TRACK_RATE - MARGIN
    lips = np.stack([np.interp(times, track_times, column) for column in seen[:, 6:].T], axis=1)
    first = round((MARGIN - lag) * SAMPLE_RATE)
    voice = speak(heard, person, rng)[first : first + round(SECONDS * SAMPLE_RATE)]
    return Clip(render(person, lips, rng), times, voice, SAMPLE_RATE, 0.0, SECONDS)


def write(out: Path, plan: Plan) -> Row:
    """Write the clip of a plan into a folder; return its row of the manifest."""
    path = out / f"{plan.index:04d}-{plan.method}.mp4"
    write_clip(make_clip(plan), path, crf=20 + plan.index % 7)
    segments = () if plan.method == "real" else ((0.0, SECONDS),)
    source, category = f"other{plan.person:02d}", CATEGORIES[plan.method]
    return Row(path, len(segments), category, plan.method, source, split="test", fake_segments=segments)


def main(
    out: Annotated[Path, tyro.conf.Positional],
    clips: int = 80,
    seed: int = 7,
    people: int = PEOPLE,
    real: bool = False,
    workers: int = 2,
) -> None:
    """Write MP4 files and a manifest.

    Args:
        out: folder.
        clips: number of clips; half of them are real.
        seed: the same seed gives the same clips.
        people: number of speakers.
        real: make all clips real, for learning synchrony.
        workers: number of processes.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = list(
        parallel_map(
            partial(write, out), plan_clips(clips, seed, people, real), workers, description=str(out)
        )
    )
    write_manifest(rows, out / "manifest.csv")


if __name__ == "__main__":
    tyro.cli(main)
