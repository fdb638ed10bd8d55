"""Robustness of a detector: its AUC and its rates at the threshold under every perturbation and level.

A perturbation changes a clip before its faces are cropped, as it would change a file. The crops are those of
the *untouched* clip, so every cell of the grid covers the same clips and regions, and measures only the
detector. Whether a face is still detected in a perturbed clip is a different question and is not measured
here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from avff_lib.data.examples import Skipped
from avff_lib.data.manifest import Row
from avff_lib.errors import AVFFError
from avff_lib.evaluation.metrics import bootstrap_auc
from avff_lib.evaluation.perturbations import PERTURBATIONS, Perturbation
from avff_lib.evaluation.score_log import open_log
from avff_lib.faces.tracked import TrackedClip, crop_again, iter_tracked
from avff_lib.inference.predictor import score_pieces
from avff_lib.media.clip import Clip
from avff_lib.media.decode import read_clip
from avff_lib.models import Detector
from avff_lib.models.calibration import Calibration
from avff_lib.models.checkpoint import weights_digest

LOG_NAME = "scores.jsonl"
UNTOUCHED = "untouched"
PIECE_SECONDS = 4.0  # of whole frames in memory at once
MAX_SIDE = 1920  # pixels, of these frames; as faces are tracked

Scores = dict[str, dict[str, list[float]]]  # path -> perturbation -> probability of fake at levels 1 to 5


def check_names(names: Sequence[str]) -> None:
    """Raise an `AVFFError` for a perturbation that does not exist."""
    for unknown in sorted(set(names) - PERTURBATIONS.keys()):
        raise AVFFError(
            f"the perturbation {unknown!r} does not exist; choose from {', '.join(PERTURBATIONS)}"
        )


def balanced_subset(rows: Sequence[Row], count: int, seed: int = 0) -> list[Row]:
    """``count`` clips drawn at random, half of them real if there are enough.

    Smaller subsets are contained in larger ones, so that a run can be extended.

    Raises:
        AVFFError: ``count`` is below 2.
    """
    if count < 2:
        raise AVFFError(
            f"{count} clips were asked for; an AUC needs at least 2, and is worth little below 50"
        )
    order = [rows[index] for index in np.random.default_rng(seed).permutation(len(rows))]
    real, fake = ([row for row in order if row.label == label] for label in (0, 1))
    return real[: count // 2] + fake[: count - count // 2]


def score_perturbed(
    model: Detector, rows: Sequence[Row], names: Sequence[str], folder: Path, seed: int = 0
) -> tuple[Scores, list[Skipped]]:
    """Score clips as they are and under perturbations at all levels.

    The scores are stored in ``folder``, one line of JSON per clip. A second run with the same detector and
    seed computes only missing clips or perturbations; if started while the first is running, it waits. The
    noise of a clip is drawn once for all levels, so that they differ only in strength.

    Args:
        model: the detector.
        rows: those of the clips.
        names: keys of `PERTURBATIONS`.
        folder: for the scores; it need not exist.
        seed: of the noise and the blocks.

    Returns:
        The scores of ``rows`` under `UNTOUCHED` (one each) and ``names`` (one per level), and the rows that
        could not be used.

    Raises:
        AVFFError: a name is unknown, or ``folder`` holds scores of something else.
    """
    check_names(names)
    model.eval()
    wanted = (UNTOUCHED, *names)
    skipped = []
    scores: Scores = {}
    with open_log(folder / LOG_NAME, _settings(model, seed), {"path", "scores"}) as log:
        for entry in log.entries:
            scores.setdefault(entry["path"], {}).update(entry["scores"])
        for row in tqdm(rows, desc="perturbing and scoring", unit="clip"):
            known = scores.setdefault(str(row.path), {})
            missing = [name for name in wanted if name not in known]
            if not missing:
                continue
            try:
                new = _score_clip(model, row, missing, seed)
            except AVFFError as error:
                skipped.append(Skipped(row, str(error)))
                continue
            known |= new
            log.append({"path": str(row.path), "scores": new})
    paths = [str(row.path) for row in rows if scores[str(row.path)].keys() >= set(wanted)]
    return {path: {name: scores[path][name] for name in wanted} for path in paths}, skipped


def summarize_scores(
    rows: Sequence[Row],
    scores: Scores,
    names: Sequence[str],
    threshold: float,
    calibration: Calibration,
    seed: int = 0,
) -> dict[str, Any]:
    """AUC of each perturbation and level, with its 95 % interval over identities, and rates at the threshold.

    A detector may rank perturbed clips well and still call most real ones fake, if all scores moved: the AUC
    does not show this, the false positive rate does.

    Args:
        rows: of the manifest; those without scores are left out.
        scores: from `score_perturbed`.
        names: of the perturbations.
        threshold: calibrated probability at or above which a clip is labelled fake.
        calibration: of the scores, which are raw.
        seed: of the bootstrap; the same identities are drawn for every cell.

    Returns:
        ``clips``, ``real``, ``fake``, ``identities``, ``threshold``; ``untouched``, a dict with ``auc``,
        ``low``, ``high``, ``false_positive_rate`` and ``true_positive_rate``; ``perturbations``, by name:
        ``stream``, ``unit``, and ``levels``, a list of such dicts that also have a ``value``.

    Raises:
        AVFFError: the clips with scores are not of both classes.
    """
    used = [row for row in rows if str(row.path) in scores]
    labels = np.array([row.label for row in used], dtype=int)
    identities = np.array([row.source for row in used])
    if len(set(labels.tolist())) < 2:
        raise AVFFError(
            f"{len(labels)} clips could be used, {int((labels == 0).sum())} of them real; an AUC needs "
            "real and fake ones, so add some or look at the reasons above"
        )

    def cell(name: str, index: int) -> dict[str, float]:
        probabilities = np.array([scores[str(row.path)][name][index] for row in used])
        low, high = bootstrap_auc(labels, probabilities, identities, np.random.default_rng(seed))
        called_fake = np.asarray(calibration.apply(probabilities)) >= threshold
        return {
            "auc": float(roc_auc_score(labels, probabilities)),
            "low": low,
            "high": high,
            "false_positive_rate": float(called_fake[labels == 0].mean()),
            "true_positive_rate": float(called_fake[labels == 1].mean()),
        }

    return {
        "clips": len(used),
        "real": int((labels == 0).sum()),
        "fake": int(labels.sum()),
        "identities": len(set(identities)),
        "threshold": threshold,
        "untouched": cell(UNTOUCHED, 0),
        "perturbations": {
            name: {
                "stream": PERTURBATIONS[name].stream,
                "unit": PERTURBATIONS[name].unit,
                "levels": [
                    {"value": value, **cell(name, index)}
                    for index, value in enumerate(PERTURBATIONS[name].values)
                ],
            }
            for name in names
        },
    }


def _score_clip(model: Detector, row: Row, names: Sequence[str], seed: int) -> dict[str, list[float]]:
    spec = model.spec
    pieces = list(
        iter_tracked(
            row.path,
            spec.image_size,
            region=spec.region,
            seconds=PIECE_SECONDS,
            sample_rate=spec.sample_rate,
            min_duration=spec.duration,
        )
    )
    frames = lru_cache(maxsize=1)(partial(_read_frames, row.path))  # a short clip is one piece, decoded once

    def score(perturbed: Iterable[TrackedClip]) -> float:
        # Uncalibrated, since scores are stored and must not mix with those of a later calibration. An AUC
        # needs only their order.
        analysis = score_pieces(row.path, perturbed, model)
        if analysis.prediction.error:
            raise AVFFError(analysis.prediction.error)
        return analysis.raw

    def perturb(perturbation: Perturbation, level: int, rng: np.random.Generator) -> Iterator[TrackedClip]:
        for piece in pieces:
            if perturbation.stream == "audio":
                nothing = np.zeros((len(piece.times), 1, 1, 3), np.uint8)
                clip = Clip(
                    nothing, piece.times, piece.waveform, piece.sample_rate, piece.start, piece.duration
                )
                yield replace(piece, waveform=perturbation(clip, level, rng).waveform)
            else:
                yield crop_again(piece, perturbation(frames(piece), level, rng), spec.image_size)

    scores: dict[str, list[float]] = {}
    for name in names:
        if name == UNTOUCHED:
            scores[name] = [score(pieces)]
            continue
        perturbation, scores[name] = PERTURBATIONS[name], []
        for level in range(1, len(perturbation.values) + 1):
            # Draws depend neither on the folder of the dataset nor on the order of the clips.
            rng = np.random.default_rng([seed, zlib.crc32(f"{row.path.name} {name}".encode())])
            scores[name].append(score(perturb(perturbation, level, rng)))
    return scores


def _read_frames(path: Path, piece: TrackedClip) -> Clip:
    """The whole frames from which the faces of a piece were cut, with its audio."""
    clip = read_clip(path, piece.start, piece.duration, sample_rate=piece.sample_rate, max_side=MAX_SIDE)
    return replace(clip, waveform=piece.waveform)


def _settings(model: Detector, seed: int) -> dict[str, Any]:
    """What scores depend on besides the clip."""
    levels = {name: list(perturbation.values) for name, perturbation in PERTURBATIONS.items()}
    return {"detector": weights_digest(model), "seed": seed, "levels": levels}
