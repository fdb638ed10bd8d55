"""Evaluate and calibrate a detector: its predictions for labelled files -> metrics, threshold, calibration.

`avff_lib.inference.predictor` scores every file, exactly as in use.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from avff_lib.data.examples import Example, Skipped, by_file
from avff_lib.data.labels import window_label
from avff_lib.data.manifest import Row
from avff_lib.data.shards import StoredExample
from avff_lib.errors import AVFFError
from avff_lib.evaluation.calibration import (
    TARGET_ERROR_RATE,
    check_target_fpr,
    choose_threshold,
    cross_fit_errors,
    fit_platt_scaling,
    unsure_range,
)
from avff_lib.evaluation.metrics import best_threshold
from avff_lib.evaluation.score_log import open_log
from avff_lib.evaluation.summary import compute_metrics, count_clips, summarize
from avff_lib.inference.prediction import ALARMS, FilePrediction
from avff_lib.inference.predictor import FileAnalysis, analyze_file, score_pieces
from avff_lib.models import Detector
from avff_lib.models.calibration import PROBABILITY_EPSILON, Calibration
from avff_lib.models.checkpoint import calibration_digest, weights_digest
from avff_lib.models.ood import STREAM_OF, OODDetector
from avff_lib.utils.cluster import Engine
from avff_lib.utils.files import file_identity
from avff_lib.utils.parallel import parallel_map

Part = Example | StoredExample  # of a file that was decoded before
Examples = Sequence[Row | Part]
LOG_NAME = "scores.jsonl"
DETECTOR_PREFIX = ".detector-"  # of folders that hold it for workers
LOGGED = (  # of a prediction: what metrics and tables are made of
    "path",
    "label",
    "reasons",
    "prediction",
    "score",
    "threshold",
    "coverage",
    "ood_scores",
    "warnings",
)


@dataclass(frozen=True, eq=False)
class ClipScores:
    """A labelled file with a detector's scores.

    Attributes:
        row: its row of the manifest.
        prediction: that of the file, as `avff_lib.predict` returns it.
        raw: uncalibrated score of the file's face.
        windows: ``(K,)`` probability of fake of each window that was scored and has a label.
        raw_windows: ``(K,)``, the same, uncalibrated.
        window_labels: ``(K,)``, 1 or 0; see `avff_lib.data.labels.window_label`.
        features: ``(D,)`` each, of the file's face, by keys of `avff_lib.models.ood.STREAM_OF`.
    """

    row: Row
    prediction: FilePrediction
    raw: float
    windows: np.ndarray
    raw_windows: np.ndarray
    window_labels: np.ndarray
    features: dict[str, np.ndarray]

    @property
    def score(self) -> float:
        """Probability of fake, calibrated if the detector is."""
        assert self.prediction.score is not None  # files without a score are skipped
        return self.prediction.score


def evaluate(model: Detector, examples: Examples, *, seed: int = 0) -> dict[str, Any]:
    """Score labelled files and compute every metric.

    Args:
        model: the detector; its threshold is applied.
        examples: rows of a manifest, whose files are decoded one by one; or files decoded before, by
            `avff_lib.data.examples.load_examples` or for `avff_lib.data.shards.read_shards`.
        seed: of the bootstrap over identities.

    Returns:
        The metrics, as plain dicts, lists and numbers; see `evaluate_scores`. ``skipped`` lists the files
        that could not be scored, each with its ``path`` and the ``reason``.

    Raises:
        AVFFError: no file can be scored.
    """
    scored, skipped = score_readable(model, examples)
    reasons = [{"path": str(entry.row.path), "reason": entry.reason} for entry in skipped]
    return {**evaluate_scores(model, scored, seed=seed), "skipped": reasons}


def evaluate_scores(model: Detector, scored: Sequence[ClipScores], *, seed: int = 0) -> dict[str, Any]:
    """The metrics of a detector on files that it has scored.

    Args:
        model: the detector; its threshold is applied.
        scored: by `score_readable`.
        seed: of the bootstrap over identities.

    Returns:
        What `avff_lib.evaluation.summary.summarize` returns for the scores of the files, including those
        labelled undetermined; ``windows``: the same metrics of single windows against their own labels, with
        ``counts``; ``selective``: the errors of the labels, see `selective_errors`; ``threshold``;
        ``trained_on``.
    """
    rows, threshold = [entry.row for entry in scored], model.config.threshold
    windows = (
        np.concatenate([entry.window_labels for entry in scored]),
        np.concatenate([entry.windows for entry in scored]),
        np.repeat([row.source for row in rows], [len(entry.windows) for entry in scored]),
    )
    window_threshold = model.config.calibration.window_threshold
    return {
        **summarize(rows, np.array([entry.score for entry in scored]), threshold, seed),
        "selective": selective_errors(scored),
        "windows": {**compute_metrics(*windows, window_threshold, seed), "counts": count_clips(*windows)},
        "threshold": threshold,
        "trained_on": model.config.trained_on,
    }


def selective_errors(scored: Sequence[ClipScores]) -> dict[str, Any]:
    """Coverage and errors of the labels of a detector that may abstain.

    Returns:
        ``clips``; ``coverage``, the share of them that are labelled real or fake; ``fpr`` and ``fnr``, the
        share of real clips that are labelled fake and of fake ones that are labelled real, without
        undetermined ones; ``risk``, the share of wrong labels among those given; ``reasons``, the number of
        undetermined clips for each reason. A rate without clips is left out.
    """
    labels = np.array([entry.row.label for entry in scored])
    named = np.array([entry.prediction.label for entry in scored])
    decided = named != "undetermined"
    wrong = decided & (np.isin(named, ALARMS) != (labels == 1))
    errors: dict[str, Any] = {"clips": len(scored), "coverage": float(decided.mean())}
    for name, chosen in (("fpr", labels == 0), ("fnr", labels == 1), ("risk", decided)):
        if chosen.any():
            errors[name] = float(wrong[chosen].mean())
    reasons = Counter(reason for entry in scored for reason in entry.prediction.reasons)
    return {**errors, "reasons": dict(sorted(reasons.items()))}


def score_examples(model: Detector, examples: Examples) -> np.ndarray:
    """Probability of fake ``(N,)`` for each file, calibrated if the detector is.

    Raises:
        AVFFError: a file cannot be scored.
    """
    scored, skipped = score_readable(model, examples)
    if skipped:
        raise AVFFError(skipped[0].reason)
    return np.array([entry.score for entry in scored])


def score_readable(
    model: Detector,
    examples: Examples,
    *,
    workers: int | None = None,
    engine: Engine = "local",
    folder: Path | None = None,
) -> tuple[list[ClipScores], list[Skipped]]:
    """Score the files that can be scored, and list those that cannot, with the reason.

    Args:
        model: the detector; put into evaluation mode.
        examples: as in `evaluate`.
        workers: number of processes that decode and score files; by default one per core, but only this one
            for files that were decoded before, or on a GPU.
        engine: what runs these processes; see `avff_lib.utils.parallel.parallel_map`.
        folder: for the scores, one line of `LOG_NAME` per file; files that it already holds, with the same
            path, size and modification time, are not scored again, and come without ``features``. The workers
            of a cluster read the detector from it.

    Raises:
        AVFFError: no file can be scored, or ``folder`` holds scores of another detector.
    """
    model.eval()
    files: list[Row | list[Part]] = [example for example in examples if isinstance(example, Row)]
    files = files or list(by_file([example for example in examples if not isinstance(example, Row)]))
    if folder is None:
        results = list(_scores(model, files, workers, engine, None))
    else:
        results = _logged_scores(model, files, workers, engine, folder)
    scored = [result for result in results if isinstance(result, ClipScores)]
    skipped = [result for result in results if isinstance(result, Skipped)]
    if not scored:
        first = f"; the first one: {skipped[0].reason}" if skipped else ""
        raise AVFFError(f"none of the {len(skipped)} files can be scored{first}")
    return scored, skipped


def _logged_scores(
    model: Detector, files: Sequence[Row | list[Part]], workers: int | None, engine: Engine, folder: Path
) -> list[ClipScores | Skipped]:
    """Scores in the order of the files, those of earlier runs read from the log."""
    settings = {"detector": weights_digest(model), "calibration": calibration_digest(model)}
    with open_log(folder / LOG_NAME, settings, {"file", "prediction", "raw", "windows"}) as log:
        for left in folder.glob(f"{DETECTOR_PREFIX}*"):  # from a run that was killed
            shutil.rmtree(left)
        known = {tuple(entry["file"]): entry for entry in log.entries}
        identities = [_identity(file) for file in files]
        missing = {
            identity: file for identity, file in zip(identities, files, strict=True) if identity not in known
        }
        new: dict[tuple[str, int, int], ClipScores | Skipped] = {}
        results = _scores(model, list(missing.values()), workers, engine, folder)
        for identity, result in zip(missing, results, strict=True):
            new[identity] = result
            if isinstance(result, ClipScores):
                log.append({"file": identity, **_to_log(result)})
    return [
        new[identity] if identity in new else _from_log(_row_of(file), known[identity])
        for identity, file in zip(identities, files, strict=True)
    ]


def _to_log(scores: ClipScores) -> dict[str, Any]:
    prediction = {name: getattr(scores.prediction, name) for name in LOGGED}
    return {"prediction": prediction, "raw": scores.raw, "windows": _scored_windows(scores.prediction)}


def _from_log(row: Row, entry: dict[str, Any]) -> ClipScores:
    """Scores of an earlier run, with labels as the manifest has them now, and without features."""
    prediction = {**entry["prediction"], "reasons": tuple(entry["prediction"]["reasons"])}
    return _clip_scores(row, FilePrediction(**prediction), entry["raw"], entry["windows"], {})


def _scores(
    model: Detector,
    files: Sequence[Row | list[Part]],
    workers: int | None,
    engine: Engine,
    folder: Path | None,
) -> Iterator[ClipScores | Skipped]:
    """Each file's scores, one after the other."""
    if not files:
        return
    rows = [file for file in files if isinstance(file, Row)]
    workers = min(workers or os.cpu_count() or 1, len(rows)) if model.device.type == "cpu" else 1
    if rows and (workers > 1 or engine == "ray"):
        # Models with parametrised weights cannot be pickled.
        with TemporaryDirectory(dir=folder, prefix=DETECTOR_PREFIX) as saved:
            model.save_pretrained(saved)
            score = partial(_score_by_saved, saved)
            yield from parallel_map(score, rows, workers, description="scoring", unit="file", engine=engine)
    else:
        for file in tqdm(files, desc="scoring", unit="file"):
            yield _score_row(model, file) if isinstance(file, Row) else _score_parts(model, file)


