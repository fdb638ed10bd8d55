"""Which parts of a window moved its logit, and two checks of the answer.

A map is worth showing if deleting what it points at lowers the logit faster than deleting at random, and if
a model with other weights gets another map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from avff_lib.clip import AVFFError, InputSpec, ModelInputs
from avff_lib.models import Detector

N_FFT, HOP = 512, 128  # samples; of the spectrum in which a waveform is explained
CELLS = {"frames": (8, 8), "sound": (16, 16)}  # rows and columns; bands and stretches of time
BATCH = 8


class Judge(Protocol):
    """What can be explained: a `Detector` in evaluation mode, or anything that is called like one."""

    spec: InputSpec
    training: bool

    def __call__(self, inputs: ModelInputs) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Attribution:
    """What each point of a window adds to its logit, compared with a baseline; positive speaks for fake.

    Attributes:
        frames: ``(T, H, W)``, the three colours added up.
        sound: ``(F, N)``: the log-mel that the model hears; for a model that hears the waveform its
            spectrum, bins of 31.25 Hz every 8 ms at 16 kHz.
        logit: of the window.
        baseline: of what it was compared with, the mean if that was several windows.
    """

    frames: Tensor
    sound: Tensor
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

    def cells(self) -> Tensor:
        """Sums over what is deleted together, ``(T x 8 x 8 + 16 x 16,)``: squares of frames, then sound."""
        maps = {"frames": self.frames, "sound": self.sound}
        sums = []
        for name, values in maps.items():
            rows, columns = _memberships(values.shape[-2:], CELLS[name])
            sums.append((rows.to(values) @ values @ columns.to(values).T).flatten())
        return torch.cat(sums)


@dataclass(frozen=True, eq=False)
class Deletion:
    """Logits ``(S,)`` while more and more of a window is replaced by the baseline, in three orders.

    Attributes:
        shares: ``(S,)`` of the cells that are replaced, from 0 to 1.
        by_map: the cells that speak most for fake go first.
        at_random: mean of several orders.
        reversed: the cells that speak most for fake go last. Read from right to left it is the insertion
            curve: how fast the logit rises when the most important cells come first into the baseline.
    """

    shares: Tensor
    by_map: Tensor
    at_random: Tensor
    reversed: Tensor

    @property
    def gain(self) -> float:
        """Mean height of the random curve over that of the map, in units of the logit; above 0 is better."""
        return float(torch.trapezoid(self.at_random - self.by_map, self.shares))


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
    _check(model, inputs, baselines)
    if steps < 1:
        raise AVFFError(f"steps is {steps}; expected at least 1; with 64 the gap is a few per cent")
    frames, sound = 0.0, 0.0
    with torch.inference_mode(False), torch.enable_grad():
        places, weights = (torch.from_numpy(x).float() / 2 for x in np.polynomial.legendre.leggauss(steps))
        views = _Views(model.spec, inputs)
        for one in range(len(baselines.frames)):
            base = _Views(model.spec, ModelInputs(baselines.frames[[one]], baselines.audio[[one]]))
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


def deletion_curves(
    model: Judge,
    inputs: ModelInputs,
    baseline: ModelInputs,
    cells: Tensor,
    generator: torch.Generator,
    *,
    shares: Tensor | None = None,
    orders: int = 2,
) -> Deletion:
    """Replace a window's cells by those of a baseline: by a map, at random, and the least important first.

    Args:
        model: in evaluation mode.
        inputs, baseline: one window each, ``(1, ...)``.
        cells: the more a cell speaks for fake the higher, as `Attribution.cells` returns them.
        generator: draws the random orders.
        shares: of the cells that are replaced, ascending; by default ten, from 0 to 1, denser near 0.
        orders: how many random orders are averaged.

    Raises:
        AVFFError: the model is in training mode, or the shapes do not fit.

    Source: Petsiuk et al. 2018 (RISE), section 4.
    """
    _check(model, inputs, baseline)
    count = inputs.frames.shape[1] * np.prod(CELLS["frames"]) + np.prod(CELLS["sound"])
    if cells.shape != (count,) or len(baseline.frames) != 1:
        raise AVFFError(
            f"the map has cells of shape {tuple(cells.shape)} for {len(baseline.frames)} baselines; expected "
            f"({count},), as Attribution.cells gives them, and one baseline"
        )
    shares = torch.linspace(0, 1, 10).square() if shares is None else shares
    scores = [cells, -cells, *torch.rand(orders, count, generator=generator)]
    curves = [_curve(model, inputs, baseline, score.to(cells), shares) for score in scores]
    return Deletion(shares, curves[0], torch.stack(curves[2:]).mean(dim=0), curves[1])


def _curve(
    model: Judge, inputs: ModelInputs, baseline: ModelInputs, scores: Tensor, shares: Tensor
) -> Tensor:
    """Logits ``(S,)`` when those shares of the cells with the highest scores are replaced."""
    rank = scores.argsort(descending=True).argsort()
    kept = rank >= (shares.to(scores)[:, None] * len(rank)).round()  # (S, cells)
    split = inputs.frames.shape[1] * int(np.prod(CELLS["frames"]))
    logits = []
    with torch.inference_mode():
        views, base = _Views(model.spec, inputs), _Views(model.spec, baseline)
        for part in kept.to(inputs.frames).split(BATCH):
            frames = part[:, :split].unflatten(1, (-1, *CELLS["frames"]))  # (S, T, 8, 8)
            sound = part[:, split:].unflatten(1, CELLS["sound"])
            frames = _spread(frames, CELLS["frames"], inputs.frames.shape[-2:])[:, :, None]
            points = base.towards(views, frames, _spread(sound, CELLS["sound"], views.sound.shape[-2:]))
            logits.append(model(views.inputs(*points)))
    return torch.cat(logits).cpu()


def randomised(model: Detector, seed: int) -> Detector:
    """A detector of the same build whose weights are random; its maps should be others.

    Source: Adebayo et al. 2018, section 3.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return type(model)(model.config).to(next(model.parameters()).device).eval()


