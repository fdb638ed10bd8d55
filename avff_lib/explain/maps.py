"""Which parts of a window moved its logit.

A map is worth showing if it passes the checks of `avff_lib.explain.checks`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from avff_lib.clip import AVFFError, InputSpec, ModelInputs
from avff_lib.explain.views import BATCH, CELLS, Judge, Views, check, memberships


@dataclass(frozen=True, eq=False)
class Map:
    """A number for each point of a window.

    Attributes:
        frames: ``(T, H, W)``, the three colours added up.
        sound: ``(F, N)``: the log-mel that the model hears; for a model that hears the waveform its
            spectrum, bins of 31.25 Hz every 8 ms at 16 kHz.
    """

    frames: Tensor
    sound: Tensor

    def cells(self) -> Tensor:
        """Sums over what is deleted together, ``(T x 8 x 8 + 16 x 16,)``: squares of frames, then sound."""
        maps = {"frames": self.frames, "sound": self.sound}
        sums = []
        for name, values in maps.items():
            rows, columns = memberships(values.shape[-2:], CELLS[name])
            sums.append((rows.to(values) @ values @ columns.to(values).T).flatten())
        return torch.cat(sums)


@dataclass(frozen=True, eq=False)
class Attribution(Map):
    """What each point of a window adds to its logit, compared with a baseline; positive speaks for fake.

    Attributes:
        logit: of the window.
        baseline: of what it was compared with, the mean if that was several windows.
    """

    logit: float
    baseline: float

    @property
    def gap(self) -> float:
        """How much of ``logit - baseline`` is missing from the sum of both maps, as a share of it; 0 if none.

        Where both logits are alike a share says nothing, so it is one of at least one unit of the logit.
        """
        wanted = self.logit - self.baseline
        found = float(self.frames.double().sum() + self.sound.double().sum())
        return abs(found - wanted) / max(abs(wanted), 1.0)


def blank(inputs: ModelInputs, spec: InputSpec, generator: torch.Generator) -> ModelInputs:
    """The same window with nothing happening in it, to be compared with: a baseline.

    Frames are blurred by an eighth of their width. Of the sound each frequency keeps its mean level and
    loses its course: a log-mel is averaged over time, and of a waveform the phases are drawn anew. A grey
    picture and silence would be further from anything that a detector was trained on.

    Args:
        inputs: ``(B, ...)``, as `avff_lib.preprocess.prepare` makes them.
        spec: of the model.
        generator: draws the phases.
    """
    size = inputs.frames.shape[-1]
    frames = F.gaussian_blur(inputs.frames.flatten(0, 1), [size // 8 * 6 + 1] * 2, [size / 8] * 2)
    frames = frames.view_as(inputs.frames)
    if spec.audio == "mel":
        return ModelInputs(frames, inputs.audio.mean(dim=-1, keepdim=True).expand_as(inputs.audio))
    spectrum = torch.fft.rfft(inputs.audio)
    phases = 2 * torch.pi * torch.rand(spectrum.shape, generator=generator).to(inputs.audio)
    return ModelInputs(frames, torch.fft.irfft(torch.polar(spectrum.abs(), phases), n=inputs.audio.shape[-1]))


def integrated_gradients(
    model: Judge, inputs: ModelInputs, baselines: ModelInputs, *, steps: int = 64
) -> Attribution:
    """Follow the straight line from a baseline to the window, and add up the slope of the logit on the way.

    The maps add up to the difference of the two logits, but for the error of the quadrature
    (`Attribution.gap`). With several baselines they are means over all of them. The model is not changed.

    Args:
        model: in evaluation mode.
        inputs: one window, ``(1, ...)``.
        baselines: one or more windows, ``(B, ...)``, such as `blank` or windows of genuine clips.
        steps: points of the Gauss-Legendre quadrature.

    Raises:
        AVFFError: the model is in training mode, or the shapes do not fit.

    Source: Sundararajan et al. 2017, equation 1; Erion et al. 2021 for several baselines; Vielhaben et al.
    2024 for a waveform's share in its spectrum.
    """
    check(model, inputs, baselines)
    if steps < 1:
        raise AVFFError(f"steps is {steps}; expected at least 1; with 64 the gap is a few per cent")
    frames, sound = 0.0, 0.0
    with torch.inference_mode(False), torch.enable_grad():
        places, weights = (torch.from_numpy(x).float() / 2 for x in np.polynomial.legendre.leggauss(steps))
        views = Views(model.spec, inputs)
        for one in range(len(baselines.frames)):
            base = Views(model.spec, ModelInputs(baselines.frames[[one]], baselines.audio[[one]]))
            for place, weight in zip(places.split(BATCH), weights.split(BATCH), strict=True):
                shares = (0.5 + place.to(views.frames).view(-1, *ones) for ones in ((1,) * 4, (1,) * 2))
                points = [p.requires_grad_() for p in base.towards(views, *shares)]
                logits = model(views.inputs(*points))
                slopes = torch.autograd.grad((logits * weight.to(logits)).sum(), points)
                frames = frames + slopes[0].sum(dim=0) * (views.frames - base.frames)[0]
                share = slopes[1].sum(dim=0).conj() * (views.sound - base.sound)[0]
                sound = sound + (share.real if share.is_complex() else share)
    with torch.inference_mode():
        logit, baseline = model(inputs).item(), model(baselines).mean().item()
    count = len(baselines.frames)
    return Attribution(frames.sum(dim=1) / count, sound / count, logit, baseline)
