"""The field's grid of perturbations: eight of the video, four of the audio, five levels of each.

The seven of DeeperForensics-1.0 (Jiang et al. 2020, arXiv 2001.03024) have the values of its published
code, which later work on the robustness of deepfake detectors adopted; the kinds and levels of the
four of the audio are this library's choice. Real JPEG is added, at the qualities of ImageNet-C (Hendrycks
and Dietterich 2019, arXiv 1903.12261). The functions in `avff_lib.evaluation.perturb_video` and
`avff_lib.evaluation.perturb_audio` describe any differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from avff_lib.errors import AVFFError
from avff_lib.evaluation import perturb_audio, perturb_video
from avff_lib.media.clip import Clip

Change = Callable[[Clip, float, np.random.Generator], Clip]


@dataclass(frozen=True)
class Perturbation:
    """One way to degrade a clip, at five levels from mild to severe.

    Attributes:
        stream: the stream that it changes; the other stays as it is.
        unit: of ``values``.
        values: at the levels 1 to 5.
        change: ``(clip, value, rng) -> clip``.
    """

    stream: Literal["video", "audio"]
    unit: str
    values: tuple[float, ...]
    change: Change

    def __call__(self, clip: Clip, level: int, rng: np.random.Generator) -> Clip:
        """The clip at ``level`` 0 (untouched) to 5, with frames and samples where they were.

        Raises:
            AVFFError: the level does not exist.
        """
        if not 0 <= level <= len(self.values):
            raise AVFFError(
                f"the level is {level}; expected 0 (untouched) to {len(self.values)} (most severe)"
            )
        return clip if level == 0 else self.change(clip, self.values[level - 1], rng)


def _video(change: Change, unit: str, *values: float) -> Perturbation:
    return Perturbation("video", unit, values, change)


def _audio(change: Change, unit: str, *values: float) -> Perturbation:
    return Perturbation("audio", unit, values, change)


PERTURBATIONS: dict[str, Perturbation] = {
    "saturation": _video(perturb_video.saturation, "share kept", 0.4, 0.3, 0.2, 0.1, 0.0),
    "contrast": _video(perturb_video.contrast, "share kept", 0.85, 0.725, 0.6, 0.475, 0.35),
    "block_wise": _video(perturb_video.block_wise, "blocks in 256 px", 16, 32, 48, 64, 80),
    "gaussian_noise": _video(perturb_video.gaussian_noise, "variance", 0.001, 0.002, 0.005, 0.01, 0.05),
    "gaussian_blur": _video(perturb_video.gaussian_blur, "kernel (px)", 7, 9, 13, 17, 21),
    "pixelation": _video(perturb_video.pixelation, "factor", 2, 3, 4, 5, 6),
    "jpeg": _video(perturb_video.jpeg, "quality", 25, 18, 15, 10, 7),
    "h264": _video(perturb_video.h264, "crf", 30, 32, 35, 38, 40),
    "noise": _audio(perturb_audio.noise, "SNR (dB)", 40, 30, 20, 15, 10),
    "pitch": _audio(perturb_audio.pitch, "semitones", 2, 4, 6, 8, 10),
    "reverberation": _audio(perturb_audio.reverberation, "reverberance (%)", 20, 40, 60, 80, 100),
    "mp3": _audio(perturb_audio.mp3, "kbit/s", 320, 256, 192, 128, 64),
}
