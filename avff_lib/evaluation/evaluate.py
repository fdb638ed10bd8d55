"""A detector and clips -> scores -> metrics, by the same windows and scores as `avff_lib.predict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from avff_lib.clip import AVFFError
from avff_lib.data.loader import Example, Skipped, window_label, windows_over
from avff_lib.data.manifest import Row
from avff_lib.domain import Domain
from avff_lib.evaluation.calibration import (
    ERROR_RATE,
    SURE,
    check_false_alarm_rate,
    fit_temperature,
    threshold_for,
    unsure_range,
)
from avff_lib.evaluation.metrics import best_threshold
from avff_lib.evaluation.summary import count, measure, summarise
from avff_lib.examine import HOP
from avff_lib.judge import judge_windows
from avff_lib.models import Detector
from avff_lib.timeline import clip_score
from avff_lib.verdict import Calibration


@dataclass(frozen=True, eq=False)
class Scored:
    """What a detector says of one clip.

    Attributes:
        row: of the manifest.
        score: probability of fake, by `avff_lib.timeline.clip_score`: calibrated if the detector is.
        windows: ``(K,)`` probability of fake of each window, calibrated likewise.
        window_labels: ``(K,)``, 1 where a window is forged for a quarter of its length or more.
        sound, picture: features, each ``(D,)``, the mean over the windows and their time.
    """

    row: Row
    score: float
    windows: np.ndarray
    window_labels: np.ndarray
    sound: np.ndarray
    picture: np.ndarray


def score_example(model: Detector, example: Example) -> Scored:
    """Judge all windows of a clip.

    Raises:
        AVFFError: it cannot be read, or the model's answer is no number.
    """
    duration, calibration = model.spec.duration, model.config.calibration
    parts = windows_over(example.clip, duration, HOP)
    try:
        judged = judge_windows(model, parts)
    except AVFFError as error:
        raise AVFFError(f"{example.row.path} cannot be scored: {error}") from None
    raw = judged.probability.numpy()
    labels = [window_label(example.row, part.start, duration) for part in parts]
    score, windows = clip_score(raw, calibration), calibration.apply(raw)
    sound, picture = (
        stream.mean(dim=(0, 1)).numpy() for stream in (judged.features.audio, judged.features.visual)
    )
    return Scored(example.row, score, windows, np.array(labels), sound, picture)


def score_examples(model: Detector, examples: Sequence[Example]) -> np.ndarray:
    """Probability of fake ``(N,)`` for each clip, calibrated if the detector is.

    Raises:
        AVFFError: see `score_example`.
    """
    model.eval()
    return np.array([score_example(model, example).score for example in tqdm(examples, desc="scoring")])


def score_readable(model: Detector, examples: Sequence[Example]) -> tuple[list[Scored], list[Skipped]]:
    """Score the clips that can be read, and say which cannot.

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
        raise AVFFError(
            f"none of the {len(examples)} clips can be scored; the first one: {skipped[0].reason}"
        )
    return scored, skipped


def evaluate(model: Detector, scored: Sequence[Scored], seed: int = 0) -> dict[str, Any]:
    """The metrics of a detector on clips that it has scored.

    Args:
        model: the detector; its threshold and its unsure range are applied.
        scored: by `score_readable`.
        seed: of the people that the intervals draw.

    Returns:
        What `avff_lib.evaluation.summary.summarise` says of the files, and ``windows``: the same metrics of
        single windows by their own labels, with ``counts``; ``sure``: the files that are left when the
        unsure ones are set aside, if the detector has such a range; ``threshold``, ``trained_on``.
    """
    rows, threshold = [entry.row for entry in scored], model.config.threshold
    scores = np.array([entry.score for entry in scored])
    people = np.repeat([row.source for row in rows], [len(entry.windows) for entry in scored])
    windows = (
        np.concatenate([entry.window_labels for entry in scored]),
        np.concatenate([entry.windows for entry in scored]),
        people,
    )
    summary = summarise(rows, scores, threshold, seed)
    if model.config.calibration.unsure is not None:
        labels = np.array([row.label for row in rows])
        summary["sure"] = _sure(labels, scores, *model.config.calibration.unsure)
    return {
        **summary,
        "windows": {**measure(*windows, threshold, seed), "counts": count(*windows)},
        "threshold": threshold,
        "trained_on": model.config.trained_on,
    }


def _sure(labels: np.ndarray, scores: np.ndarray, low: float, high: float) -> dict[str, float | int]:
    """The clips outside of the unsure range: their share, and errors as shares of all clips of a class."""
    genuine, fakes = scores[labels == 0], scores[labels == 1]
    return {
        "share": float(((scores < low) | (scores > high)).mean()),
        "clips": len(scores),
        **({"false_alarms": float((genuine > high).mean())} if len(genuine) else {}),
        **({"misses": float((fakes < low).mean())} if len(fakes) else {}),
    }


def calibrate(model: Detector, validation: Sequence[Example], false_alarm_rate: float | None = None) -> None:
    """Set the model's ``domain``, ``threshold`` and ``calibration`` by what it says of validation clips.

    Temperature and bias come first, and the threshold is chosen among calibrated scores: the one with the
    best balanced accuracy, or the lowest that keeps to a stated false-alarm rate. Where a class is missing
    no score can be fitted, and both are set back to what they are in a new model.

    Args:
        model: is changed; a calibration that it had is forgotten.
        validation: of people that are in no other split.
        false_alarm_rate: share of the genuine clips that may be called fake, such as 0.05.

    Raises:
        AVFFError: there are too few clips for ``false_alarm_rate``; nothing was changed then.
    """
    labels = np.array([example.row.label for example in validation], dtype=int)
    if false_alarm_rate is not None:
        check_false_alarm_rate(false_alarm_rate, int((labels == 0).sum()))
    model.config = replace(model.config, threshold=0.5, calibration=Calibration())
    model.eval()
    scored = [score_example(model, example) for example in tqdm(validation, desc="scoring")]
    people = [example.row.source for example in validation]
    model.domain = Domain.fit(
        np.array([entry.sound for entry in scored]), np.array([entry.picture for entry in scored]), people
    )
    if len(set(labels.tolist())) < 2:
        return
    raw = np.array([entry.score for entry in scored])
    temperature, bias = fit_temperature(labels, raw)
    scores = Calibration(temperature, bias).apply(raw)
    genuine, fakes = scores[labels == 0], scores[labels == 1]
    if false_alarm_rate is None:
        threshold = best_threshold(labels, scores)
    else:
        threshold = threshold_for(genuine, false_alarm_rate)
    threshold = float(np.clip(threshold, SURE, 1 - SURE))
    fitted = Calibration(
        temperature,
        bias,
        unsure=unsure_range(labels, scores, threshold),
        error_rate=ERROR_RATE,
        false_alarms=float((genuine >= threshold).mean()),
        misses=float((fakes < threshold).mean()),
        clips=len(labels),
        people=len(set(people)),
    )
    model.config = replace(model.config, threshold=threshold, calibration=fitted)
