"""The command line: ``avff synth | audit | prepare | pretrain | train | evaluate | predict | sync``.

Each command imports what it needs when it is called, so that ``avff --help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from tyro.conf import OmitArgPrefixes, Positional, arg
from tyro.extras import subcommand_cli_from_dict

from avff_lib.atomic import atomic_write
from avff_lib.clip import AVFFError
from avff_lib.training.recipes import Family, Overrides, settings_of
from avff_lib.training.recipes import Name as Recipe

if TYPE_CHECKING:
    from avff_lib.data.loader import Example, Skipped, WindowBatches
    from avff_lib.data.manifest import Row
    from avff_lib.data.shards import StoredExample
    from avff_lib.models import Detector
    from avff_lib.objectives import Objective
    from avff_lib.sync import SyncReport
    from avff_lib.training.settings import TrainSettings

Augmentation = Literal["mirror", "light", "strong"]


def synth(
    out: Positional[Path],
    clips: int = 300,
    identities: int = 30,
    seed: int = 0,
    level: Literal["easy", "medium", "hard"] = "medium",
    methods: tuple[str, ...] = (),
    workers: int | None = None,
) -> None:
    """Draw and synthesise a corpus of talking heads, genuine and forged.

    Args:
        out: folder for the MP4 files and manifest.csv; run again to go on after an interruption.
        clips: how many.
        identities: how many people; no person is in two splits.
        seed: the same seed gives the same corpus.
        level: how hard the forgeries are to find.
        methods: only these forgeries; all by default.
        workers: processes; by default one a core.
    """
    from avff_lib.synth import FAKES, write_corpus

    manifest = write_corpus(
        out,
        clips=clips,
        identities=identities,
        seed=seed,
        level=level,
        methods=methods or FAKES,
        workers=workers,
    )
    print(f"{clips} clips are listed in {manifest}")


def audit(data: Positional[Path], out: Path | None = None) -> None:
    """Measure what gives the fakes of a dataset away without any detector.

    Args:
        data: folder with a manifest.csv.
        out: also write the result as JSON.
    """
    from rich.console import Console

    from avff_lib.data.audit import audit as run_audit

    report = run_audit(_rows(data))
    Console().print(report.table())
    for finding in report.findings:
        print(finding)
    if out is not None:
        _write_json(report.to_json(), out)


def prepare(
    data: Positional[Path],
    out: Path,
    image_size: int = 64,
    sample_rate: int = 16_000,
    workers: int | None = None,
) -> None:
    """Decode a dataset once, for training that reads shards instead of videos.

    Args:
        data: folder with a manifest.csv.
        out: folder for the shards; run again to go on, or to mend what was damaged.
        image_size: of the face crops in pixels; 64 for the tiny models, 224 for the base ones.
        sample_rate: of the sound in Hz.
        workers: processes; by default one a core.
    """
    from avff_lib.data.shards import write_shards

    rows = _rows(data)
    sizes = {"image_size": image_size, "sample_rate": sample_rate}
    skipped = write_shards(rows, out, root=data, workers=workers, **sizes)
    _print_skipped(skipped)
    print(f"{len(rows) - len(skipped)} of {len(rows)} clips are stored in {out}; train with --data {out}")


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

    examples = _examples(data, model, wanted, few=dry_run)
    if not examples:
        raise AVFFError(f"{data} holds no genuine train clips; stage one learns from those alone")
    batches_of = _batches_of(examples, model, settings.seed, augment, identity_balanced)
    if dry_run:
        return _print_plan(model, stage_one, batches_of, data, wanted, settings, out)
    if _fit(model, stage_one, batches_of, settings, out):
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
    trained_on: str = "",
    dry_run: bool = False,
) -> None:
    """Stage two, supervised: learn what is false; the threshold is chosen on the validation clips.

    Args:
        data: folder with a manifest.csv, or with shards; its train and val clips are used.
        out: folder for the model; run again to go on after an interruption.
        init: folder of a model from stage one; by default a tiny one with random weights.
        family: of that tiny one, AVFF by default; a model from stage one brings its own.
        recipe: where the settings below start from; what is typed takes the place of the recipe's.
        overrides: of the recipe.
        augment: mirror windows half of the time, or also change picture and sound, lightly or strongly.
        identity_balanced: draw a person first and then a clip, rather than any clip.
        trained_on: one sentence on the data that every verdict repeats; by default the folder's name.
        dry_run: print what would happen, with measured memory and time, and train nothing.
    """
    from avff_lib.evaluation.evaluate import choose_threshold
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

    examples = _examples(data, model, wanted, few=dry_run)
    if len({example.row.label for example in examples}) < 2:
        raise AVFFError(
            f"the train clips of {data} are of one class only; stage two needs genuine and fake ones"
        )
    batches_of = _batches_of(examples, model, settings.seed, augment, identity_balanced)
    if dry_run:
        return _print_plan(model, stage_two, batches_of, data, wanted, settings, out)
    validation = _examples(data, model, lambda row: row.split == "val")
    validate = _validation_auc(validation) if settings.validate_every else None
    if _fit(model, stage_two, batches_of, settings, out, validate):
        choose_threshold(model, validation)
        model.config = replace(model.config, trained_on=trained_on or f"{len(examples)} clips of {data.name}")
        model.save_pretrained(out)
        print(f"saved in {out}, threshold {model.config.threshold:.2f}; next:")
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

    rows = [example.row for example in _stored(data, model)]
    if not rows:
        rows = _rows(data)
        missing = sum(not row.path.exists() for row in rows)
        if missing:
            print(f"{missing} of the {len(rows)} files that the manifest lists are not there")
    make_plan(model, objective, batches_of, rows, sum(map(wanted, rows)), settings, out).show(Console())


def _examples(
    data: Path, model: Detector, wanted: Callable[[Row], bool], few: bool = False
) -> Sequence[Example | StoredExample]:
    """The wanted clips of a dataset, or of the shards that ``avff prepare`` made of one.

    ``few`` decodes two of each label, which is enough to try a step out.
    """
    from avff_lib.data.loader import load_examples

    if stored := _stored(data, model):
        return [example for example in stored if wanted(example.row)]
    rows = [row for row in _rows(data) if wanted(row)]
    if few:
        rows = [row for label in (0, 1) for row in [row for row in rows if row.label == label][:2]]
    examples, skipped = load_examples(rows, model.spec)
    _print_skipped(skipped)
    return examples


def _stored(data: Path, model: Detector) -> list[StoredExample]:
    from avff_lib.data.shards import INDEX_NAME, read_shards

    return read_shards(data, model.spec) if (data / INDEX_NAME).exists() else []


def _print_skipped(skipped: Sequence[Skipped]) -> None:
    for entry in skipped:
        print(f"skipped {entry.row.path}: {entry.reason}", file=sys.stderr)


def _rows(data: Path, split: str | None = None) -> list[Row]:
    from avff_lib.data.manifest import read_manifest

    rows = [row for row in read_manifest(data / "manifest.csv") if split in (None, row.split)]
    if not rows:
        raise AVFFError(f"{data / 'manifest.csv'} lists no {split} clips; name another split")
    return rows


def _write_json(value: Any, path: Path) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n")


def evaluate(
    data: Path,
    checkpoint: Path = Path("avff-tiny"),
    split: Literal["test", "all"] = "test",
    out: Path | None = None,
) -> None:
    """Score a dataset and print the metrics as JSON.

    Args:
        data: folder with a manifest.csv.
        checkpoint: folder of a saved detector, or the name of a shipped one: avff-tiny, avffmae-tiny.
        split: the manifest's test clips, or all of them.
        out: write the metrics there as well.
    """
    from avff_lib.evaluation.evaluate import evaluate as run_evaluation
    from avff_lib.predict import load_detector

    metrics = run_evaluation(load_detector(checkpoint), _rows(data, None if split == "all" else split))
    print(json.dumps(metrics, indent=2))
    if out is not None:
        _write_json(metrics, out)


def predict(
    files: Positional[tuple[Path, ...]],
    checkpoint: Path = Path("avff-tiny"),
    json_: Annotated[bool, arg(name="json")] = False,
) -> int:
    """Judge videos.

    Args:
        files: videos with sound.
        checkpoint: folder of a saved detector, or the name of a shipped one: avff-tiny, avffmae-tiny.
        json_: print a JSON list with one object a file instead of lines for people.
    """
    from avff_lib.predict import load_detector, predict_file

    if not files:
        raise AVFFError("no file was named; give one or more videos, as in: avff predict some.mp4")
    model = load_detector(checkpoint)
    reports = []
    for path in files:
        reports.append(predict_file(path, model))
        if not json_:
            _print_report(reports[-1])
    if json_:
        print(json.dumps([asdict(report) for report in reports], indent=2))
    else:
        print(f"The model was trained on {model.config.trained_on}.")
    return 2 if any(report.error for report in reports) else 0


def _print_report(report) -> None:
    if report.error:
        print(report.error, file=sys.stderr)  # it names the file
        return
    judged = sum(window.score is not None for window in report.windows)
    print(
        f"{report.path}: {report.label} (probability of fake {report.prediction:.2f}, threshold "
        f"{report.threshold:.2f}, {judged} of {len(report.windows)} windows judged)"
    )
    for warning in report.warnings:
        print(f"  note: {warning}")


def sync(
    files: Positional[tuple[Path, ...]],
    json_: Annotated[bool, arg(name="json")] = False,
) -> int:
    """Measure how lips and voice go together, without any model; no verdict.

    Args:
        files: videos with sound.
        json_: print a JSON list with one object a file instead of lines for people.
    """
    from avff_lib.sync import sync_file

    if not files:
        raise AVFFError("no file was named; give one or more videos, as in: avff sync some.mp4")
    reports = []
    for path in files:
        reports.append(sync_file(path))
        if not json_:
            _print_sync(reports[-1])
    if json_:
        print(json.dumps([asdict(report) for report in reports], indent=2))
    else:
        print("This is no verdict: a forgery can be in time, and a genuine video out of it.")
    return 2 if any(report.error for report in reports) else 0


def _print_sync(report: SyncReport) -> None:
    if report.error:
        print(report.error, file=sys.stderr)  # it names the file
        return
    order = f"{abs(report.lag):.2f} s {'after' if report.lag > 0 else 'before'}" if report.lag else "with"
    print(
        f"{report.path}: the voice comes {order} the lips (correlation {report.correlation:.2f}, "
        f"without a shift {report.correlation_at_zero:.2f}, confidence {report.confidence:.2f})"
    )
    for warning in report.warnings:
        print(f"  note: {warning}")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; bad input ends with one sentence on stderr and status 2."""
    commands = (synth, audit, prepare, pretrain, train, evaluate, predict, sync)
    try:
        status = subcommand_cli_from_dict(
            {command.__name__: command for command in commands},
            prog="avff",
            description="Audio-visual deepfake detection.",
            args=argv,
        )
    except AVFFError as error:
        print(f"avff: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("avff: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return status or 0


if __name__ == "__main__":
    sys.exit(main())
