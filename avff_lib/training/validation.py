"""Validation in a training run: a score every so many steps, and the model that scored best."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

from lightning_fabric import Fabric

from avff_lib.errors import AVFFError
from avff_lib.models.base import Detector
from avff_lib.training.checkpoint import Checkpoints, History
from avff_lib.training.config import TrainConfig

BEST_NAME = "best"  # folder of the model that validated best, in that of its run


class Validation:
    """Scores a model where its run is due, and keeps the one that scored best.

    Args:
        score: of a model in evaluation mode, higher is better.
        model: that is trained.
        config: of the run.

    Attributes:
        best: a copy of ``model`` on the CPU, with the weights that scored best; they are saved with the run's
            state, so they are of the same run as its history, however often that was killed.
    """

    def __init__(self, score: Callable[[Detector], float], model: Detector, config: TrainConfig) -> None:
        self.score, self.config = score, config
        self.best = copy.deepcopy(model).cpu()

    def is_due(self, history: History) -> bool:
        """Whether the last step is one to validate after, and was not validated yet."""
        done = len(history)
        wanted = done == self.config.steps or done % self.config.validate_every == 0
        return done > 0 and wanted and "validation" not in history[-1]

    def run(self, fabric: Fabric, candidate: Detector, history: History, states: Checkpoints) -> None:
        """Score a model in process 0, record that with the last step, and keep the model if it is the best.

        Raises:
            AVFFError: it cannot be scored. The state is saved before, and validated when the run is resumed.
        """
        best = best_record(history)
        try:
            score = self.score(candidate.eval()) if fabric.is_global_zero else 0.0
        except Exception as error:
            states.save(history)
            if not isinstance(error, AVFFError):
                raise
            raise AVFFError(
                f"the model of step {len(history)} cannot be validated ({error}); its state is saved in "
                f"{states.folder}: mend that and run the same command again to go on"
            ) from error
        history[-1]["validation"] = score = fabric.broadcast(score)
        candidate.train()
        if math.isfinite(score) and (best is None or score > best["validation"]):
            self.best.load_state_dict(candidate.state_dict())
            if fabric.is_global_zero:
                self.save_best(states)

    def save_best(self, states: Checkpoints) -> None:
        """Write the model that scored best into its folder."""
        with states.report_full_disk("the best model"):
            self.best.save_pretrained(states.folder / BEST_NAME)


def best_record(history: History) -> dict[str, float] | None:
    """The record of the step that validated best, the first of equals; None if no score is a number."""
    scored = [record for record in history if math.isfinite(record.get("validation", math.nan))]
    return max(scored, key=lambda record: record["validation"], default=None)
