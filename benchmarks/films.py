"""Films of drawn heads, of any length and size."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from avff_lib import synth
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip

FPS = 25


def write_film(path: Path, seconds: float, height: int = 240, width: int = 320, faces: int = 1) -> Path:
    """A film of heads side by side on grey, with some grain; their speech repeats after 3 s."""
    plans = [plan for plan in synth.plan_corpus(clips=20, identities=10, seed=1) if plan.method == "real"]
    clips = [synth.make_clip(plan) for plan in plans[:faces]]
    size = min(height, width // faces)
    looped = min(len(clip.frames) for clip in clips)
    loop = np.full((looped, height, width, 3), 60, np.uint8)
    rng = np.random.default_rng(0)
    top = (height - size) // 2
    for index, frame in enumerate(loop):
        for number, clip in enumerate(clips):
            left = round((number + 0.5) * width / faces - size / 2)
            head = cv2.resize(clip.frames[index], (size, size), interpolation=cv2.INTER_CUBIC)
            frame[top : top + size, left : left + size] = head
        frame[:] = np.clip(frame + rng.integers(-3, 4, (height, width, 1)), 0, 255)
    frames = loop[np.arange(round(FPS * seconds)) % looped]
    samples = round(seconds * clips[0].sample_rate)
    waveform = np.resize(sum(clip.waveform for clip in clips) / faces, samples).astype(np.float32)
    write_clip(Clip(frames, np.arange(len(frames)) / FPS, waveform, clips[0].sample_rate, 0.0, seconds), path)
    return path
