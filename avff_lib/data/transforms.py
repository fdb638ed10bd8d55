"""Augmentation of a window: both streams keep their time; only a wandering crop differs between frames.

A strength is the largest change; the change of a window is drawn from its own generator. Nothing here
shifts one stream against the other: that would make a fake, which training would label real.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
from torchaudio import functional as AF
from torchvision.transforms.v2 import functional as VF

from avff_lib.errors import AVFFError
from avff_lib.media.clip import Clip

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in brightness, ITU-R BT.601
WANDER_FRAMES = 4  # from one turn of a wandering crop's path to the next
PROBABILITIES = ("flip", "crop", "jpeg", "cutout", "low_pass", "pseudo_fake")  # all between 0 and 1


@dataclass(frozen=True)
class Augment:
    """How strongly windows are changed; by default half of them are mirrored.

    Attributes:
        flip: probability that the frames are mirrored.
        crop: largest share of the frames' sides that is cut off; the same box in all frames.
        wander: largest standard deviation of the crop's path around the face, as a share of its sides.
        turn: largest standard deviation of its angle, in degrees.
        brightness, contrast, saturation: largest change of the factor, which is 1 when nothing changes.
        hue: largest rotation of the colours, as a share of the full circle.
        blur: largest standard deviation of a Gaussian blur, in pixels of the clip.
        pixel_noise: largest standard deviation of Gaussian noise, in grey levels of 0 to 255.
        jpeg: probability that frames are compressed, at a quality of 30 to 90.
        cutout: probability that a box of 15 to 35 % of the sides covers the same place in all frames, like a
            microphone (DeVries and Taylor 2017, arXiv 1708.04552).
        gain: largest change of the level, in dB.
        snr: lowest ratio of the audio to added noise, in dB; drawn between this value and 20 dB above it.
        equaliser: largest boost or cut of a band somewhere between 100 Hz and 6 kHz, in dB.
        low_pass: probability that the audio is low-pass filtered, at 3 to 7 kHz, as by a narrow channel.
        reverberation: longest reverberation time, in seconds for a decay of 60 dB; the direct sound keeps its
            time. With reverberation, the noise of ``snr`` is coloured at random.
        speed: largest change of the speed of *both* streams, as a share; the pitch of voices changes with it
            (Ko et al. 2015, "Audio augmentation for speech recognition").
        pseudo_fake: share of the fake windows that are made from real clips, with audio from another
            moment. They are labelled 1: only for stage two.
    """

    flip: float = 0.5
    crop: float = 0.0
    wander: float = 0.0
    turn: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    pixel_noise: float = 0.0
    jpeg: float = 0.0
    cutout: float = 0.0
    gain: float = 0.0
    snr: float = math.inf
    equaliser: float = 0.0
    low_pass: float = 0.0
    reverberation: float = 0.0
    speed: float = 0.0
    pseudo_fake: float = 0.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name != "snr"):
            value, highest = getattr(self, name), 1.0 if name in PROBABILITIES else math.inf
            if not 0 <= value <= highest:
                wanted = "between 0 and 1" if name in PROBABILITIES else "0 or more"
                raise AVFFError(f"the augmentation's {name} is {value}; expected a number {wanted}")
        if not self.snr > -math.inf:
            raise AVFFError(f"the augmentation's snr is {self.snr}; expected decibels, or inf for no noise")
        if self.crop > 0.5 or self.speed > 0.3:
            raise AVFFError(
                f"the augmentation's crop is {self.crop} and speed {self.speed}; "
                "expected at most 0.5 and 0.3, as more leaves no face and no voice"
            )

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """Augment both streams of a clip.

        ``speed`` and ``pseudo_fake`` decide where a window is cut, so `avff_lib.data.dataset` applies them.
        """
        frames = self._frames(clip.frames, rng)
        return replace(clip, frames=frames, waveform=self._waveform(clip.waveform, clip.sample_rate, rng))

    def _frames(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """``(T, H, W, 3)`` uint8 -> the same size or slightly smaller; in the order light, lens, file."""
        if self.crop:
            frames = _box(frames, 1 - rng.uniform(0, self.crop), rng)
        if self.wander or self.turn:
            frames = _wandering(frames, rng.random() * self.wander, rng.random() * self.turn, rng)
        if rng.random() < self.flip:
            frames = frames[:, :, ::-1]
        if rng.random() < self.cutout:
            frames = frames.copy()
            _box(frames, rng.uniform(0.15, 0.35), rng)[:] = rng.integers(0, 256, 3)
        if self.brightness or self.contrast or self.saturation or self.hue:
            frames = cv2.transform(_tall(frames), self._colours(rng)).reshape(frames.shape)
        if self.blur:
            sigma = self.blur * (1 - rng.random())  # above 0
            frames = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames])
        if self.pixel_noise:
            noise = rng.standard_normal(frames.shape, dtype=np.float32) * rng.uniform(0, self.pixel_noise)
            frames = cv2.add(_tall(frames), _tall(noise), dtype=cv2.CV_8U).reshape(frames.shape)
        if rng.random() < self.jpeg:
            batch = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # (T, 3, H, W)
            frames = VF.jpeg(batch, int(rng.integers(30, 91))).permute(0, 2, 3, 1).numpy()
        return frames

    def _colours(self, rng: np.random.Generator) -> np.ndarray:
        """One ``(3, 4)`` matrix for all changes of colour: rgb' = matrix · (r, g, b, 1)."""
        # On 16 frames of 64 to 224 pixels, torchvision's ColorJitter takes 20 to 300 times as long for weak
        # changes and 150 to 600 times for strong ones (benchmarks/augment.py). Its RandomErasing is about as
        # fast as the box of `_frames`. Both draw from torch's global generator, not from the window's own.
        names = ("brightness", "contrast", "saturation")
        brightness, contrast, saturation = (1 + rng.uniform(-1, 1) * getattr(self, name) for name in names)
        grey = np.tile(LUMA, (3, 1))
        angle = 2 * np.pi * rng.uniform(-1, 1) * self.hue
        turn, _ = cv2.Rodrigues(np.full(3, angle / np.sqrt(3)))  # about the axis of greys
        mixed = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * grey) @ turn
        return np.hstack([mixed, np.full((3, 1), 128 * (1 - contrast))])  # contrast is around a middle grey

    def _waveform(self, waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        """``(S,)`` float32 -> the same length; in the order room, microphone, channel."""
        audio = torch.from_numpy(waveform)
        snr = self.snr + rng.uniform(0, 20)
        if self.reverberation:
            from avff_lib.synth.acoustics import room_and_noise

            seconds = max(0.01, rng.random() * self.reverberation)
            audio = torch.from_numpy(room_and_noise(waveform, rng, snr_db=snr, reverberation=seconds))
        elif math.isfinite(snr):
            noise = torch.from_numpy(rng.standard_normal(len(waveform), dtype=np.float32))
            audio = AF.add_noise(audio, noise, torch.tensor(snr, dtype=torch.float32))
        if self.equaliser:
            center = 100 * 60 ** rng.uniform(0, 1)
            audio = AF.equalizer_biquad(audio, rate, center, rng.uniform(-1, 1) * self.equaliser)
        if rng.random() < self.low_pass:
            audio = AF.lowpass_biquad(audio, rate, rng.uniform(3_000, 7_000))
        if self.gain:
            audio = (audio * 10 ** (rng.uniform(-1, 1) * self.gain / 20)).clamp(-1, 1)
        return audio.numpy()


# Differences like those between cameras and rooms; the traces of forgeries survive them.
LIGHT = Augment(crop=0.1, brightness=0.2, contrast=0.2, saturation=0.2, gain=6.0, snr=30.0, equaliser=3.0)

# Domain randomisation (Tobin et al. 2017, arXiv 1703.06907): what is learned on drawings shall hold for
# people, so everything except the timing of lips and voice varies widely.
STRONG = Augment(
    crop=0.25,
    brightness=0.4,
    contrast=0.4,
    saturation=0.8,
    hue=0.1,
    blur=1.2,
    pixel_noise=12.0,
    jpeg=0.5,
    cutout=0.2,
    gain=12.0,
    snr=5.0,
    equaliser=12.0,
    low_pass=0.5,
    reverberation=0.5,
    speed=0.1,
)

# A crop of the mouth follows its landmarks, and jitters and turns with them and with the head. That breaks
# synchrony sooner than compression, blur or noise (results/sync_factors.py).
UNSTEADY = replace(STRONG, wander=0.08, turn=10.0)


def change_speed(clip: Clip, percent: int) -> Clip:
    """The same clip at ``percent`` of its speed, both streams by the same factor.

    Sample ``n`` of the new audio is the old one at ``n * percent / 100`` samples, by band-limited
    interpolation, and the frames' times shrink or grow with it.
    """
    if percent == 100:
        return clip
    return replace(
        clip,
        times=clip.start + (clip.times - clip.start) * 100 / percent,
        waveform=AF.resample(torch.from_numpy(clip.waveform), percent, 100).numpy(),
        duration=clip.duration * 100 / percent,
    )


def _box(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A view of one box, of ``share`` of the sides, at the same random position in all frames."""
    height, width = (max(1, round(share * side)) for side in frames.shape[1:3])
    top = rng.integers(frames.shape[1] - height + 1)
    left = rng.integers(frames.shape[2] - width + 1)
    return frames[:, top : top + height, left : left + width]


def _wandering(frames: np.ndarray, wander: float, turn: float, rng: np.random.Generator) -> np.ndarray:
    """Frames of a crop that moves and turns at random; see `Augment` for both strengths."""
    count, height, width = frames.shape[:3]
    knots = rng.standard_normal((3, 2 + count // WANDER_FRAMES))
    moments = np.linspace(0, knots.shape[1] - 1, count)
    path = [np.interp(moments, np.arange(knots.shape[1]), row) for row in knots]  # right, down, turned
    moved = np.empty(frames.shape, np.uint8)
    for i, (right, down, turned) in enumerate(zip(*path, strict=True)):
        warp = cv2.getRotationMatrix2D((width / 2, height / 2), turn * turned, 1.0)
        warp[:, 2] += wander * right * width, wander * down * height
        cv2.warpAffine(frames[i], warp, (width, height), moved[i], borderMode=cv2.BORDER_REPLICATE)
    return moved


def _tall(frames: np.ndarray) -> np.ndarray:
    """``(T, H, W, 3)`` as one image ``(T x H, W, 3)``, for one call instead of T."""
    return frames.reshape(-1, *frames.shape[2:])
