"""``avff pretrain | train``: the two stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from tyro.conf import OmitArgPrefixes

from avff_lib.clip import AVFFError
from avff_lib.commands.common import error_rates, examples_of, print_skipped, rows_of, stored_examples
from avff_lib.training.recipes import Family, Overrides, settings_of
from avff_lib.training.recipes import Name as Recipe

if TYPE_CHECKING:
    from avff_lib.data.loader import Example, WindowBatches
    from avff_lib.data.manifest import Row
    from avff_lib.data.shards import StoredExample
    from avff_lib.models import Detector
    from avff_lib.objectives import Objective
    from avff_lib.training.settings import TrainSettings

Augmentation = Literal["mirror", "light", "strong"]


def pretrain(
    data: Path,
    out: Path,
    family: Family = "AVFF",
    preset: Literal["tiny", "base"] | None = None,
    recipe: Recipe = "laptop",
    overrides: OmitArgPrefixes[Overrides] = Overrides(),
    augment: Augmentation = "mirror",
    identity_balanced: bool = False,
    dry_run: bool = False,
) -> None:
    """Stage one, self-supervised: learn from genuine clips what belongs together.

    Args:
        data: folder with a manifest.csv, or with shards; its genuine train clips are used.
        out: folder for the model; run again to go on after an interruption.
        family: AVFF is the documented system, AVFFMAE the paper's masked autoencoder.
        preset: base starts from pretrained encoders, tiny from nothing; tiny with the laptop recipe.
        recipe: where the settings below start from; what is typed takes the place of the recipe's.
        overrides: of the recipe.
        augment: mirror windows half of the time, or also change picture and sound, lightly or strongly.
        identity_balanced: draw a person first and then a clip, rather than any clip.
        dry_run: print what would happen, with measured memory and time, and train nothing.
    """
    from avff_lib.models import Detector
    from avff_lib.objectives import stage_one

    settings = settings_of(recipe, family, 1, overrides)
    chosen = Detector.families[family]
    if (preset or ("tiny" if recipe == "laptop" else "base")) == "tiny":
        model = chosen.tiny(settings.seed)
    else:  # a dry run needs the size of the encoders, not their weights
        model = chosen(chosen.config_class()) if dry_run else chosen.base()

    def wanted(row: Row) -> bool:
        return row.split == "train" and row.label == 0

    examples, skipped = examples_of(data, model.spec, wanted, few=dry_run)
    print_skipped(skipped)
    if not examples:
        raise AVFFError(f"{data} holds no genuine train clips; stage one learns from those alone")
    batches_of = _batches_of(examples, model, settings.seed, augment, identity_balanced)
    if dry_run:
        return _print_plan(model, stage_one, batches_of, data, wanted, settings, out)
    if _fit(model, stage_one, batches_of, settings, out):
        seen = f"{len(examples)} genuine clips of {data.name} and no fake, so its score means nothing yet"
        model.config = replace(model.config, trained_on=seen)
        model.save_pretrained(out)
        print(f"saved in {out}; next: avff train --init {out}")


def train(
    data: Path,
    out: Path,
    init: Path | None = None,
    family: Family | None = None,
    recipe: Recipe = "laptop",
    overrides: OmitArgPrefixes[Overrides] = Overrides(),
    augment: Augmentation = "mirror",
    identity_balanced: bool = False,
    false_alarm_rate: float | None = None,
    trained_on: str = "",
    dry_run: bool = False,
) -> None:
    """Stage two, supervised: learn what is false; the val clips give threshold and calibration.

    Args:
        data: folder with a manifest.csv, or with shards; its train and val clips are used.
        out: folder for the model; run again to go on after an interruption.
        init: folder of a model from stage one; by default a tiny one with random weights.
        family: of that tiny one, AVFF by default; a model from stage one brings its own.
        recipe: where the settings below start from; what is typed takes the place of the recipe's.
        overrides: of the recipe.
        augment: mirror windows half of the time, or also change picture and sound, lightly or strongly.
        identity_balanced: draw a person first and then a clip, rather than any clip.
        false_alarm_rate: share of genuine clips that may be called fake, such as 0.05; by default the
            threshold has the best balanced accuracy.
        trained_on: one sentence on the data that every verdict repeats; by default the folder's name.
        dry_run: print what would happen, with measured memory and time, and train nothing.
    """
    from avff_lib.evaluation.calibration import check_false_alarm_rate
    from avff_lib.evaluation.evaluate import calibrate
    from avff_lib.models import Detector
    from avff_lib.objectives import stage_two

    if init and family:
        raise AVFFError(
            f"--init {init} and --family {family} are both given; a saved model has its own family"
        )
    model = Detector.from_pretrained(init) if init else None
    settings = settings_of(recipe, type(model).__name__ if model else family or "AVFF", 2, overrides)
    model = model or Detector.families[family or "AVFF"].tiny(settings.seed)

    def wanted(row: Row) -> bool:
        return row.split == "train"

    examples, skipped = examples_of(data, model.spec, wanted, few=dry_run)
    print_skipped(skipped)
    if len({example.row.label for example in examples}) < 2:
        raise AVFFError(
            f"the train clips of {data} are of one class only; stage two needs genuine and fake ones"
        )
    batches_of = _batches_of(examples, model, settings.seed, augment, identity_balanced)
    if dry_run:
        return _print_plan(model, stage_two, batches_of, data, wanted, settings, out)
    validation, also = examples_of(data, model.spec, lambda row: row.split == "val")
    print_skipped([entry for entry in also if entry not in skipped])
    if false_alarm_rate is not None:  # before the training, not after it
        check_false_alarm_rate(false_alarm_rate, sum(example.row.label == 0 for example in validation))
    validate = _validation_auc(validation) if settings.validate_every else None
    if _fit(model, stage_two, batches_of, settings, out, validate):
        calibrate(model, validation, false_alarm_rate)
        model.config = replace(model.config, trained_on=trained_on or f"{len(examples)} clips of {data.name}")
        model.save_pretrained(out)
        print(f"saved in {out}; {_verdicts_of(model)}; next:")
        print(f"  avff evaluate --data {data} --checkpoint {out}")


def _fit(
    model: Detector,
    objective: Objective,
    batches_of: Callable[[int], WindowBatches],
    settings: TrainSettings,
    out: Path,
    validate: Callable[[Detector], float] | None = None,
) -> bool:
    """Train; True in the process that is to save the model."""
    from avff_lib import ranks
    from avff_lib.training.log import Log
    from avff_lib.training.loop import fit

    with Log(out, settings.steps, settings.batch_size) as log:
        batches = batches_of(settings.batch_size)
        history = fit(model, objective, batches, settings, out, log=log, validate=validate)
    first, last = history[0], history[-1]
    if ranks.rank() > 0:
        return False
    print(f"loss {first['loss']:.3f} -> {last['loss']:.3f} in {len(history)} steps")
    return True


def _verdicts_of(model: Detector) -> str:
    found, threshold = model.config.calibration, model.config.threshold
    if not found.clips:
        return f"threshold {threshold:.2f}, not fitted, since the val clips are not of both classes"
    low, high = found.unsure
    return f"threshold {threshold:.2f}, with {error_rates(found)}; unsure from {low:.2f} to {high:.2f}"


def _batches_of(
    examples: Sequence[Example | StoredExample],
    model: Detector,
    seed: int,
    augment: Augmentation,
    identity_balanced: bool,
) -> Callable[[int], WindowBatches]:
    from avff_lib.data.augment import LIGHT, STRONG, Augment
    from avff_lib.data.loader import WindowBatches

    chosen = {"mirror": Augment(), "light": LIGHT, "strong": STRONG}[augment]
    return lambda size: WindowBatches(
        examples, model.spec, size, seed, augment=chosen, identity_balanced=identity_balanced
    )


def _validation_auc(examples: Sequence[Example | StoredExample]) -> Callable[[Detector], float]:
    from avff_lib.evaluation.evaluate import score_examples
    from avff_lib.evaluation.metrics import binary_metrics

    labels = np.array([example.row.label for example in examples])
    if len(set(labels.tolist())) < 2:
        raise AVFFError(
            f"the {len(examples)} val clips are not of both classes, so there is no AUC to validate by; "
            "take --validate-every 0"
        )
    return lambda model: binary_metrics(labels, score_examples(model, examples), 0.5)["auc"]


def _print_plan(
    model: Detector,
    objective: Objective,
    batches_of: Callable[[int], WindowBatches],
    data: Path,
    wanted: Callable[[Row], bool],
    settings: TrainSettings,
    out: Path,
) -> None:
    from rich.console import Console

    from avff_lib.training.plan import make_plan

    rows = [example.row for example in stored_examples(data, model.spec)]
    if not rows:
        rows = rows_of(data)
        missing = sum(not row.path.exists() for row in rows)
        if missing:
            print(f"{missing} of the {len(rows)} files that the manifest lists are not there")
    make_plan(model, objective, batches_of, rows, sum(map(wanted, rows)), settings, out).show(Console())