def likeness(one: Attribution, other: Attribution) -> tuple[float, float]:
    """Rank correlation (Spearman) of the cells of two maps of one window: frames, and sound.

    1 for the same order, about 0 for maps that have nothing to do with each other. Signs count: sizes alone
    are alike for any two models, since both hold the distance of the window from the baseline.
    """
    split = one.frames.shape[0] * int(np.prod(CELLS["frames"]))
    pairs = zip(one.cells().tensor_split([split]), other.cells().tensor_split([split]), strict=True)
    return tuple(float(spearmanr(a.cpu(), b.cpu()).statistic) for a, b in pairs)


class _Views:
    """A batch of inputs as it is explained: frames as they are, a waveform as its complex spectrum.

    The way back from the spectrum is linear, so a share of the spectrum is a share of the waveform.
    """

    def __init__(self, spec: InputSpec, inputs: ModelInputs) -> None:
        # Copies, since tensors made in inference mode cannot be part of a graph.
        self.frames, self.sound = inputs.frames.detach().clone(), inputs.audio.detach().clone()
        self.samples = None if spec.audio == "mel" else inputs.audio.shape[-1]
        self.window = torch.hann_window(N_FFT, device=inputs.audio.device)
        if self.samples:
            self.sound = torch.stft(self.sound, N_FFT, HOP, window=self.window, return_complex=True)

    def towards(self, other: _Views, frames: Tensor, sound: Tensor) -> tuple[Tensor, Tensor]:
        """Points between this batch and another, by shares that broadcast: 0 is this one, 1 the other."""
        return (
            self.frames + frames * (other.frames - self.frames),
            self.sound + sound * (other.sound - self.sound),
        )

    def inputs(self, frames: Tensor, sound: Tensor) -> ModelInputs:
        """Points as a model takes them."""
        if self.samples:
            sound = torch.istft(sound, N_FFT, HOP, window=self.window, length=self.samples)
        return ModelInputs(frames, sound)


def _memberships(sizes: tuple[int, int], parts: tuple[int, int]) -> list[Tensor]:
    """For both axes ``(parts, size)``: 1 where a place belongs to a part."""
    return [torch.eye(p)[:, torch.arange(s) * p // s] for s, p in zip(sizes, parts, strict=True)]


def _spread(cells: Tensor, parts: tuple[int, int], sizes: tuple[int, int]) -> Tensor:
    """Values of cells ``(..., rows, columns)`` -> of every point of the map ``(..., H, W)``."""
    rows, columns = (m.to(cells) for m in _memberships(sizes, parts))
    return rows.T @ cells @ columns


def _check(model: Judge, inputs: ModelInputs, baselines: ModelInputs) -> None:
    """Raise an `AVFFError` if the model cannot be explained on these inputs."""
    if model.training:
        raise AVFFError(
            "the model is in training mode, where dropout moves its logits; call model.eval() first"
        )
    spec = model.spec
    expected = (1, spec.frame_count, 3, spec.image_size, spec.image_size)
    if tuple(inputs.frames.shape) != expected or len(inputs.audio) != 1:
        raise AVFFError(
            f"frames are {tuple(inputs.frames.shape)} with {len(inputs.audio)} sounds; expected one window, "
            f"{expected}, as prepare(clip, model.spec) makes it"
        )
    shapes = [tuple(x.shape[1:]) for x in (inputs.frames, baselines.frames, inputs.audio, baselines.audio)]
    if shapes[0] != shapes[1] or shapes[2] != shapes[3]:
        raise AVFFError(
            f"a baseline has the shapes {shapes[1]} and {shapes[3]}, the window {shapes[0]} and {shapes[2]}; "
            "prepare both by the same spec"
        )
    if not (inputs.frames.isfinite().all() and inputs.audio.isfinite().all()):
        raise AVFFError("the window holds values that are no numbers; decode and prepare the clip anew")
