"""`SyncNet`: do lips and voice belong to one moment? Both streams are compared at every lag of a search.

After Chung and Zisserman (2016, "Out of time", https://doi.org/10.1007/978-3-319-54427-4_19), with the
contrastive loss over moments of Chung et al. (2019, "Perfect Match", arXiv 1809.08001) in place of pairs.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avff_lib.models.base import Detector
from avff_lib.models.configs import SyncNetConfig
from avff_lib.models.contrast import contrastive_loss
from avff_lib.models.ood import LUMA
from avff_lib.nn.features import Features
from avff_lib.nn.sequences import pool_to_steps, subtract_temporal_mean
from avff_lib.preprocess.spec import InputSpec, MelSpec, ModelInputs

DYNAMIC_RANGE = 40.0  # dB below a window's loudest band; softer ones are raised to this floor
CONTRAST_STEP = 2  # frames in a slice of the contrastive loss: frames 40 ms apart look the same


class MouthEncoder(nn.Module):
    """Frames of a mouth -> one vector per frame, which also depends on the four frames before and after it.

    The window's mean picture is subtracted first, and only what moves is left: skin, beard, light and drawing
    style are gone before any weight can depend on them.
    """

    def __init__(self, image_size: int, width: int, dim: int) -> None:
        super().__init__()
        channels = [1, width // 4, width // 2, 2 * width // 3, width]
        self.pictures = nn.Sequential(
            *(
                _block_2d(before, after, kernel, stride=2)
                for before, after, kernel in zip(channels, channels[1:], (5, 3, 3, 3), strict=False)
            )
        )
        side = -(-image_size // 16)
        self.flatten = nn.Linear(width * side**2, width)
        self.time = _temporal_head(width, width, dim, kernel=5)
        self.register_buffer("luma", torch.tensor(LUMA), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """``(B, T, 3, H, W)`` frames on any linear scale -> ``(B, T, dim)``."""
        grey = torch.einsum("btchw,c->bthw", frames, self.luma)
        moving = self.center(grey)
        moving = moving / (moving.std(dim=(1, 2, 3), keepdim=True) + 1e-2)
        pictures = self.pictures(moving.flatten(0, 1)[:, None])  # (B T, width, H / 16, W / 16)
        vectors = self.flatten(pictures.flatten(1)).unflatten(0, frames.shape[:2])  # (B, T, width)
        return self.time(vectors.transpose(1, 2)).transpose(1, 2)

    def center(self, grey: Tensor) -> Tensor:
        """``(B, T, H, W)``, minus the mean picture of each window."""
        return subtract_temporal_mean(grey)


class VoiceEncoder(nn.Module):
    """Log-mel spectrogram -> one vector every four columns.

    Each band's mean over the window, which holds the voice's timbre, the room and the microphone, is
    subtracted.
    """

    def __init__(self, bands: int, width: int, dim: int) -> None:
        super().__init__()
        channels = [1, width // 4, width // 3, width // 2, 2 * width // 3]
        strides = ((2, 1), (2, 2), (2, 1), (2, 2))  # of bands and of columns
        self.bands = nn.Sequential(
            *(
                _block_2d(before, after, 3, stride)
                for before, after, stride in zip(channels, channels[1:], strides, strict=False)
            )
        )
        self.time = _temporal_head(channels[-1] * -(-bands // 16), width, dim, kernel=3)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """``(B, bands, N)`` in dB -> ``(B, N / 4, dim)``."""
        floor = spectrogram.amax(dim=(1, 2), keepdim=True) - DYNAMIC_RANGE
        levels = torch.maximum(spectrogram, floor)
        levels = levels - levels.mean(dim=2, keepdim=True)
        levels = levels / (levels.std(dim=(1, 2), keepdim=True) + 0.5)
        columns = self.bands(levels[:, None]).flatten(1, 2)  # (B, channels x bands / 16, N / 4)
        return self.time(columns).transpose(1, 2)


def _block_2d(before: int, after: int, kernel: int, stride: int | tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False), nn.GroupNorm(8, after), nn.GELU()
    )


def _temporal_head(before: int, width: int, dim: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(before, width, kernel, padding=kernel // 2),
        nn.GroupNorm(8, width),
        nn.GELU(),
        nn.Conv1d(width, width, 5, padding=2),
        nn.GELU(),
        nn.Conv1d(width, dim, 1),
    )


class SyncNet(Detector):
    """Synchrony of lips and voice: label 1 is "out of sync", whatever the cause.

    `fuse` compares each frame with the voice at every lag of up to ``config.max_lag`` frames. The logit is
    the best agreement at lags beyond ``config.tolerance`` minus the best within it. Genuine recordings carry
    constant offsets of a frame or two; these are reported and do not raise the score. As a clip is compared
    with itself, a small or noisy mouth, which agrees less with any voice, does not count as out of sync.
    """

    config: SyncNetConfig
    config_class = SyncNetConfig
    tiny_config: ClassVar[dict[str, Any]] = {}  # the defaults
    labels = ("in sync", "out of sync")

    def __init__(self, config: SyncNetConfig) -> None:
        super().__init__(config)
        self.audio_encoder = VoiceEncoder(config.mel["n_mels"], config.width, config.dim)
        self.visual_encoder = MouthEncoder(config.image_size, config.width, config.dim)

    @property
    def spec(self) -> InputSpec:
        config = self.config
        return InputSpec(
            duration=config.duration,
            frame_count=config.frame_count,
            image_size=config.image_size,
            region="mouth",
            sample_rate=config.sample_rate,
            audio="mel",
            mel=MelSpec(**config.mel),
        )

    @property
    def lags(self) -> np.ndarray:
        """``(L,)`` lags of the voice behind the lips, in seconds, ascending; the last axis of `fuse`."""
        frames = np.arange(-self.config.max_lag, self.config.max_lag + 1)
        return frames * self.config.duration / self.config.frame_count

    def spectrogram(self, inputs: ModelInputs) -> Tensor:
        """The audio encoder's input ``(B, bands, N)``, without the column beyond the last hop."""
        return inputs.audio[..., :-1]

    def encode(self, inputs: ModelInputs) -> Features:
        """Audio and visual ``(B, T, D)``, one step per frame."""
        visual = self.visual_encoder(inputs.frames)
        audio = self.audio_encoder(self.spectrogram(inputs))
        return Features(audio=pool_to_steps(audio, visual.shape[1]), visual=visual)

    def fuse(self, features: Features) -> Tensor:
        """``(B, T, L)``: agreement of each frame with the voice at each lag; its mean over T is the curve.

        Frames whose partner lies outside the window are 0, and the others are scaled so that the mean is over
        the existing pairs only.
        """
        steps, reach = features.visual.shape[1], self.config.max_lag
        similarity = F.normalize(subtract_temporal_mean(features.visual), dim=-1) @ F.normalize(
            subtract_temporal_mean(features.audio), dim=-1
        ).transpose(1, 2)  # (B, T, T)
        padded = F.pad(similarity, (reach, reach))  # (B, T, T + 2 reach)
        # Row t of the result is row t of `padded` from column t on: its diagonals become columns.
        columns = torch.arange(steps)[:, None] + torch.arange(2 * reach + 1)  # (T, L)
        aligned = padded.gather(2, columns.to(padded.device).expand(len(padded), -1, -1))
        overlap = steps - torch.arange(-reach, reach + 1, device=padded.device).abs()
        return aligned * (steps / overlap)

    def forward_head(self, fused: Tensor) -> Tensor:
        near = torch.arange(-self.config.max_lag, self.config.max_lag + 1).abs() <= self.config.tolerance
        curve = fused.mean(dim=1)  # (B, L)
        near = near.to(curve.device)
        return (curve[:, ~near].amax(dim=1) - curve[:, near].amax(dim=1)) / self.config.temperature

    def pretraining_loss(self, inputs: ModelInputs, generator: torch.Generator) -> dict[str, Tensor]:
        """InfoNCE over moments of `CONTRAST_STEP` frames: which voice belongs to which lips."""
        slices = self.config.frame_count // CONTRAST_STEP
        loss, logged = contrastive_loss(self.encode(inputs), slices, self.config.temperature)
        return {"loss": loss, **logged}
