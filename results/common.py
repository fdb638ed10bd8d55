"""Shared by the experiments: their options, one run of each stage, and a table that grows run by run."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from avff_lib.data.dataset import AVDataset
from avff_lib.data.examples import Example
from avff_lib.data.manifest import SPLITS
from avff_lib.data.shards import read_shards
from avff_lib.data.transforms import LIGHT, Augment
from avff_lib.errors import AVFFError
from avff_lib.evaluation.evaluate import score_examples
from avff_lib.evaluation.metrics import bootstrap_auc
from avff_lib.models import Detector
from avff_lib.nn.features import Features
from avff_lib.preprocess.spec import InputSpec, ModelInputs
from avff_lib.synth.forgeries import METHODS
from avff_lib.training.config import TrainConfig
from avff_lib.training.loop import fit
from avff_lib.training.objectives import Objective, classification_loss, pretraining_loss
from avff_lib.utils.atomic import atomic_write

HERE = Path(__file__).parent
LR = 2e-3  # of the parts that stage two trains from random weights, as in train.py
ENCODER_LR = 1e-3  # of encoders with random weights, in both stages
PRETRAINED_LR = 0.0  # of encoders that stage one has trained: they are frozen, which is fast


@dataclass(frozen=True)
class Options:
    """Options of every experiment.

    Attributes:
        out: JSON file for the results; runs that it holds are not repeated.
        shards: the corpus, prepared by ``avff prepare``.
        data: the corpus itself, for its ``corpus.json``.
        runs: folder for the states of unfinished runs.
        steps: of each training run.
        batch_size: windows per step.
        seeds: everything is run once with each.
        threads: of the processor; the last digits of the results depend on it.
        precision: of the training.
    """

    out: Path
    shards: Path = Path("data/shards")
    data: Path = Path("data/avff-medium")
    runs: Path = Path("runs")
    steps: int = 200
    batch_size: int = 32
    seeds: tuple[int, ...] = (0, 1, 2)
    threads: int = 2
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"

    @property
    def corpus(self) -> dict[str, Any]:
        """How ``avff synth`` was called."""
        path = self.data / "corpus.json"
        if not path.is_file():
            raise AVFFError(f"{path} does not exist; give the folder of the corpus with --data")
        return json.loads(path.read_text())

    def read(self, spec: InputSpec) -> dict[str, list[Example]]:
        """The clips of each split.

        Raises:
            AVFFError: the shards were not made of this corpus.
        """
        examples, clips = read_shards(self.shards, spec), self.corpus["clips"]
        if not 0.9 * clips <= len(examples) <= clips:  # some may be unreadable
            raise AVFFError(
                f"{self.shards} holds {len(examples)} clips and {self.data} {clips}; give the corpus that "
                "the shards were made of with --data"
            )
        return {name: [example for example in examples if example.row.split == name] for name in SPLITS}

    def folder(self, key: dict[str, Any]) -> Path:
        """Folder for the states of one run; it can be removed once the run is in the table."""
        return self.runs / self.out.stem / "-".join(str(value).replace(" ", "_") for value in key.values())

    def config(self, seed: int, encoder_lr: float, **changed: Any) -> TrainConfig:
        common = {"steps": self.steps, "batch_size": self.batch_size, "precision": self.precision}
        return TrainConfig(**{**common, "lr": LR, "encoder_lr": encoder_lr, "seed": seed, **changed})

    def table(self, **settings: Any) -> Table:
        """The results so far; ``settings`` are this experiment's additional ones."""
        torch.set_num_threads(self.threads)
        common = {name: getattr(self, name) for name in ("steps", "batch_size", "precision")}
        settings = {**common, "lr": LR, "augment": "mirrored", **settings}
        return Table(self.out, {"corpus": self.corpus, "settings": settings})


