"""What an evaluation prints, and what it writes: tables and figures."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from avff_lib.atomic import atomic_write
from avff_lib.evaluation import figures
from avff_lib.evaluation.evaluate import Scored
from avff_lib.evaluation.metrics import METRICS
from avff_lib.models import Detector


def blocks(metrics: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every set of metrics as (by, name, metrics with genuine, fake and people): a row of the table."""
    yield "all", "all videos", {**metrics, **metrics["counts"]}
    for by in ("category", "method", "group"):
        for name, block in metrics[f"by_{by}"].items():
            yield by, name, {**block, "fake": block["clips"]}
    yield "windows", "single windows", {**metrics["windows"], **metrics["windows"]["counts"]}


def show(console: Console, metrics: dict[str, Any], model: Detector) -> None:
    """The metrics for people who read a terminal of 80 columns."""
    table = Table(box=None, pad_edge=False)
    table.add_column("fakes of", no_wrap=True)
    for name in ("AUC (95 %)", "AP", "EER", "TPR", "bal."):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("clips (people)", justify="right", no_wrap=True)
    for by, name, block in blocks(metrics):
        cells = [f"{block[metric]:.2f}" if metric in block else "–" for metric in METRICS]
        if "interval" in block:
            low, high = block["interval"]["auc"]
            cells[0] = f"{block['auc']:.3f} ({low:.2f}–{high:.2f})"
        counts = f"{block['genuine']}+{block['fake']} ({block['people']})"
        # As text, since a name with brackets would be read as markup.
        table.add_row(Text(f"group {name}" if by == "group" else name), *cells, counts)
    if not console.is_terminal:  # a file or a pipe takes lines of any length, and cuts no name
        console.width = max(console.width, console.measure(table).maximum)
    console.print(table)
    for sentence in sentences(metrics, model):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def sentences(metrics: dict[str, Any], model: Detector) -> list[str]:
    """What stands below the table."""
    counts, found, fitted = metrics["counts"], metrics["confusion"], model.config.calibration
    calibration = metrics["calibration"]
    basis = f"{counts['clips']} videos of {counts['people']} people"
    said = [
        "TPR: at 1 % false positives; bal.: balanced accuracy at the threshold. Clips are genuine + forged "
        "ones; fakes of a kind are compared with all genuine clips. Intervals are over people.",
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
    """Write table.csv, scores.csv and the figures to a folder; each appears whole or not at all."""
    _write_csv(out / "table.csv", [_record(by, name, block) for by, name, block in blocks(metrics)])
    _write_csv(out / "scores.csv", [_verdict(model, entry, data) for entry in scored])
    if "auc" in metrics:
        _write_figures(model, scored, out)


def _write_figures(model: Detector, scored: Sequence[Scored], out: Path) -> None:
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


def _verdict(model: Detector, entry: Scored, data: Path) -> dict[str, Any]:
    """A row of scores.csv; its path is from the dataset's folder."""
    row, config = entry.row, model.config
    return {
        "path": Path(os.path.relpath(row.path, data)).as_posix() if row.path.is_absolute() else row.path,
        "label": row.label,
        "category": row.category,
        "method": row.method,
        "source": row.source,
        "group": row.group,
        "score": entry.score,
        "verdict": "fake" if entry.score >= config.threshold else "real",
        "unsure": int(config.calibration.is_unsure(entry.score)),
        "windows": len(entry.windows),
    }


def _record(by: str, name: str, block: dict[str, Any]) -> dict[str, Any]:
    """A row of table.csv; a metric that is not defined is an empty field."""
    record = {"by": by, "name": name, **{kind: block[kind] for kind in ("genuine", "fake", "people")}}
    for metric in METRICS:
        low, high = block.get("interval", {}).get(metric, ("", ""))
        record |= {metric: block.get(metric, ""), f"{metric}_low": low, f"{metric}_high": high}
    return record


def _write_csv(path: Path, records: Sequence[dict[str, Any]]) -> None:
    with atomic_write(path) as partial, partial.open("w", newline="") as file:
        table = csv.DictWriter(file, list(records[0]))
        table.writeheader()
        table.writerows(records)
