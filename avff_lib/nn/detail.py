"""A path for fine detail: what a generator leaves in one stream alone, too small for tokens to carry.

A pasted mouth is a little less sharp than the face around it, a seam trembles by a pixel, a vocoder smooths
the harmonics of a voice. A small transformer on patches, trained to tell moments apart, sees none of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avff_lib import ranks
from avff_lib.nn.sequences import to_steps

EVERY = 4  # of the frames one is looked at: traces stay for longer than that
NEIGHBOURS = 5  # pixels each way over which a picture is smooth; what is left is its detail
PLACES = 6  # rows and columns in which detail is compared: a mouth with the cheeks around it


class DetailPath(nn.Module):
    """Two small convolutional networks, one on the picture's high frequencies, one on the spectrogram.

    The idea is that of the noise residuals of image forensics (Fridrich and Kodovsky 2012; Zhou et al.
    2018); it is no part of the AVFF paper.
    """

    def __init__(self, dim: int) -> None:
        """``dim``: length of what is said of each stream."""
        super().__init__()
        self.visual = nn.Sequential(
            _convolution(3, 16), _convolution(16, 16, stride=2), _convolution(16, 32), nn.MaxPool2d(2),
            _convolution(32, 64),
        )  # fmt: skip
        self.places = nn.Sequential(
            nn.Conv2d(64, 32, 1), nn.GELU(), nn.AdaptiveAvgPool2d(PLACES), nn.Flatten(), nn.Dropout(0.2)
        )
        self.visual_out = nn.Sequential(nn.Linear(64 + 32 * PLACES**2, dim), nn.GELU())
        self.audio = nn.Sequential(
            _convolution(1, 16), nn.MaxPool2d(2), _convolution(16, 16), nn.MaxPool2d(2), _convolution(16, 32)
        )
        self.audio_out = nn.Sequential(nn.Linear(2 * 32, dim), nn.GELU())

    def forward(self, frames: Tensor, spectrogram: Tensor) -> Tensor:
        """Frames ``(B, T, 3, H, W)`` and log spectrogram ``(B, bands, N)`` -> ``(B, T / EVERY, 2 dim)``."""
        frames = frames[:, EVERY // 2 :: EVERY]  # (B, T / EVERY, 3, H, W)
        seen = self.visual(residual(frames.flatten(0, 1)))  # (B T / EVERY, 64, H / 4, W / 4)
        # The strongest trace, wherever it is, and where there is how much of each kind.
        seen = self.visual_out(torch.cat([seen.amax(dim=(2, 3)), self.places(seen)], dim=1))
        seen = seen.unflatten(0, frames.shape[:2])  # (B, T / EVERY, dim)
        level = spectrogram.mean(dim=(1, 2), keepdim=True)  # how loud it is, is no trace
        heard = self.audio((spectrogram - level)[:, None])  # (B, 32, bands / 4, N / 4)
        heard = torch.cat([heard.mean(dim=2), heard.amax(dim=2)], dim=1).mT  # (B, N / 4, 64)
        return torch.cat([self.audio_out(to_steps(heard, seen.shape[1])), seen], dim=-1)


def residual(pictures: Tensor) -> Tensor:
    """Pictures ``(N, 3, H, W)`` less their local mean: edges, grain and seams, about 0, at about 1."""
    edge = NEIGHBOURS // 2
    smooth = F.avg_pool2d(F.pad(pictures, (edge,) * 4, mode="replicate"), NEIGHBOURS, stride=1)
    return 4 * (pictures - smooth)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the rows of all processes.

    It keeps what normalisation within a sample takes away: how much detail there is at all. With group
    normalisation in its place a vocoder was hardly noticed (AUC 0.62 for revoiced clips after 200 steps,
    0.99 with this). Source: Ioffe and Szegedy 2015, section 3.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> ``(N, C, H, W)``."""
        if not self.training or ranks.world_size() == 1:
            return super().forward(maps)
        values = maps.float()
        mean = ranks.gathered(values.mean(dim=(0, 2, 3))[None]).mean(dim=0)  # (C,)
        values = values - mean[:, None, None]
        # In two passes: the difference of two large sums would be wrong where a picture is flat.
        variance = ranks.gathered(values.square().mean(dim=(0, 2, 3))[None]).mean(dim=0)
        count = values[:, 0].numel() * ranks.world_size()
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (values * scale[:, None, None] + self.bias[:, None, None]).to(maps)


def _convolution(channels: int, out: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, padding=1), BatchNorm(out), nn.GELU())