class Table:
    """A JSON file with a record per run, rewritten after each run; runs that it holds are not repeated.

    Raises:
        AVFFError: the file holds runs with other settings.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        """``header`` holds ``corpus`` and ``settings``, which must stay the same."""
        self.path, self.header = path, json.loads(json.dumps(header))  # as JSON returns it
        before = json.loads(path.read_text()) if path.exists() else {"records": [], **self.header}
        for name, value in self.header.items():
            if before[name] != value:
                raise AVFFError(
                    f"{path} holds runs with another {name} ({before[name]}, now {value}); "
                    "move the file away, or give another --out"
                )
        self.records: list[dict[str, Any]] = before["records"]
        self.command = " ".join(["python", f"results/{Path(sys.argv[0]).name}", *sys.argv[1:]])

    def todo(self, **axes: Sequence[Any]) -> Iterator[dict[str, Any]]:
        """All combinations of the values that are not in the table yet."""
        for values in product(*axes.values()):
            key = dict(zip(axes, values, strict=True))
            if not any(key.items() <= record.items() for record in self.records):
                print("next:", key, flush=True)
                yield key

    def add(self, key: dict[str, Any], measured: dict[str, Any]) -> None:
        self.records.append({**key, **measured})
        result = {
            "command": self.command,
            **self.header,
            "seeds": sorted({record["seed"] for record in self.records}),
            "summary": summary(self.records, [name for name in key if name != "seed"]),
            "records": self.records,
        }
        write_result(result, self.path)


def write_result(content: dict[str, Any], path: Path) -> None:
    """Write an experiment's measurements as JSON; no file is left incomplete."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


def summary(records: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """Mean, minimum and maximum of every number over the seeds, one row for each value of ``names``."""
    groups: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        groups[tuple(record[name] for name in names)].append(record)
    rows = []
    for values, members in groups.items():
        numbers = {
            name: [member[name] for member in members]
            for name, value in members[0].items()
            if isinstance(value, float)
        }
        spread = {
            name: {"mean": round(float(np.mean(found)), 4), "min": min(found), "max": max(found)}
            for name, found in numbers.items()
        }
        rows.append({**dict(zip(names, values, strict=True)), "runs": len(members), **spread})
    return rows


def fresh(model: Detector, seed: int) -> Detector:
    """A model of the same size with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return type(model)(model.config)


def pretrain(
    model: Detector,
    real: list[Example],
    config: TrainConfig,
    folder: Path,
    *,
    objective: Objective = pretraining_loss,
    augment: Augment = LIGHT,
) -> float:
    """Stage one; return the retrieval accuracy, as a mean over the last tenth of the steps."""
    history = fit(model, objective, AVDataset(real, model.spec, transforms=augment), config, folder)
    last = [record["retrieval"] for record in history[-max(1, config.steps // 10) :]]
    return round(sum(last) / len(last), 4)


def train_detector(
    model: Detector, train: list[Example], options: Options, seed: int, folder: Path, encoder_lr: float
) -> None:
    """Stage two, for a fixed number of steps: no choice depends on test results."""
    dataset = AVDataset(train, model.spec, transforms=Augment())
    fit(model, classification_loss, dataset, options.config(seed, encoder_lr), folder)


def measure(model: Detector, examples: list[Example]) -> dict[str, Any]:
    """Score clips; return the same as `separation`."""
    return separation(examples, score_examples(model, examples))


def separation(examples: list[Example], scores: np.ndarray) -> dict[str, Any]:
    """AUC with its 95 % interval over people; AUC of each family and method against all real clips."""
    labels = np.array([example.row.label for example in examples])

    def auc(names: list[str], name: str) -> float:
        kept = (labels == 0) | (np.array(names) == name)
        return round(float(roc_auc_score(labels[kept], scores[kept])), 4)

    methods = [example.row.method for example in examples]
    families = [METHODS[method].family for method in methods]
    identities = np.array([example.row.source for example in examples])
    interval = bootstrap_auc(labels, scores, identities, np.random.default_rng(0))
    return {
        "auc": round(float(roc_auc_score(labels, scores)), 4),
        "interval": [round(end, 4) for end in interval],
        **{name: auc(families, name) for name in sorted(set(families) - {"real"})},
        "by_method": {name: auc(methods, name) for name in sorted(set(methods) - {"real"})},
        "clips": {"real": int((labels == 0).sum()), "fake": int(labels.sum())},
    }


def blank(model: Detector, stream: Literal["audio", "video"]) -> None:
    """Remove one stream from a model, in training and in scoring: that input is its mean everywhere."""
    features = model.forward_features
    name, mean = ("frames", 0.0) if stream == "video" else ("audio", getattr(model.config, "audio_mean", 0.0))

    def without(inputs: ModelInputs) -> Features:
        return features(replace(inputs, **{name: torch.full_like(getattr(inputs, name), mean)}))

    model.forward_features = without
