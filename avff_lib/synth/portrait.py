"""Identities and scenes: the parameters of a drawn person, and of background, light and camera.

A face is a height field (an ellipsoid with bumps and dents) lit by one lamp, so that the shading of nose, eye
sockets and chin is consistent. All coordinates are fractions of the frame:
(0, 0) is the upper left corner, (1, 1) the lower right one; the head of a person at rest is centred
on ``CENTER_X`` and extends from about 0.14 to 0.80.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

CENTER_X = 0.5
CENTER_Y = 0.47  # of the head; the widest place
EYE_Y = 0.455
MOUTH_Y = 0.668
SUPERSAMPLING = 2  # size of the painted layers / size of the frame, for smooth edges

SKINS = np.array(
    [
        (242, 210, 190), (236, 196, 170), (226, 180, 149), (214, 162, 126),
        (188, 133, 96), (156, 103, 70), (120, 77, 52), (88, 57, 41),
    ],
    np.float32,
)  # fmt: skip
HAIRS = np.array(
    [(28, 24, 24), (50, 35, 28), (82, 55, 38), (120, 80, 48), (112, 52, 34), (176, 132, 78), (206, 174, 122)],
    np.float32,
)
GREY_HAIR = np.array((172, 170, 168), np.float32)
IRISES = np.array([(70, 44, 28), (98, 66, 38), (110, 110, 66), (84, 116, 96), (86, 118, 146)], np.float32)
# Distance of the hair from the head; position of the hairline in the middle and how fast it falls to the
# temples; how far down the hair hangs (0: not below the ears); raggedness of its outline.
HAIR_STYLES = {
    "bald": (0.0, 0.0, 0.0, 0.0, 0.0),
    "buzz": (0.008, 0.262, 2.6, 0.0, 0.0),
    "short": (0.030, 0.268, 3.0, 0.0, 0.006),
    "parted": (0.036, 0.245, 3.4, 0.0, 0.003),
    "curly": (0.056, 0.275, 2.2, 0.56, 0.015),
    "bob": (0.044, 0.262, 2.6, 0.74, 0.003),
    "fringe": (0.044, 0.362, 0.5, 0.76, 0.004),
    "long": (0.044, 0.252, 2.8, 0.96, 0.004),
    "bun": (0.014, 0.232, 2.8, 0.0, 0.002),
}
BEARDED_STYLES = ("bald", "buzz", "short", "parted", "curly")


@dataclass(frozen=True, eq=False)
class Identity:
    """The appearance of one person; lengths are fractions of the frame, colours RGB in 0–255."""

    seed: int  # places freckles, strands of hair, and the like
    face_width: float
    chin: float  # exponent of the lower outline: 1.9 pointed, 2.6 square
    taper: float  # narrowing towards the chin
    eye_distance: float  # from the middle of the face to an eye
    eye_size: float
    eye_tilt: float
    brow_height: float
    brow_thickness: float
    nose_width: float
    nose_length: float
    mouth_width: float
    lip_upper: float
    lip_lower: float
    skin: np.ndarray
    lips: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    hair_style: str
    part: float  # position of the parting, right or left of the middle
    beard: float  # 0 none, 0.3 stubble, 0.9 full
    glasses: bool
    freckles: float
    age: float  # 0 young, 1 old

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Identity:
        """Draw a random person."""
        tone = rng.uniform(0, len(SKINS) - 1)
        skin = _between(SKINS, tone) * rng.uniform(0.97, 1.03, 3)
        age = rng.beta(1.2, 2.0)
        fair = max(0.0, 1 - tone / 4)
        hair = _between(HAIRS, rng.uniform(0, 1 + 5 * fair)) * rng.uniform(0.9, 1.1)
        hair += (GREY_HAIR - hair) * np.clip((age - 0.55) * 2.5, 0, 0.85) * rng.random()
        style = str(rng.choice(list(HAIR_STYLES), p=(0.06, 0.1, 0.18, 0.14, 0.12, 0.12, 0.1, 0.12, 0.06)))
        bearded = style in BEARDED_STYLES and rng.random() < 0.45
        redness = np.array((0.90, 0.62, 0.61)) + rng.uniform(-0.05, 0.05, 3)
        if style not in BEARDED_STYLES and rng.random() < 0.4:
            redness = np.array((0.90, 0.42, 0.46)) + rng.uniform(-0.06, 0.06, 3)  # lipstick
        return cls(
            seed=int(rng.integers(2**31)),
            face_width=rng.uniform(0.222, 0.252),
            chin=rng.uniform(1.95, 2.5),
            taper=rng.uniform(0.06, 0.24),
            eye_distance=rng.uniform(0.092, 0.108),
            eye_size=rng.uniform(0.050, 0.060),
            eye_tilt=rng.uniform(-0.10, 0.16),
            brow_height=rng.uniform(0.050, 0.064),
            brow_thickness=rng.uniform(0.009, 0.017),
            nose_width=rng.uniform(0.030, 0.044),
            nose_length=rng.uniform(0.108, 0.128),
            mouth_width=rng.uniform(0.085, 0.103),
            lip_upper=rng.uniform(0.013, 0.022),
            lip_lower=rng.uniform(0.017, 0.027),
            skin=skin,
            lips=np.clip(skin * redness, 40, 255),
            hair=hair,
            iris=_between(IRISES, rng.uniform(0, 1 + 3 * fair)),
            hair_style=style,
            part=rng.choice((-1, 1)) * rng.uniform(0.03, 0.08),
            beard=rng.uniform(0.25, 0.95) if bearded else 0.0,
            glasses=bool(rng.random() < 0.22),
            freckles=rng.uniform(0.3, 1.0) if tone < 3 and rng.random() < 0.3 else 0.0,
            age=age,
        )

    def lend_face(self, to: Identity) -> Identity:
        """This person's eyes, brows, nose, and mouth on the head, skin, and hair of ``to``: a face swap."""
        return replace(
            to,
            eye_distance=self.eye_distance,
            eye_size=self.eye_size,
            eye_tilt=self.eye_tilt,
            brow_height=self.brow_height,
            brow_thickness=self.brow_thickness,
            nose_width=self.nose_width,
            nose_length=self.nose_length,
            mouth_width=self.mouth_width,
            lip_upper=self.lip_upper,
            lip_lower=self.lip_lower,
            iris=self.iris,
            age=self.age,
        )


