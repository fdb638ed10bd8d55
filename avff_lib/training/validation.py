"""Validation during training: a score at regular steps, and the model that scored best."""

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
    """Scores a model when a validation is due, and keeps the one that scored best.

    Args:
        score: returns the score of a model in evaluation mode, higher is better.
        model: the model in training.
        config: the run's settings.

    Attributes:
        best: a copy of ``model`` on the CPU, with the weights that scored best. They are saved with the run's
            state, so that they match its history even if the run was killed.
    """

    def __init__(self, score: Callable[[Detector], float], model: Detector, config: TrainConfig) -> None:
        self.score, self.config = score, config
        self.best = copy.deepcopy(model).cpu()

    def is_due(self, history: History) -> bool:
        """Whether the last step needs a validation and has had none yet."""
        done = len(history)
        wanted = done == self.config.steps or done % self.config.validate_every == 0
        return done > 0 and wanted and "validation" not in history[-1]

    def run(self, fabric: Fabric, candidate: Detector, history: History, states: Checkpoints) -> None:
        """Score a model in process 0, record the score with the last step, and keep the model if it is best.

        Raises:
            AVFFError: it cannot be scored. The state is saved first, and is validated when the run resumes.
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
                f"{states.folder}: fix this and run the same command again to continue"
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
    """The record of the step that validated best, the earliest if tied; None if no score is a number."""
    scored = [record for record in history if math.isfinite(record.get("validation", math.nan))]
    return max(scored, key=lambda record: record["validation"], default=None)
