"""Integrated gradients: which parts of a window moved its logit.

A map is worth showing if it passes the checks of `avff_lib.explain.checks`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from avff_lib.errors import AVFFError
from avff_lib.explain.views import BATCH_SIZE, CELLS, LogitModel, Views, check, memberships
from avff_lib.preprocess.spec import InputSpec, ModelInputs


@dataclass(frozen=True, eq=False)
class SaliencyMap:
    """A number for each point of a window.

    Attributes:
        frames: ``(T, H, W)``, summed over the three colours.
        audio: ``(F, N)``, of the log-mel spectrogram; for a model that takes the waveform, of its
            spectrogram: bins of 31.25 Hz every 8 ms at 16 kHz.
    """

    frames: Tensor
    audio: Tensor

    def cells(self) -> Tensor:
        """Sums over cells that are deleted as a whole, ``(T x 8 x 8 + 16 x 16,)``: frames, then audio."""
        maps = {"frames": self.frames, "audio": self.audio}
        sums = []
        for name, values in maps.items():
            rows, columns = memberships(values.shape[-2:], CELLS[name])
            sums.append((rows.to(values) @ values @ columns.to(values).T).flatten())
        return torch.cat(sums)


@dataclass(frozen=True, eq=False)
class Attribution(SaliencyMap):
    """Contribution of each point of a window to its logit, compared with a baseline; positive means fake.

    Attributes:
        logit: of the window.
        baseline: logit of the baseline; the mean if there are several.
    """

    logit: float
    baseline: float

    @property
    def gap(self) -> float:
        """Relative difference of the sum of both maps from ``logit - baseline``.

        Relative to 1 if the logits differ by less than 1, since a share of a small difference is meaningless.
        """
        expected = self.logit - self.baseline
        total = float(self.frames.double().sum() + self.audio.double().sum())
        return abs(total - expected) / max(abs(expected), 1.0)


def neutral_baseline(inputs: ModelInputs, spec: InputSpec, generator: torch.Generator) -> ModelInputs:
    """A baseline: the same window without detail or events.

    Frames are blurred by an eighth of their width. Each audio frequency keeps its mean level but loses its
    course over time: a log-mel spectrogram is averaged over time, a waveform gets random phases. Grey frames
    and silence would be further from a detector's training data.

    Args:
        inputs: ``(B, ...)``, as `avff_lib.preprocess.prepare` returns them.
        spec: input spec of the model.
        generator: draws the phases.
    """
    size = inputs.frames.shape[-1]
    frames = F.gaussian_blur(inputs.frames.flatten(0, 1), [size // 8 * 6 + 1] * 2, [size / 8] * 2)
    frames = frames.view_as(inputs.frames)
    if spec.audio != "waveform":
        return ModelInputs(frames, inputs.audio.mean(dim=-1, keepdim=True).expand_as(inputs.audio))
    spectrum = torch.fft.rfft(inputs.audio)
    phases = 2 * torch.pi * torch.rand(spectrum.shape, generator=generator).to(inputs.audio)
    return ModelInputs(frames, torch.fft.irfft(torch.polar(spectrum.abs(), phases), n=inputs.audio.shape[-1]))


def integrated_gradients(
    model: LogitModel, inputs: ModelInputs, baselines: ModelInputs, *, steps: int = 64
) -> Attribution:
    """Integrate the gradient of the logit along the straight line from a baseline to the window.

    The maps add up to the difference of the two logits, up to the error of the quadrature
    (`Attribution.gap`). With several baselines they are means over all of them. The model is not changed.

    Args:
        model: in evaluation mode.
        inputs: one window, ``(1, ...)``.
        baselines: one or more windows, ``(B, ...)``, such as `neutral_baseline` or windows of real clips.
        steps: number of points of the Gauss-Legendre quadrature.

    Raises:
        AVFFError: the model is in training mode, or the shapes do not fit.

    Source: Sundararajan et al. 2017, equation 1; Erion et al. 2021 for several baselines; Vielhaben et al.
    2024 for the attribution of a waveform in its spectrogram.
    """
    check(model, inputs, baselines)
    if steps < 1:
        raise AVFFError(f"steps is {steps}; expected at least 1; with 64 the gap is a few per cent")
    with torch.inference_mode(False), torch.enable_grad():
        nodes, weights = (torch.from_numpy(x).float() / 2 for x in np.polynomial.legendre.leggauss(steps))
        views = Views(model.spec, inputs)
        frames, audio = torch.zeros_like(views.frames[0]), torch.zeros_like(views.audio[0].real)
        for index in range(len(baselines.frames)):
            base = Views(model.spec, ModelInputs(baselines.frames[[index]], baselines.audio[[index]]))
            for node, weight in zip(nodes.split(BATCH_SIZE), weights.split(BATCH_SIZE), strict=True):
                share = 0.5 + node.to(views.frames)
                points = [
                    point.requires_grad_()
                    for point in base.towards(views, share.view(-1, 1, 1, 1, 1), share.view(-1, 1, 1))
                ]
                logits = model(views.inputs(*points))
                gradients = torch.autograd.grad((logits * weight.to(logits)).sum(), points)
                frames += gradients[0].sum(dim=0) * (views.frames - base.frames)[0]
                audio += (gradients[1].sum(dim=0).conj() * (views.audio - base.audio)[0]).real
    with torch.inference_mode():
        logit, baseline = model(inputs).item(), model(baselines).mean().item()
    count = len(baselines.frames)
    return Attribution(frames.sum(dim=1) / count, audio / count, logit, baseline)
