"""Rows and scores -> every metric overall and by group, and how many clips and people each rests on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avff_lib.data.manifest import Row
from avff_lib.evaluation.calibration import Reliability
from avff_lib.evaluation.metrics import LOW_FPR, binary_metrics, bootstrap_intervals

FEW_PEOPLE = 10  # below which an interval over people is too narrow to be trusted
RESOLVED = round(1 / LOW_FPR)  # genuine clips that a false positive rate of 1 % can be seen with


def summarise(rows: Sequence[Row], scores: np.ndarray, threshold: float, seed: int = 0) -> dict:
    """All metrics of files: overall, and by category, method, and group of people.

    The fakes of a category or a method are compared with all genuine clips; a group of people with the
    genuine clips of the same group. A metric that is not defined is left out, and ``notes`` says why.

    Args:
        rows: of the clips that were scored.
        scores: ``(N,)`` probability of fake for each.
        threshold: from which a clip is called fake.
        seed: of the people that the intervals draw.

    Returns:
        ``auc, ap, eer, tpr_at_1_fpr, balanced_accuracy``, each with its 95 % limits in ``interval``;
        ``confusion, calibration, counts, notes``; ``by_category, by_method, by_group``: for each name the
        same metrics and intervals, on so many forged ``clips``, ``genuine`` clips, and ``people``.
    """
    labels = np.array([row.label for row in rows], dtype=int)
    people = np.array([row.source for row in rows])

    def groups(names: list[str], with_all_genuine: bool) -> dict[str, dict]:
        found, names = {}, np.array(names)
        listed = names[labels == 1] if with_all_genuine else names[names != ""]
        for name in np.unique(listed).tolist():
            chosen = names == name
            if with_all_genuine:
                chosen |= labels == 0
            part = (labels[chosen], scores[chosen], people[chosen])
            counts = count(*part)
            found[name] = {
                **measure(*part, threshold, seed),
                "clips": counts["fake"],
                "genuine": counts["genuine"],
                "people": counts["people"],
            }
        return found

    summary = {
        **measure(labels, scores, people, threshold, seed),
        "confusion": confusion(labels, scores, threshold),
        "calibration": {
            **Reliability.of(labels, scores).to_json(),
            "ece_by_chance": Reliability.ece_by_chance(labels, scores, np.random.default_rng(seed)),
        },
        "by_category": groups([row.category for row in rows], True),
        "by_method": groups([row.method for row in rows], True),
        "by_group": groups([row.group for row in rows], False),
        "counts": count(labels, scores, people),
    }
    return {**summary, "notes": _notes(summary)}


def measure(
    labels: np.ndarray, scores: np.ndarray, people: np.ndarray, threshold: float, seed: int = 0
) -> dict[str, float | dict[str, tuple[float, float]]]:
    """The metrics that are defined, and ``interval`` with the 95 % limits of each over people.

    Args:
        labels, scores, people: ``(N,)``; windows or files.
        threshold: of the balanced accuracy.
        seed: of the draws.
    """
    metrics = {
        name: value for name, value in binary_metrics(labels, scores, threshold).items() if value is not None
    }
    if not metrics or len(set(people.tolist())) < 2:  # of one person there are no others to draw
        return metrics
    rng = np.random.default_rng(seed)
    return {**metrics, "interval": bootstrap_intervals(labels, scores, people, rng, threshold)}


def count(labels: np.ndarray, scores: np.ndarray, people: np.ndarray) -> dict[str, int]:
    """What numbers rest on: ``clips, genuine, fake, people``."""
    return {
        "clips": len(scores),
        "genuine": int((labels == 0).sum()),
        "fake": int((labels == 1).sum()),
        "people": len(set(people.tolist())),
    }


def confusion(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, int]:
    """Clips by what they are and what they are called; a positive is a fake."""
    called = scores >= threshold
    return {
        "true_negatives": int((~called & (labels == 0)).sum()),
        "false_positives": int((called & (labels == 0)).sum()),
        "false_negatives": int((~called & (labels == 1)).sum()),
        "true_positives": int((called & (labels == 1)).sum()),
    }


def _notes(summary: dict) -> list[str]:
    """What a reader must know who sees the numbers alone, a sentence each."""
    counts, notes = summary["counts"], []
    for kind, word in (("genuine", "genuine"), ("fake", "forged")):
        if not counts[kind]:
            return [f"None of the {counts['clips']} clips is {word}, so no metric that compares is defined."]
    if counts["genuine"] < RESOLVED:
        notes.append(
            f"A false positive rate of 1 % needs {RESOLVED} genuine clips to be seen; with "
            f"{counts['genuine']} the TPR at 1 % FPR allows no false positive at all."
        )
    if counts["people"] < FEW_PEOPLE:
        notes.append(
            f"The intervals draw among {counts['people']} people; with fewer than {FEW_PEOPLE} they are "
            "too narrow, or missing."
        )
    groups = [block for by in ("category", "method", "group") for block in summary[f"by_{by}"].values()]
    if any(block.get("auc") == 1 for block in [summary, *groups]):
        notes.append(
            "An AUC of 1 has an interval without width, since a bootstrap can only draw what was seen; "
            "that is no certainty."
        )
    for name, found in summary["by_group"].items():
        if "auc" not in found:
            notes.append(
                f"The group {name} has {found['genuine']} genuine and {found['clips']} forged clips; its "
                "metrics need both and are left out."
            )
    return notes
