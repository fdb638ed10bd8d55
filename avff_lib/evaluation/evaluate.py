"""Evaluate and calibrate a detector: its predictions on labelled clips -> metrics, threshold, calibration.

Like scikit-learn's ``cross_val_score`` it asks the estimator for predictions (`Detector.predict_clip`) and
knows nothing of how they are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from avff_lib.data.examples import Example, Skipped
from avff_lib.data.labels import window_label
from avff_lib.data.manifest import Row
from avff_lib.data.shards import StoredExample
from avff_lib.errors import AVFFError
from avff_lib.evaluation.calibration import (
    PROBABILITY_EPSILON,
    TARGET_ERROR_RATE,
    check_target_fpr,
    fit_platt_scaling,
    threshold_at_fpr,
    unsure_range,
)
from avff_lib.evaluation.metrics import best_threshold
from avff_lib.evaluation.summary import compute_metrics, count_clips, summarize
from avff_lib.models import Detector
from avff_lib.models.calibration import Calibration
from avff_lib.models.ood import OODDetector


@dataclass(frozen=True, eq=False)
class ClipScores:
    """A labelled clip with a detector's scores.

    Attributes:
        row: of the manifest.
        score: probability of fake, calibrated if the detector is.
        windows: ``(K,)`` probability of fake of each window, likewise.
        window_labels: ``(K,)``, 1 where at least a quarter of the window is fake.
        audio_features, visual_features: ``(D,)``, means over the windows and their time.
    """

    row: Row
    score: float
    windows: np.ndarray
    window_labels: np.ndarray
    audio_features: np.ndarray
    visual_features: np.ndarray


def evaluate(
    model: Detector, examples: Sequence[Example | StoredExample], *, seed: int = 0
) -> dict[str, Any]:
    """Score labelled clips and compute every metric.

    Args:
        model: the detector; its threshold and its unsure range are applied.
        examples: from `avff_lib.data.examples.load_examples` or `avff_lib.data.shards.read_shards`.
        seed: of the bootstrap over identities.

    Returns:
        The metrics, as plain dicts, lists and numbers; see `evaluate_scores`. ``skipped`` lists the clips
        that could not be scored, each with its ``path`` and the ``reason``.

    Raises:
        AVFFError: no clip can be scored.
    """
    scored, skipped = score_readable(model, examples)
    reasons = [{"path": str(entry.row.path), "reason": entry.reason} for entry in skipped]
    return {**evaluate_scores(model, scored, seed=seed), "skipped": reasons}


def evaluate_scores(model: Detector, scored: Sequence[ClipScores], *, seed: int = 0) -> dict[str, Any]:
    """The metrics of a detector on clips that it has scored.

    Args:
        model: the detector; its threshold and its unsure range are applied.
        scored: by `score_readable`.
        seed: of the bootstrap over identities.

    Returns:
        What `avff_lib.evaluation.summary.summarize` returns for the files; ``windows``: the same metrics of
        single windows by their own labels, with ``counts``; ``sure``, if the detector has an unsure range:
        the ``share`` of the ``clips`` outside of it, and their errors ``fpr`` and ``fnr`` as shares of all
        clips of a class; ``threshold``; ``trained_on``.
    """
    rows, threshold = [entry.row for entry in scored], model.config.threshold
    scores = np.array([entry.score for entry in scored])
    windows = (
        np.concatenate([entry.window_labels for entry in scored]),
        np.concatenate([entry.windows for entry in scored]),
        np.repeat([row.source for row in rows], [len(entry.windows) for entry in scored]),
    )
    summary = summarize(rows, scores, threshold, seed)
    if model.config.calibration.unsure is not None:
        labels = np.array([row.label for row in rows])
        summary["sure"] = _errors_outside(labels, scores, *model.config.calibration.unsure)
    return {
        **summary,
        "windows": {**compute_metrics(*windows, threshold, seed), "counts": count_clips(*windows)},
        "threshold": threshold,
        "trained_on": model.config.trained_on,
    }


def score_example(model: Detector, example: Example | StoredExample) -> ClipScores:
    """Score all windows of a clip.

    Raises:
        AVFFError: it cannot be read, or the model's output is not finite.
    """
    try:
        prediction = model.predict_clip(example.clip)
    except AVFFError as error:
        raise AVFFError(f"{example.row.path} cannot be scored: {error}") from None
    labels = [window_label(example.row, start, model.spec.duration) for start in prediction.starts]
    return ClipScores(
        row=example.row,
        score=prediction.score,
        windows=prediction.window_scores,
        window_labels=np.array(labels),
        audio_features=prediction.audio_features,
        visual_features=prediction.visual_features,
    )


def score_examples(model: Detector, examples: Sequence[Example | StoredExample]) -> np.ndarray:
    """Probability of fake ``(N,)`` for each clip, calibrated if the detector is.

    Raises:
        AVFFError: see `score_example`.
    """
    model.eval()
    return np.array([score_example(model, example).score for example in tqdm(examples, desc="scoring")])


def score_readable(
    model: Detector, examples: Sequence[Example | StoredExample]
) -> tuple[list[ClipScores], list[Skipped]]:
    """Score the clips that can be scored, and list those that cannot, with the reason.

    Raises:
        AVFFError: none can.
    """
    model.eval()
    scored, skipped = [], []
    for example in tqdm(examples, desc="scoring"):
        try:
            scored.append(score_example(model, example))
        except AVFFError as error:
            skipped.append(Skipped(example.row, str(error)))
    if not scored:
        first = f"; the first one: {skipped[0].reason}" if skipped else ""
        raise AVFFError(f"none of the {len(examples)} clips can be scored{first}")
    return scored, skipped


def calibrate(
    model: Detector, validation: Sequence[Example | StoredExample], target_fpr: float | None = None
) -> None:
    """Fit the model's ``ood``, ``threshold`` and ``calibration`` to its scores of validation clips.

    Temperature and bias come first, and the threshold is chosen among calibrated scores: the one with the
    best balanced accuracy, or the lowest that keeps to a false positive rate. Where a class is missing
    neither can be fitted, and both are reset to their defaults.

    Args:
        model: is changed; its previous calibration is discarded.
        validation: of identities that are in no other split.
        target_fpr: share of the real clips that may be predicted fake, such as 0.05.

    Raises:
        AVFFError: there are too few clips for ``target_fpr``; the model is unchanged then.
    """
    labels = np.array([example.row.label for example in validation], dtype=int)
    if target_fpr is not None:
        check_target_fpr(target_fpr, int((labels == 0).sum()))
    model.config = replace(model.config, threshold=0.5, calibration=Calibration())
    model.eval()
    scored = [score_example(model, example) for example in tqdm(validation, desc="scoring")]
    identities = [example.row.source for example in validation]
    model.ood = OODDetector.fit(
        np.array([entry.audio_features for entry in scored]),
        np.array([entry.visual_features for entry in scored]),
        identities,
    )
    if len(set(labels.tolist())) < 2:
        return
    raw = np.array([entry.score for entry in scored])
    temperature, bias = fit_platt_scaling(labels, raw)
    scores = Calibration(temperature, bias).apply(raw)
    real, fakes = scores[labels == 0], scores[labels == 1]
    threshold = best_threshold(labels, scores) if target_fpr is None else threshold_at_fpr(real, target_fpr)
    threshold = float(np.clip(threshold, PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON))
    fitted = Calibration(
        temperature,
        bias,
        unsure=unsure_range(labels, scores, threshold),
        error_rate=TARGET_ERROR_RATE,
        fpr=float((real >= threshold).mean()),
        fnr=float((fakes < threshold).mean()),
        clips=len(labels),
        identities=len(set(identities)),
    )
    model.config = replace(model.config, threshold=threshold, calibration=fitted)


def _errors_outside(
    labels: np.ndarray, scores: np.ndarray, low: float, high: float
) -> dict[str, float | int]:
    """``sure`` of `evaluate_scores`; the error rate of a class without clips is left out."""
    real, fakes = scores[labels == 0], scores[labels == 1]
    errors: dict[str, float | int] = {
        "share": float(((scores < low) | (scores > high)).mean()),
        "clips": len(scores),
    }
    if len(real):
        errors["fpr"] = float((real > high).mean())
    if len(fakes):
        errors["fnr"] = float((fakes < low).mean())
    return errors
