"""Two sanity checks of a saliency map.

Deleting the cells that it marks should lower the logit faster than deleting random ones, and a model with
other weights should have another map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.stats import spearmanr
from torch import Tensor

from avff_lib.errors import AVFFError
from avff_lib.explain.attribution import SaliencyMap
from avff_lib.explain.views import BATCH_SIZE, CELLS, LogitModel, Views, check, spread
from avff_lib.models import Detector
from avff_lib.preprocess.spec import ModelInputs


@dataclass(frozen=True, eq=False)
class DeletionCurves:
    """Logits ``(S,)`` while more and more of a window is replaced by the baseline, in three orders.

    Attributes:
        shares: ``(S,)`` shares of replaced cells, from 0 to 1.
        by_map: the cells with the highest attribution to fake are replaced first.
        at_random: mean of several random orders.
        reversed: the cells with the highest attribution are replaced last. Read from right to left, this is
            the insertion curve: how fast the logit rises when the most important cells are inserted into the
            baseline first.
    """

    shares: Tensor
    by_map: Tensor
    at_random: Tensor
    reversed: Tensor

    @property
    def gain(self) -> float:
        """Area between the random curve and the map's, in units of the logit; higher is better."""
        return float(torch.trapezoid(self.at_random - self.by_map, self.shares))


def deletion_curves(
    model: LogitModel,
    inputs: ModelInputs,
    baseline: ModelInputs,
    cells: Tensor,
    generator: torch.Generator,
    *,
    shares: Tensor | None = None,
    orders: int = 2,
) -> DeletionCurves:
    """Replace a window's cells by those of a baseline: ordered by a map, at random, and in reverse.

    Args:
        model: in evaluation mode.
        inputs, baseline: one window each, ``(1, ...)``.
        cells: attribution to fake, as `SaliencyMap.cells` returns it.
        generator: draws the random orders.
        shares: shares of replaced cells, ascending; by default ten, from 0 to 1, denser near 0.
        orders: number of random orders to average.

    Raises:
        AVFFError: the model is in training mode, or the shapes do not fit.

    Source: Petsiuk et al. 2018 (RISE), section 4.
    """
    check(model, inputs, baseline)
    count = inputs.frames.shape[1] * math.prod(CELLS["frames"]) + math.prod(CELLS["audio"])
    if tuple(cells.shape) != (count,) or len(baseline.frames) != 1:
        raise AVFFError(
            f"the map has cells of shape {tuple(cells.shape)} for {len(baseline.frames)} baselines; expected "
            f"({count},), as SaliencyMap.cells returns them, and one baseline"
        )
    shares = torch.linspace(0, 1, 10).square() if shares is None else shares
    scores = [cells, -cells, *torch.rand(orders, count, generator=generator)]
    curves = [_curve(model, inputs, baseline, score.to(cells), shares) for score in scores]
    return DeletionCurves(shares, curves[0], torch.stack(curves[2:]).mean(dim=0), curves[1])


def _curve(
    model: LogitModel, inputs: ModelInputs, baseline: ModelInputs, scores: Tensor, shares: Tensor
) -> Tensor:
    """Logits ``(S,)`` after replacing these shares of the cells, highest scores first."""
    rank = scores.argsort(descending=True).argsort()
    kept = rank >= (shares.to(scores)[:, None] * len(rank)).round()  # (S, cells)
    split = inputs.frames.shape[1] * math.prod(CELLS["frames"])
    logits = []
    with torch.inference_mode():
        views, base = Views(model.spec, inputs), Views(model.spec, baseline)
        for part in kept.to(inputs.frames).split(BATCH_SIZE):
            frames = part[:, :split].unflatten(1, (-1, *CELLS["frames"]))  # (S, T, 8, 8)
            audio = part[:, split:].unflatten(1, CELLS["audio"])
            frames = spread(frames, CELLS["frames"], inputs.frames.shape[-2:])[:, :, None]
            points = base.towards(views, frames, spread(audio, CELLS["audio"], views.audio.shape[-2:]))
            logits.append(model(views.inputs(*points)))
    return torch.cat(logits).cpu()


def randomize_weights(model: Detector, seed: int) -> Detector:
    """A detector of the same architecture with random weights; its maps should differ.

    Source: Adebayo et al. 2018, section 3.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return type(model)(model.config).to(next(model.parameters()).device).eval()


def rank_correlation(one: SaliencyMap, other: SaliencyMap) -> tuple[float, float]:
    """Rank correlation (Spearman) of the cells of two maps of one window: of the frames, of the audio.

    1 for the same order, about 0 for unrelated maps. Signs count: magnitudes alone are similar for any two
    models, since both reflect the distance of the window from the baseline.
    """
    split = one.frames.shape[0] * math.prod(CELLS["frames"])
    frames, audio = (
        float(spearmanr(cells.cpu(), other_cells.cpu()).statistic)
        for cells, other_cells in zip(
            one.cells().tensor_split([split]), other.cells().tensor_split([split]), strict=True
        )
    )
    return frames, audio
