"""``avff pretrain | train``: the two stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from tyro.conf import OmitArgPrefixes

from avff_lib.cli.common import (
    error_rates,
    examples_of,
    make_folder,
    print_skipped,
    rows_of,
    stored_examples,
)
from avff_lib.errors import AVFFError
from avff_lib.training.recipes import Family, Overrides, make_config
from avff_lib.training.recipes import Name as Recipe
from avff_lib.utils.device import Device, pick_device

if TYPE_CHECKING:
    from avff_lib.data.dataset import AVDataset
    from avff_lib.data.examples import Example
    from avff_lib.data.manifest import Row
    from avff_lib.data.shards import StoredExample
    from avff_lib.models import Detector
    from avff_lib.training.checkpoint import History
    from avff_lib.training.config import TrainConfig
    from avff_lib.training.objectives import Objective

Augmentation = Literal["mirror", "light", "strong"]
Pooling = Literal["probability", "logit"]


def pretrain(
    data: Path,
    out: Path,
    family: Family = "AVFF",
    preset: Literal["tiny", "base"] | None = None,
    audio_weights: str | None = None,
    visual_weights: str | None = None,
    recipe: Recipe = "laptop",
    overrides: OmitArgPrefixes[Overrides] = Overrides(),
    augment: Augmentation = "mirror",
    device: Device = "auto",
    dry_run: bool = False,
) -> None:
    """Stage one, self-supervised: learn from real clips which lips and voices belong together.

    Args:
        data: folder with a manifest.csv, or with shards; its real train clips are used.
        out: folder for the model, and for split.csv, the training clips; run again to continue after an
            interruption, or with more steps.
        family: AVFF is the documented system, AVFFMAE the paper's masked autoencoder (tiny: a variant of it).
        preset: base starts from pretrained encoders, tiny from scratch; tiny with the laptop recipe.
        audio_weights: file, folder or hub id of the base preset's audio encoder, instead of the usual one.
        visual_weights: the same for video. If the files also hold decoders, AVFFMAE starts from these too.
        recipe: source of all settings below that are not given.
        overrides: settings that replace the recipe's.
        augment: mirror half of the windows, or also change video and audio, lightly or strongly.
        device: auto takes an accelerator if there is one.
        dry_run: print what would happen, with measured memory and time, without training.
    """
    from avff_lib.models import AVFF, AVFFMAE, Detector
    from avff_lib.training.identity import INITIAL_MODEL
    from avff_lib.training.objectives import pretraining_loss

    config = make_config(recipe, family, 1, overrides)
    pick_device(device, "--device")  # fails at once if there is none
    chosen: type[AVFF] | type[AVFFMAE] = AVFF if family == "AVFF" else AVFFMAE
    model: Detector
    unknown: tuple[str, ...] = ()
    given = {"audio": audio_weights, "visual": visual_weights}
    weights = {stream: name for stream, name in given.items() if name is not None}
    if (preset or ("tiny" if recipe == "laptop" else "base")) == "tiny":
        if weights:
            raise AVFFError(f"{', '.join(weights.values())} cannot start a tiny model; take --preset base")
        model = chosen.tiny(config.seed)
    elif not dry_run:
        model = chosen.base(**weights)
    else:  # needs the size of the encoders, not their weights
        model, unknown = Detector.families[family](chosen.config_class()), (INITIAL_MODEL,)

    def wanted(row: Row) -> bool:
        return row.split == "train" and row.label == 0

    examples, skipped = examples_of(data, model.spec, wanted, few=dry_run)
    print_skipped(skipped)
    if not examples:
        raise AVFFError(f"{data} holds no real train clips; stage one learns only from those")
    dataset = _dataset(examples, model, augment)
    if dry_run:
        return _print_plan(model, pretraining_loss, dataset, data, wanted, config, out, device, unknown)
    _save_split(examples, out)
    if _fit(model, pretraining_loss, dataset, config, out, device):
        trained_on = (
            f"{_count(examples)} real clips of {data.name} and no fake, so its score means nothing yet"
        )
        model.config = replace(model.config, trained_on=trained_on)
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
    device: Device = "auto",
    target_fpr: float | None = None,
    pooling: Pooling = "probability",
    trained_on: str = "",
    dry_run: bool = False,
) -> None:
    """Stage two, supervised: learn to tell fake from real; the val clips choose the step, and calibrate.

    Args:
        data: folder with a manifest.csv, or with shards; its train and val clips are used.
        out: folder for the model, and for split.csv, its training and validation clips; run again to continue
            after an interruption, or with more steps.
        init: folder of a model from stage one; by default a tiny one with random weights.
        family: of that tiny one, AVFF by default; a model from stage one keeps its own.
        recipe: source of all settings below that are not given.
        overrides: settings that replace the recipe's.
        augment: mirror half of the windows, or also change video and audio, lightly or strongly.
        device: auto takes an accelerator if there is one.
        target_fpr: share of real clips that may be labelled fake, such as 0.05; by default the
            threshold has the best balanced accuracy.
        pooling: a file's score is the mean of its windows' probabilities, or of their logits.
        trained_on: a phrase on the data that every prediction repeats; by default the folder's name.
        dry_run: print what would happen, with measured memory and time, without training.
    """
    from avff_lib.data.examples import by_file
    from avff_lib.data.labels import possible_labels
    from avff_lib.evaluation.calibration import check_target_fpr
    from avff_lib.models import Detector
    from avff_lib.models.calibration import Calibration
    from avff_lib.training.objectives import classification_loss

    if init and family:
        raise AVFFError(
            f"--init {init} and --family {family} are both given; a saved model has its own family"
        )
    pick_device(device, "--device")  # fails at once if there is none
    model = Detector.from_pretrained(init) if init else None
    known = cast(Family, type(model).__name__) if model else family or "AVFF"
    config = make_config(recipe, known, 2, overrides)
    model = model or Detector.families[known].tiny(config.seed)

    def wanted(row: Row) -> bool:
        return row.split == "train"

    examples, skipped = examples_of(data, model.spec, wanted, few=dry_run)
    print_skipped(skipped)
    if len(set().union(*(possible_labels(example, model.spec) for example in examples))) < 2:
        raise AVFFError(
            f"the train clips of {data} hold windows of one class only; stage two needs real and fake ones"
        )
    dataset = _dataset(examples, model, augment)
    if dry_run:
        return _print_plan(model, classification_loss, dataset, data, wanted, config, out, device)
    validation, skipped_validation = examples_of(data, model.spec, lambda row: row.split == "val")
    print_skipped([entry for entry in skipped_validation if entry not in skipped])
    labels = [parts[0].row.label for parts in by_file(validation)]
    if target_fpr is not None:  # fails before the training
        check_target_fpr(target_fpr, labels.count(0))
    if len(set(labels)) < 2 and overrides.get("validate_every"):
        raise AVFFError(
            f"the {len(labels)} val clips are not of both classes, so there is no AUC to validate by; "
            "take --validate-every 0"
        )
    validate = _validation_auc(validation, labels) if len(set(labels)) == 2 else None
    data_named = trained_on or f"{_count(examples)} clips of {data.name}"
    # The model of --init may be calibrated; training makes that invalid.
    fresh = Calibration(pooling=pooling)
    model.config = replace(model.config, trained_on=data_named, threshold=0.5, calibration=fresh)
    model.ood = None
    _save_split([*examples, *validation], out)
    history = _fit(model, classification_loss, dataset, config, out, device, validate)
    if not history:
        return
    model = _best_of(model, history, out)
    model.save_pretrained(out)  # nothing is lost if the calibration fails
    if validation:
        _calibrate(model, validation, target_fpr, out)
        model.save_pretrained(out)
    print(f"saved in {out}; {_threshold_summary(model)}; next:")
    print(f"  avff evaluate --data {data} --checkpoint {out}")


def _save_split(examples: Sequence[Example | StoredExample], out: Path) -> None:
    """Store beside the model its training clips, and the clips that choose its step and threshold."""
    from avff_lib.data.splits import write_split

    make_folder(out)
    write_split([example.row for example in examples], out / "split.csv")  # the same in every process


def _fit(
    model: Detector,
    objective: Objective,
    dataset: AVDataset,
    config: TrainConfig,
    out: Path,
    device: Device,
    validate: Callable[[Detector], float] | None = None,
) -> History:
    """Train; return the history in the process that saves the model, and nothing in any other."""
    from avff_lib.training.log import TrainingLogger
    from avff_lib.training.loop import fit
    from avff_lib.utils import distributed

    with TrainingLogger(out, config.steps, config.batch_size) as log:
        history = fit(model, objective, dataset, config, out, log=log, validate=validate, device=device)
    if distributed.rank() > 0:
        return []
    first, last = history[0], history[-1]
    print(f"loss {first['loss']:.3f} -> {last['loss']:.3f} in {len(history)} steps")
    return history


def _count(examples: Sequence[Example | StoredExample]) -> int:
    """Number of files; a long one gives several examples."""
    return len({example.row.path for example in examples})


def _best_of(model: Detector, history: History, out: Path) -> Detector:
    """The model that validated best; without validations, the model after the last step."""
    from avff_lib.models import Detector
    from avff_lib.training.validation import BEST_NAME, best_record

    best = best_record(history)
    if best is None:
        return model
    print(f"step {best['step'] + 1:.0f} validated best, with an AUC of {best['validation']:.3f}")
    return Detector.from_pretrained(out / BEST_NAME, device=model.device)


def _calibrate(
    model: Detector, validation: Sequence[Example | StoredExample], target_fpr: float | None, out: Path
) -> None:
    from avff_lib.evaluation.evaluate import calibrate

    try:
        calibrate(model, validation, target_fpr)
    except AVFFError as error:
        raise AVFFError(
            f"the trained model is saved in {out}, but cannot be calibrated ({error}); fix this and run the "
            "same command again, which calibrates it without training"
        ) from error


def _threshold_summary(model: Detector) -> str:
    calibration, threshold = model.config.calibration, model.config.threshold
    if not calibration.clips or calibration.unsure is None:
        return f"threshold {threshold:.2f}, not fitted, since the val clips are not of both classes"
    low, high = calibration.unsure
    return f"threshold {threshold:.2f}, with {error_rates(calibration)}; unsure from {low:.2f} to {high:.2f}"


def _dataset(
    examples: Sequence[Example | StoredExample], model: Detector, augment: Augmentation
) -> AVDataset:
    from avff_lib.data.dataset import AVDataset
    from avff_lib.data.transforms import LIGHT, STRONG, Augment

    transforms = {"mirror": Augment(), "light": LIGHT, "strong": STRONG}[augment]
    return AVDataset(examples, model.spec, transforms=transforms)


def _validation_auc(
    examples: Sequence[Example | StoredExample], labels: Sequence[int]
) -> Callable[[Detector], float]:
    import numpy as np

    from avff_lib.evaluation.evaluate import score_examples
    from avff_lib.evaluation.metrics import binary_metrics

    def auc(model: Detector) -> float:
        value = binary_metrics(np.array(labels), score_examples(model, examples), 0.5)["auc"]
        assert value is not None  # both classes are present
        return value

    return auc


def _print_plan(
    model: Detector,
    objective: Objective,
    dataset: AVDataset,
    data: Path,
    wanted: Callable[[Row], bool],
    config: TrainConfig,
    out: Path,
    device: Device,
    unknown: tuple[str, ...] = (),
) -> None:
    from rich.console import Console

    from avff_lib.training.dry_run import dry_run
    from avff_lib.training.identity import DATASET

    rows = [example.row for example in stored_examples(data, model.spec)]
    if not rows:  # only a few files are decoded, so the total is unknown
        rows, unknown = rows_of(data), (*unknown, DATASET)
        missing = sum(not row.path.exists() for row in rows)
        if missing:
            print(f"{missing} of the {len(rows)} files that the manifest lists are missing")
    used = sum(map(wanted, rows))
    plan = dry_run(model, objective, dataset, rows, used, config, out, device=device, unknown=unknown)
    plan.show(Console())
