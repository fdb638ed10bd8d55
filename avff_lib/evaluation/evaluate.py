"""A detector and a manifest -> metrics, by the same windows and scores as `avff_lib.predict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from avff_lib.clip import AVFFError
from avff_lib.data.loader import Example, load_examples, windows_over
from avff_lib.data.manifest import Row
from avff_lib.evaluation.metrics import best_threshold, summarise
from avff_lib.models import Detector
from avff_lib.predict import HOP, clip_score, judge_windows


def score_examples(model: Detector, examples: Sequence[Example]) -> np.ndarray:
    """Probability of fake ``(N,)`` for each clip."""
    model.eval()
    return np.array(
        [
            clip_score(judge_windows(model, windows_over(example.clip, model.spec.duration, HOP)).probability)
            for example in tqdm(examples, desc="scoring")
        ]
    )


def evaluate(model: Detector, rows: Sequence[Row]) -> dict:
    """Score every clip of ``rows``; see `avff_lib.evaluation.metrics.summarise` for what is returned.

    Also ``threshold``, ``trained_on`` and ``skipped``: the files that could not be used, and why.

    Raises:
        AVFFError: no clip could be used.
    """
    examples, skipped = load_examples(rows, model.spec)
    if not examples:
        raise AVFFError(f"none of the {len(rows)} clips can be used; the first one: {skipped[0].reason}")
    scores = score_examples(model, examples)
    return {
        **summarise([example.row for example in examples], scores, model.config.threshold),
        "threshold": model.config.threshold,
        "trained_on": model.config.trained_on,
        "skipped": [{"path": str(entry.row.path), "reason": entry.reason} for entry in skipped],
    }


def choose_threshold(model: Detector, validation: Sequence[Example]) -> None:
    """Set ``model.config.threshold`` to the one with the best balanced accuracy on ``validation``."""
    labels = np.array([example.row.label for example in validation])
    if len(set(labels.tolist())) == 2:
        threshold = best_threshold(labels, score_examples(model, validation))
        model.config = replace(model.config, threshold=float(np.clip(threshold, 0.01, 0.99)))
