"""Make the two shipped checkpoints and the numbers that the book states about them.

    avff synth data/avff-medium --clips 3000 --identities 300 --seed 2026
    avff prepare data/avff-medium --out data/shards
    python results/train.py AVFF data/shards
    python results/train.py AVFFMAE data/shards

Stage one runs once; its final model is shipped in `stage-one` of the model's folder, as a starting point for
others. Stage two runs with each of SEEDS, and the run with the best AUC on the validation people is shipped.
The test people are scored last and decide nothing. An interrupted run is resumed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch
import tyro

from avff_lib.data.dataset import AVDataset
from avff_lib.data.manifest import SPLITS
from avff_lib.data.shards import StoredExample, read_shards
from avff_lib.data.transforms import LIGHT, Augment
from avff_lib.evaluation.evaluate import calibrate, score_examples
from avff_lib.evaluation.summary import summarize
from avff_lib.models import Detector
from avff_lib.models.checkpoint import SHIPPED_DIR
from avff_lib.training.config import TrainConfig
from avff_lib.training.loop import fit
from avff_lib.training.objectives import classification_loss, pretraining_loss
from avff_lib.training.recipes import laptop
from avff_lib.utils.atomic import atomic_write

# Augmentation in stage one and two; names of `AUGMENTS`.
CHANGED = {
    # With LIGHT, half as many slices found their partner after 200 steps of stage one.
    "AVFF": ("mirrored", "LIGHT"),
    # The noise of LIGHT hides a vocoder from 64 mel bands: AUC of revoiced clips 0.85 after 300 steps.
    "AVFFMAE": ("LIGHT", "mirrored"),
}
AUGMENTS = {"mirrored": Augment(), "LIGHT": LIGHT}
SEEDS = (0, 1, 2)
CORPUS = "drawn talking heads of the synthetic corpus (avff synth, medium level, seed 2026)"
TRAINED_ON = f"{CORPUS}, so its score on a video of a real person means nothing"
TRAINED_ON_ONE = f"{CORPUS}, real ones alone, so its score means nothing yet"


def main(
    family: tyro.conf.Positional[Literal["AVFF", "AVFFMAE"]],
    shards: tyro.conf.Positional[Path],
    runs: Path = Path("runs"),
    threads: int = 2,
) -> None:
    """Train, choose, evaluate, ship.

    Args:
        family: of the model.
        shards: the corpus, as the commands above create it.
        runs: folder for states and models of all runs.
        threads: of the processor; the last digits of the results depend on it.
    """
    torch.set_num_threads(threads)
    runs = runs / family.lower()
    spec = Detector.families[family].tiny().spec
    examples = read_shards(shards, spec)
    split = {name: [example for example in examples if example.row.split == name] for name in SPLITS}
    one, two = (replace(laptop(family, stage), precision="bf16-mixed") for stage in (1, 2))
    one_augment, two_augment = CHANGED[family]
    retrieval = run_stage_one(family, split["train"], one, one_augment, runs / "one")
    result = {
        "command": f"python results/train.py {family} {shards}",
        "corpus": "avff synth data/avff-medium --clips 3000 --identities 300 --seed 2026",
        "clips": {name: len(part) for name, part in split.items()},
        "stage_one": {**asdict(one), "augment": one_augment},
        "retrieval": retrieval,
        "stage_two": {**asdict(two), "augment": two_augment},
    }
    name = f"{family.lower()}-tiny"
    Detector.from_pretrained(runs / "one").save_pretrained(SHIPPED_DIR / name / "stage-one", half=True)
    records: list[dict] = []
    for seed in SEEDS:
        folder, config = runs / f"two-{seed}", replace(two, seed=seed)
        records.append(run_stage_two(split, config, two_augment, runs / "one", folder))
        shipped = max(records, key=lambda record: record["validation_auc"])["seed"]
        Detector.from_pretrained(runs / f"two-{shipped}").save_pretrained(SHIPPED_DIR / name, half=True)
        with atomic_write(Path(__file__).with_name(f"{name}.json")) as path:
            path.write_text(json.dumps({**result, "runs": records, "shipped": shipped}, indent=1) + "\n")


def run_stage_one(
    family: str, train: list[StoredExample], config: TrainConfig, augment: str, folder: Path
) -> float:
    """Stage one on the real clips; return the retrieval accuracy, as a mean over the last 50 steps."""
    model = Detector.families[family].tiny(config.seed)
    real = [example for example in train if example.row.label == 0]
    history = fit(model, pretraining_loss, dataset_of(real, model, augment), config, folder)
    model.config = replace(model.config, trained_on=TRAINED_ON_ONE)
    model.save_pretrained(folder)
    last = history[-50:]
    return sum(record["retrieval"] for record in last) / len(last)


def run_stage_two(
    split: dict[str, list[StoredExample]], config: TrainConfig, augment: str, one: Path, folder: Path
) -> dict:
    """Stage two; return its metrics on the test people."""
    model = Detector.from_pretrained(one)
    fit(model, classification_loss, dataset_of(split["train"], model, augment), config, folder)
    calibrate(model, split["val"])
    model.config = replace(model.config, trained_on=TRAINED_ON)
    model.save_pretrained(folder)
    metrics = {
        name: summarize(
            [example.row for example in split[name]],
            score_examples(model, split[name]),
            model.config.threshold,
        )
        for name in ("val", "test")
    }
    return {
        "seed": config.seed,
        "validation_auc": metrics["val"]["auc"],
        "threshold": model.config.threshold,
        "trained_on": TRAINED_ON,
        **metrics["test"],
    }


def dataset_of(examples: list[StoredExample], model: Detector, augment: str) -> AVDataset:
    """The training data of a stage."""
    return AVDataset(examples, model.spec, transforms=AUGMENTS[augment])


if __name__ == "__main__":
    tyro.cli(main)
