"""``avff evaluate``: how good a detector is on a dataset, as a table, figures and files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from avff_lib.atomic import atomic_write
from avff_lib.clip import AVFFError
from avff_lib.commands.common import examples_of, print_skipped, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from avff_lib.evaluation.evaluate import Scored
    from avff_lib.models import Detector

NAMES = {
    "auc": "AUC",
    "ap": "AP",
    "eer": "EER",
    "tpr_at_1_fpr": "TPR at 1 % FPR",
    "balanced_accuracy": "balanced accuracy",
}


def evaluate(
    data: Path,
    checkpoint: Path = Path("avff-tiny"),
    split: Literal["test", "all"] = "test",
    out: Path | None = None,
    json_: Annotated[bool, arg(name="json")] = False,
) -> None:
    """Score a dataset and say how good the detector is, overall and by group.

    Args:
        data: folder with a manifest.csv, or with shards.
        checkpoint: folder of a saved detector, or the name of a shipped one: avff-tiny, avffmae-tiny.
        split: the test clips, or all of them.
        out: folder for metrics.json, table.csv, scores.csv (a row a video), and the figures.
        json_: print the metrics as JSON instead of a table.
    """
    from rich.console import Console

    from avff_lib.evaluation import evaluate as evaluation
    from avff_lib.predict import load_detector

    model = load_detector(checkpoint)
    examples, skipped = examples_of(data, model.spec, lambda row: split in ("all", row.split))
    if not examples:
        raise AVFFError(
            f"none of the {split} clips of {data} can be used; "
            + (f"the first one: {skipped[0][1]}" if skipped else "name another split")
        )
    scored, unreadable = evaluation.score_readable(model, examples)
    skipped = skipped + [(str(entry.row.path), entry.reason) for entry in unreadable]
    metrics = evaluation.evaluate(model, scored)
    metrics["skipped"] = [{"path": path, "reason": reason} for path, reason in skipped]
    if out is not None:
        write_folder(model, scored, metrics, data, out)
    print_skipped(skipped)
    if json_:
        print(json.dumps(metrics, indent=2))
    else:
        show(Console(), metrics, model)
        if out is not None:
            print(f"metrics.json, table.csv, scores.csv and the figures are in {out}")


def blocks(metrics: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every set of metrics as (by, name, metrics with genuine, fake and people): a row of the table."""
    yield "all", "all videos", {**metrics, **metrics["counts"]}
    for by in ("category", "method", "group"):
        for name, block in metrics[f"by_{by}"].items():
            yield by, name, {**block, "fake": block["clips"]}
    yield "windows", "single windows", {**metrics["windows"], **metrics["windows"]["counts"]}


def show(console: Console, metrics: dict[str, Any], model: Detector) -> None:
    """The metrics for people who read a terminal."""
    from rich.table import Table

    table = Table(title="95 % intervals over people in brackets; fakes of a kind against all genuine clips")
    table.add_column("")
    for name in (*NAMES.values(), "genuine", "fake", "people"):
        table.add_column(name, justify="right")
    for by, name, block in blocks(metrics):
        cells = [_cell(block, metric, interval=metric == "auc") for metric in NAMES]
        counts = [str(block[kind]) for kind in ("genuine", "fake", "people")]
        table.add_row(f"group {name}" if by == "group" else name, *cells, *counts)
    console.print(table)
    for sentence in sentences(metrics, model):
        console.print(sentence, highlight=False, soft_wrap=True)


