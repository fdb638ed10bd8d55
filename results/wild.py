"""How often the shipped detectors give a label, and err, on clips that they were not made for.

    python results/other_renderer.py data/other --clips 80 --seed 7
    avff prepare data/other --out data/other-shards
    avff prepare data/wild --out data/wild-shards
    python results/wild.py data/shards data/other-shards data/wild-shards

Three datasets, from near to far: the test people of the training corpus, talking heads of another renderer
and another synthesiser, and videos of people. The last has a manifest.csv with the source of a clip as its
``group``; nothing here was fitted to it. One decision followed a look at it, when avff-tiny labelled 2 of its
112 real clips fake: the joint limit of the out-of-distribution detector is no longer loosened together with
the others.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from avff_lib.data.shards import left_out, read_shards
from avff_lib.evaluation.evaluate import ClipScores, score_readable, selective_errors
from avff_lib.evaluation.metrics import bootstrap_auc
from avff_lib.models import Detector
from avff_lib.utils.atomic import atomic_write

OUT = Path(__file__).with_name("wild.json")


def main(
    drawn: tyro.conf.Positional[Path],
    other: tyro.conf.Positional[Path],
    people: tyro.conf.Positional[Path],
    detectors: tuple[str, ...] = ("avff-tiny", "avffmae-tiny"),
    threads: int = 2,
) -> None:
    """Score the test clips of three datasets with each detector.

    Args:
        drawn: shards of the corpus of the detectors.
        other: shards of clips of another renderer.
        people: shards of videos of people.
        detectors: only these; the file's results of others are kept.
        threads: of the processor; the last digits depend on it.
    """
    torch.set_num_threads(threads)
    command = "python results/wild.py data/shards data/other-shards data/wild-shards"
    datasets = {"drawn": drawn, "other_renderer": other, "people": people}
    for name in detectors:
        model = Detector.from_pretrained(name)
        measured = {key: measure(model, folder) for key, folder in datasets.items()}
        found = json.loads(OUT.read_text()) if OUT.exists() else {}
        with atomic_write(OUT) as path:
            path.write_text(json.dumps(found | {"command": command, name: measured}, indent=1) + "\n")


def measure(model: Detector, folder: Path) -> dict[str, Any]:
    """A detector's results on the test clips of a dataset."""
    examples = [example for example in read_shards(folder, model.spec) if example.row.split == "test"]
    scored, skipped = score_readable(model, examples)
    sentences = [entry.reason for entry in skipped] + [reason for _, reason in left_out(folder, model.spec)]
    reasons = Counter(map(reason_of, sentences))
    labels = Counter((("real", "fake")[entry.row.label], entry.prediction.label) for entry in scored)
    return {
        "files": len(scored) + len(sentences),
        "not_scored": dict(sorted(reasons.items())),
        "labels": {f"{truth} called {label}": count for (truth, label), count in sorted(labels.items())},
        "selective": selective_errors(scored),
        "false_alarms": false_alarms(scored),
        "in_distribution": in_distribution(scored),
        **auc(scored),
        "by_group": by_group(scored),
    }


def reason_of(sentence: str) -> str:
    """The kind of obstacle that a sentence names."""
    kinds = ("no sound", "without sound", "without a face", "no face", "too short", "cut inside")
    return next((kind for kind in kinds if kind in sentence), "other")


def false_alarms(scored: Sequence[ClipScores]) -> dict[str, Any]:
    """Real files that are labelled fake, with the exact 95 % interval over groups (Clopper and Pearson 1934).

    A group with one false alarm counts as a whole, since its clips are similar.
    """
    real = [entry for entry in scored if entry.row.label == 0]
    groups = {group_of(entry) for entry in real}
    wrong = [entry for entry in real if entry.prediction.label == "fake"]
    hit = {group_of(entry) for entry in wrong}
    interval = binomtest(len(hit), len(groups)).proportion_ci() if groups else (0.0, 1.0)
    return {
        "real": len(real),
        "labelled_fake": len(wrong),
        "above_threshold": sum(entry.score >= (entry.prediction.threshold or 0.5) for entry in real),
        "groups": len(groups),
        "groups_interval": [float(limit) for limit in interval],
    }


def in_distribution(scored: Sequence[ClipScores]) -> dict[str, float]:
    """Share of the files that pass the out-of-distribution test, by each of its scores and by all."""
    distances = [entry.prediction.ood_scores for entry in scored]
    shares = {name: float(np.mean([d[name] <= 1 for d in distances])) for name in distances[0]}
    return shares | {"all": float(np.mean([max(d.values()) <= 1 for d in distances]))}


def auc(scored: Sequence[ClipScores]) -> dict[str, Any]:
    """AUC of the score of all files, with its 95 % interval over groups."""
    labels = np.array([entry.row.label for entry in scored])
    if len(set(labels.tolist())) < 2:
        return {}
    scores = np.array([entry.score for entry in scored])
    groups = np.array([group_of(entry) for entry in scored])
    low, high = bootstrap_auc(labels, scores, groups, np.random.default_rng(0))
    return {"auc": float(roc_auc_score(labels, scores)), "interval": [low, high]}


def by_group(scored: Sequence[ClipScores]) -> dict[str, Any]:
    """Counts of each group that a dataset names, and its AUC if it has clips of both classes."""
    groups: dict[str, list[ClipScores]] = {}
    for entry in scored:
        if entry.row.group:
            groups.setdefault(entry.row.group, []).append(entry)
    found = {}
    for name, entries in sorted(groups.items()):
        fake = sum(entry.row.label for entry in entries)
        found[name] = {"real": len(entries) - fake, "fake": fake} | {
            key: value for key, value in auc(entries).items() if key == "auc"
        }
    return found


def group_of(entry: ClipScores) -> str:
    """The group of similar clips: the source of a dataset's clips, or else the person."""
    return entry.row.group or entry.row.source


if __name__ == "__main__":
    tyro.cli(main)