def _row_of(file: Row | list[Part]) -> Row:
    return file if isinstance(file, Row) else file[0].row


def _identity(file: Row | list[Part]) -> tuple[str, int, int]:
    """Path of a row, with size and time of change of the file that its clip is read from."""
    row = _row_of(file)
    first = row if isinstance(file, Row) else file[0]
    _, size, changed = file_identity(first.shard if isinstance(first, StoredExample) else row.path)
    return str(row.path), size, changed


def calibrate(model: Detector, validation: Examples, target_fpr: float | None = None) -> None:
    """Fit the model's ``ood``, ``threshold`` and ``calibration`` to its scores of validation files.

    Temperature and bias come first, and the threshold is chosen among calibrated scores: the one with the
    best balanced accuracy, or the lowest that keeps to a false positive rate. If a class is missing, neither
    can be fitted, and both are reset to their defaults.

    Args:
        model: changed in place; its previous calibration is discarded, except for its ``pooling``.
        validation: as in `evaluate`, of identities that are in no other split.
        target_fpr: share of the real files that may be labelled fake, such as 0.05.

    Raises:
        AVFFError: there are too few files for ``target_fpr``, or one cannot be scored; the model is then
            unchanged.
    """
    before, pooling = (model.config, model.ood), model.config.calibration.pooling
    model.config = replace(model.config, threshold=0.5, calibration=Calibration(pooling=pooling))
    try:
        scored, skipped = score_readable(model, validation)
        if skipped:
            raise AVFFError(skipped[0].reason)
        if target_fpr is not None:
            check_target_fpr(target_fpr, sum(entry.row.label == 0 for entry in scored))
        model.ood = OODDetector.fit(
            {name: np.array([entry.features[name] for entry in scored]) for name in scored[0].features},
            [entry.row.source for entry in scored],
        )
        if len({entry.row.label for entry in scored}) == 2:
            threshold, fitted = _fit_calibration(scored, target_fpr)
            fitted = replace(fitted, pooling=pooling)
            model.config = replace(model.config, threshold=threshold, calibration=fitted)
    except BaseException:
        model.config, model.ood = before
        raise