def sentences(metrics: dict[str, Any], model: Detector) -> list[str]:
    """What stands below the table."""
    counts, found, fitted = metrics["counts"], metrics["confusion"], model.config.calibration
    calibration = metrics["calibration"]
    basis = f"{counts['clips']} videos of {counts['people']} people"
    said = [
        f"At the threshold {metrics['threshold']:.2f}, {found['false_positives']} of {counts['genuine']} "
        f"genuine and {found['true_positives']} of {counts['fake']} forged videos are called fake.",
        f"Calibration: ECE {calibration['ece']:.3f} (by chance {calibration['ece_by_chance']:.3f}), "
        f"Brier score {calibration['brier']:.3f} on {basis}, genuine and forged ones weighing the same; "
        + (
            f"fitted on {fitted.clips} validation videos of {fitted.people} people."
            if fitted.clips
            else "the scores were never calibrated."
        ),
    ]
    if "sure" in metrics:
        sure, (low, high) = metrics["sure"], fitted.unsure
        errors = [
            f"{sure[kind]:.1%} {kind.replace('_', ' ')}"
            for kind in ("false_alarms", "misses")
            if kind in sure
        ]
        said.append(
            f"Unsure from {low:.2f} to {high:.2f}: outside lie {sure['share']:.1%} of the {sure['clips']} "
            f"videos, with {' and '.join(errors)} (promised: at most {fitted.error_rate:.0%} of each)."
        )
    said += metrics["notes"]
    if metrics["skipped"]:
        said.append(f"{len(metrics['skipped'])} files were skipped; they are named above.")
    return [*said, f"The model was trained on {metrics['trained_on']}."]


def write_folder(
    model: Detector, scored: Sequence[Scored], metrics: dict[str, Any], data: Path, out: Path
) -> None:
    """Everything that is known, in files; each appears whole or not at all."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AVFFError(f"{out} cannot be used ({error.strerror}); name a folder to write in") from None
    write_json(metrics, out / "metrics.json")
    _write_csv(out / "table.csv", [_record(by, name, block) for by, name, block in blocks(metrics)])
    root, threshold = data.resolve(), model.config.threshold
    _write_csv(
        out / "scores.csv",
        [
            {
                "path": path.relative_to(root).as_posix() if (path := entry.row.path).is_absolute() else path,
                "label": entry.row.label,
                "category": entry.row.category,
                "method": entry.row.method,
                "source": entry.row.source,
                "group": entry.row.group,
                "score": entry.score,
                "verdict": "fake" if entry.score >= threshold else "real",
                "unsure": int(model.config.calibration.is_unsure(entry.score)),
                "windows": len(entry.windows),
            }
            for entry in scored
        ],
    )
    if "auc" in metrics:
        _write_figures(model, scored, out)


def _write_figures(model: Detector, scored: Sequence[Scored], out: Path) -> None:
    import matplotlib.pyplot as plt
    import numpy as np

    from avff_lib.evaluation import figures

    labels = np.array([entry.row.label for entry in scored])
    scores = np.array([entry.score for entry in scored])
    threshold = model.config.threshold
    draw: dict[str, Callable[[], Any]] = {
        "roc": lambda: figures.plot_roc(labels, scores, threshold),
        "pr": lambda: figures.plot_precision_recall(labels, scores),
        "det": lambda: figures.plot_det(labels, scores),
        "scores": lambda: figures.plot_histograms(labels, scores, threshold, model.config.calibration.unsure),
        "confusion": lambda: figures.plot_confusion(labels, scores, threshold),
        "reliability": lambda: figures.plot_reliability(labels, scores),
    }
    for name, function in draw.items():
        figure = function().figure
        with atomic_write(out / f"{name}.png") as partial:
            figure.savefig(partial, format="png", dpi=150)
        plt.close(figure)


def _cell(block: dict[str, Any], metric: str, *, interval: bool) -> str:
    if metric not in block:
        return "–"
    if not interval or "interval" not in block:
        return f"{block[metric]:.3f}"
    low, high = block["interval"][metric]
    return f"{block[metric]:.3f} ({low:.3f}–{high:.3f})"


def _record(by: str, name: str, block: dict[str, Any]) -> dict[str, Any]:
    """A row of table.csv; a metric that is not defined is an empty field."""
    record = {"by": by, "name": name, **{kind: block[kind] for kind in ("genuine", "fake", "people")}}
    for metric in NAMES:
        low, high = block.get("interval", {}).get(metric, ("", ""))
        record |= {metric: block.get(metric, ""), f"{metric}_low": low, f"{metric}_high": high}
    return record


def _write_csv(path: Path, records: Sequence[dict[str, Any]]) -> None:
    with atomic_write(path) as partial, partial.open("w", newline="") as file:
        table = csv.DictWriter(file, list(records[0]))
        table.writeheader()
        table.writerows(records)
