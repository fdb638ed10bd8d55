"""How a detector's AUC falls while clips get worse: every clip, perturbation and level, scored.

A clip is decoded once. The perturbations change it whole, before the face is cut out, as they would
happen to a file. The face is cut out where it was in the *untouched* clip: so every cell of the grid is
about the same clips and the same places, and shows what the detector makes of them. Whether a face is
still found in what is left is another question, and is not asked here.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from avff_lib.atomic import atomic_write
from avff_lib.clip import AVFFError, Clip
from avff_lib.data.loader import Skipped, read_speaker, windows_over
from avff_lib.data.manifest import Row
from avff_lib.evaluation.metrics import binary_metrics, bootstrap_auc
from avff_lib.evaluation.perturb import PERTURBATIONS
from avff_lib.examine import HOP
from avff_lib.judge import judge_windows
from avff_lib.media.faces import crop_face
from avff_lib.models import Detector
from avff_lib.timeline import clip_score
from avff_lib.verdict import Calibration

STATE_NAME = "scores.json"
UNTOUCHED = "untouched"

Scores = dict[str, dict[str, list[float]]]  # path -> perturbation -> probability of fake at levels 1 to 5


def check_names(names: Sequence[str]) -> None:
    """Raise an `AVFFError` at a perturbation that does not exist."""
    for unknown in sorted(set(names) - PERTURBATIONS.keys()):
        raise AVFFError(
            f"the perturbation {unknown!r} does not exist; choose from {', '.join(PERTURBATIONS)}"
        )


def balanced_subset(rows: Sequence[Row], count: int, seed: int = 0) -> list[Row]:
    """``count`` clips drawn at random, half of them genuine as far as there are so many.

    A smaller number gives a part of what a larger one gives, so that a run can be made larger.

    Raises:
        AVFFError: ``count`` is below 2.
    """
    if count < 2:
        raise AVFFError(
            f"{count} clips were asked for; an AUC needs at least 2, and is worth little below 50"
        )
    order = [rows[index] for index in np.random.default_rng(seed).permutation(len(rows))]
    genuine, fake = ([row for row in order if row.label == label] for label in (0, 1))
    return genuine[: count // 2] + fake[: count - count // 2]


def score_perturbed(
    model: Detector, rows: Sequence[Row], names: Sequence[str], folder: Path, seed: int = 0
) -> tuple[Scores, list[Skipped]]:
    """Score clips as they are and under perturbations at all levels.

    The scores are kept in ``folder`` and written after each clip. Run again, with the same detector and
    seed, only what is missing is computed: clips, or perturbations of clips. The noise of a clip is
    drawn once for all levels, so that they differ in strength alone.

    Args:
        model: that judges.
        rows: of the clips.
        names: keys of `PERTURBATIONS`.
        folder: for the scores; it need not exist.
        seed: of the noise and the blocks.

    Returns:
        The scores of ``rows`` under `UNTOUCHED` (one each) and ``names`` (one a level), and the rows that
        could not be used.

    Raises:
        AVFFError: a name is not known, or ``folder`` holds scores of something else.
    """
    check_names(names)
    model.eval()
    about = _about(model, seed)
    scores = _read_state(folder / STATE_NAME, about)
    wanted = (UNTOUCHED, *names)
    skipped = []
    folder.mkdir(parents=True, exist_ok=True)
    for row in tqdm(rows, desc="perturbing and scoring", unit="clip"):
        known = scores.get(str(row.path), {})
        missing = [name for name in wanted if name not in known]
        if not missing:
            continue
        try:
            found = _score_clip(model, row, missing, seed)
        except AVFFError as error:
            skipped.append(Skipped(row, str(error)))
            continue
        scores[str(row.path)] = known | found
        with atomic_write(folder / STATE_NAME) as path:
            path.write_text(json.dumps({**about, "scores": scores}) + "\n")
    paths = [str(row.path) for row in rows if str(row.path) in scores]
    return {path: {name: scores[path][name] for name in wanted} for path in paths}, skipped


def summarise_scores(rows: Sequence[Row], scores: Scores, names: Sequence[str], seed: int = 0) -> dict:
    """AUC of each perturbation and level, with its 95 % interval over identities.

    Args:
        rows: of the manifest; those without scores are left out.
        scores: from `score_perturbed`.
        names: of the perturbations.
        seed: of the bootstrap; the same people are drawn for every cell.

    Returns:
        ``clips``, ``genuine``, ``fake``, ``identities``; ``untouched``, a dict with ``auc``, ``low`` and
        ``high``; ``perturbations``, by name: ``stream``, ``unit``, and ``levels``, a list of such dicts that
        also have a ``value``.

    Raises:
        AVFFError: the clips with scores are not of both classes.
    """
    used = [row for row in rows if str(row.path) in scores]
    labels = np.array([row.label for row in used], dtype=int)
    people = np.array([row.source for row in used])
    if len(set(labels.tolist())) < 2:
        raise AVFFError(
            f"{len(labels)} clips could be used, {int((labels == 0).sum())} of them genuine; an AUC needs "
            "genuine and fake ones, so add some or look at the reasons above"
        )

    def cell(name: str, index: int) -> dict[str, float]:
        probabilities = np.array([scores[str(row.path)][name][index] for row in used])
        low, high = bootstrap_auc(labels, probabilities, people, np.random.default_rng(seed))
        return {"auc": binary_metrics(labels, probabilities, 0.5)["auc"], "low": low, "high": high}

    return {
        "clips": len(used),
        "genuine": int((labels == 0).sum()),
        "fake": int(labels.sum()),
        "identities": len(set(people)),
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
    clip, face = read_speaker(row, model.spec)
    crop = crop_face(clip, face, model.spec.image_size)

    def score(cropped: Clip) -> float:
        windows = windows_over(cropped, model.spec.duration, HOP)
        # Uncalibrated, as scores are kept that a later calibration must not mix with others; an AUC needs
        # their order only.
        return clip_score(judge_windows(model, windows).probability.numpy(), Calibration())

    found = {}
    for name in names:
        if name == UNTOUCHED:
            found[name] = [score(crop)]
            continue
        perturbation, found[name] = PERTURBATIONS[name], []
        for level in range(1, len(perturbation.values) + 1):
            # Neither the folder of the dataset nor the order of the clips changes what is drawn.
            rng = np.random.default_rng([seed, zlib.crc32(f"{row.path.name} {name}".encode())])
            if perturbation.stream == "sound":
                spoilt = perturbation(crop, level, rng)
            else:
                spoilt = crop_face(perturbation(clip, level, rng), face, model.spec.image_size)
            found[name].append(score(spoilt))
    return found


def _about(model: Detector, seed: int) -> dict:
    """What scores depend on besides the clip."""
    weights = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        weights.update(name.encode())
        weights.update(tensor.cpu().contiguous().numpy())
    levels = {name: list(perturbation.values) for name, perturbation in PERTURBATIONS.items()}
    return {"detector": weights.hexdigest()[:16], "seed": seed, "levels": levels}


def _read_state(path: Path, about: dict) -> Scores:
    """Scores of an earlier run, none if there was none."""
    if not path.exists():
        return {}
    try:
        state = json.loads(path.read_text())
        scores = state.pop("scores")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AVFFError(
            f"{path} holds no scores of an earlier run; remove it or name another folder"
        ) from None
    for what, value in about.items():
        if state.get(what) != value:
            raise AVFFError(
                f"{path} holds scores with another {what}; name another folder, or remove it to start anew"
            )
    return scores