def _fit_calibration(scored: Sequence[ClipScores], target_fpr: float | None) -> tuple[float, Calibration]:
    """Threshold and calibration from raw scores of files of both classes."""
    labels = np.array([entry.row.label for entry in scored])
    raw = np.array([entry.raw for entry in scored])
    identities = np.array([entry.row.source for entry in scored])
    temperature, bias = fit_platt_scaling(labels, raw)
    scores = Calibration(temperature, bias).apply(raw)
    threshold = choose_threshold(labels, scores, target_fpr)
    fpr, fnr = cross_fit_errors(labels, raw, identities, target_fpr)
    window_temperature, window_bias, window_threshold = _fit_windows(scored)
    fitted = Calibration(
        temperature,
        bias,
        window_temperature,
        window_bias,
        window_threshold,
        unsure=unsure_range(labels, scores, threshold),
        error_rate=TARGET_ERROR_RATE,
        fpr=fpr,
        fnr=fnr,
        clips=len(labels),
        identities=len(set(identities.tolist())),
    )
    return threshold, fitted


def _fit_windows(scored: Sequence[ClipScores]) -> tuple[float, float, float]:
    """Temperature, bias and threshold of single windows."""
    labels = np.concatenate([entry.window_labels for entry in scored])
    raw = np.concatenate([entry.raw_windows for entry in scored])
    if len(set(labels.tolist())) < 2:
        return 1.0, 0.0, 0.5
    temperature, bias = fit_platt_scaling(labels, raw)
    scores = Calibration(window_temperature=temperature, window_bias=bias).apply_to_windows(raw)
    threshold = np.clip(best_threshold(labels, scores), PROBABILITY_EPSILON, 1 - PROBABILITY_EPSILON)
    return temperature, bias, float(threshold)