@dataclass(frozen=True, eq=False)
class Scene:
    """Background, clothes, light, camera and occlusion of a clip.

    Attributes:
        background: seed of the background.
        clothes: RGB, 0–255.
        light: (3,) unit vector towards the lamp: right, down, towards the camera.
        lamp: (3,) RGB factor of the lamp's colour.
        ambient: share of ambient light.
        blur: standard deviation of the lens blur in pixels, at 144 pixels.
        vignette: darkening of the corners, 0–1.
        noise: standard deviation of the sensor noise, in grey levels.
        occlusion: (start, end) of the part of the clip, 0–1, in which a microphone covers the mouth, or None.
    """

    background: int
    clothes: np.ndarray
    light: np.ndarray
    lamp: np.ndarray
    ambient: float
    blur: float
    vignette: float
    noise: float
    occlusion: tuple[float, float] | None = None

    @classmethod
    def sample(cls, rng: np.random.Generator, *, occlusion: float = 0.0) -> Scene:
        """Draw a random scene; ``occlusion`` is the probability of a microphone in front of the mouth."""
        light = np.array((rng.uniform(-0.75, 0.75), rng.uniform(-0.75, -0.25), 1.0))
        warmth = rng.uniform(-0.05, 0.07)
        start = rng.uniform(0.1, 0.6)
        clothes = cv2.cvtColor(
            np.array([[(rng.uniform(0, 360), rng.uniform(0.05, 0.5), rng.uniform(0.15, 0.8))]], np.float32),
            cv2.COLOR_HSV2RGB,
        )
        return cls(
            background=int(rng.integers(2**31)),
            clothes=255 * clothes[0, 0],
            light=light / np.linalg.norm(light),
            lamp=np.array((1 + warmth, 1.0, 1 - warmth)),
            ambient=rng.uniform(0.28, 0.52),
            blur=rng.uniform(0.25, 0.7),
            vignette=rng.uniform(0.0, 0.3),
            noise=rng.uniform(0.8, 3.2),
            occlusion=(start, start + rng.uniform(0.2, 0.35)) if rng.random() < occlusion else None,
        )


def _between(colours: np.ndarray, at: float) -> np.ndarray:
    """The colour at index ``at`` of a row of colours, linearly interpolated."""
    low = min(int(at), len(colours) - 2)
    return colours[low] + (colours[low + 1] - colours[low]) * (at - low)
