"""Is a map to be believed? Two checks.

Deleting what it points at should lower the logit faster than deleting at random, and a model with other
weights should get another map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from avff_lib.clip import AVFFError, ModelInputs
from avff_lib.explain.maps import Map
from avff_lib.explain.views import BATCH, CELLS, Judge, Views, check, spread
from avff_lib.models import Detector


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
        cells: the more a cell speaks for fake the higher, as `Map.cells` returns them.
        generator: draws the random orders.
        shares: of the cells that are replaced, ascending; by default ten, from 0 to 1, denser near 0.
        orders: how many random orders are averaged.

    Raises:
        AVFFError: the model is in training mode, or the shapes do not fit.

    Source: Petsiuk et al. 2018 (RISE), section 4.
    """
    check(model, inputs, baseline)
    count = inputs.frames.shape[1] * np.prod(CELLS["frames"]) + np.prod(CELLS["sound"])
    if cells.shape != (count,) or len(baseline.frames) != 1:
        raise AVFFError(
            f"the map has cells of shape {tuple(cells.shape)} for {len(baseline.frames)} baselines; expected "
            f"({count},), as Map.cells gives them, and one baseline"
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
        views, base = Views(model.spec, inputs), Views(model.spec, baseline)
        for part in kept.to(inputs.frames).split(BATCH):
            frames = part[:, :split].unflatten(1, (-1, *CELLS["frames"]))  # (S, T, 8, 8)
            sound = part[:, split:].unflatten(1, CELLS["sound"])
            frames = spread(frames, CELLS["frames"], inputs.frames.shape[-2:])[:, :, None]
            points = base.towards(views, frames, spread(sound, CELLS["sound"], views.sound.shape[-2:]))
            logits.append(model(views.inputs(*points)))
    return torch.cat(logits).cpu()


def randomised(model: Detector, seed: int) -> Detector:
    """A detector of the same build whose weights are random; its maps should be others.

    Source: Adebayo et al. 2018, section 3.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return type(model)(model.config).to(next(model.parameters()).device).eval()


def likeness(one: Map, other: Map) -> tuple[float, float]:
    """Rank correlation (Spearman) of the cells of two maps of one window: frames, and sound.

    1 for the same order, about 0 for maps that have nothing to do with each other. Signs count: sizes alone
    are alike for any two models, since both hold the distance of the window from the baseline.
    """
    split = one.frames.shape[0] * int(np.prod(CELLS["frames"]))
    pairs = zip(one.cells().tensor_split([split]), other.cells().tensor_split([split]), strict=True)
    return tuple(float(spearmanr(a.cpu(), b.cpu()).statistic) for a, b in pairs)