@lru_cache(maxsize=1)
def _saved(folder: str) -> Detector:
    torch.set_num_threads(1)  # there is a process for each core
    return Detector.from_pretrained(folder)


def _score_by_saved(folder: str, row: Row) -> ClipScores | Skipped:
    return _score_row(_saved(folder), row)


def _score_row(model: Detector, row: Row) -> ClipScores | Skipped:
    return _result(row, analyze_file(row.path, model, views=False))


def _score_parts(model: Detector, parts: Sequence[Part]) -> ClipScores | Skipped:
    row = parts[0].row
    return _result(row, score_pieces(row.path, (part.piece for part in parts), model))


def _result(row: Row, analysis: FileAnalysis) -> ClipScores | Skipped:
    prediction = analysis.prediction
    if prediction.error:
        return Skipped(row, prediction.error)
    features = {name: x.numpy() for name, x in analysis.features.items() if name in STREAM_OF}
    return _clip_scores(row, prediction, analysis.raw, _scored_windows(prediction), features)


def _scored_windows(prediction: FilePrediction) -> list[tuple[float, float, float, float]]:
    """Start and end of each scored window, in seconds, its calibrated score and its raw score."""
    return [
        (window.start, window.end, window.score, max(face.raw for face in window.faces if face.speaks))
        for window in prediction.windows
        if window.score is not None
    ]


def _clip_scores(
    row: Row,
    prediction: FilePrediction,
    raw: float,
    windows: Sequence[tuple[float, float, float, float]],
    features: dict[str, np.ndarray],
) -> ClipScores:
    labelled = [
        (score, raw_score, label)
        for start, end, score, raw_score in windows
        if (label := window_label(row, start, end - start)) is not None
    ]
    scores, raw_scores, labels = np.array(labelled, dtype=float).reshape(-1, 3).T
    return ClipScores(row, prediction, raw, scores, raw_scores, labels.astype(int), features)
