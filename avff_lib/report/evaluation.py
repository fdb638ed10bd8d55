"""The tables and figures of an evaluation, printed and written."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table
from rich.text import Text

from avff_lib.evaluation import figures
from avff_lib.evaluation.evaluate import ClipScores
from avff_lib.evaluation.metrics import METRICS
from avff_lib.models import Detector
from avff_lib.utils.atomic import atomic_write


def metric_rows(metrics: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Rows of the table: (by, name, metrics with the numbers of real and fake clips and of identities)."""
    yield "all", "all videos", {**metrics, **metrics["counts"]}
    for by in ("category", "method", "group"):
        for name, block in metrics[f"by_{by}"].items():
            yield by, name, {**block, "fake": block["clips"]}
    yield "windows", "single windows", {**metrics["windows"], **metrics["windows"]["counts"]}


def print_summary(console: Console, metrics: dict[str, Any], model: Detector) -> None:
    """Print the metrics on a terminal of 80 columns or more."""
    table = Table(box=None, pad_edge=False)
    table.add_column("fakes of", no_wrap=True)
    for name in ("AUC (95 %)", "AP", "EER", "TPR", "bal."):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("clips (people)", justify="right", no_wrap=True)
    for by, name, block in metric_rows(metrics):
        cells = [f"{block[metric]:.2f}" if metric in block else "–" for metric in METRICS]
        if "interval" in block:
            low, high = block["interval"]["auc"]
            cells[0] = f"{block['auc']:.3f} ({low:.2f}–{high:.2f})"
        counts = f"{block['real']}+{block['fake']} ({block['identities']})"
        # As text, since a name with brackets would be parsed as markup.
        table.add_row(Text(f"group {name}" if by == "group" else name), *cells, counts)
    if not console.is_terminal:  # files and pipes take lines of any length, so names are not cut
        console.width = max(console.width, console.measure(table).maximum)
    console.print(table)
    for sentence in summary_notes(metrics, model):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def summary_notes(metrics: dict[str, Any], model: Detector) -> list[str]:
    """Sentences below the table."""
    counts, confusion, calibration = metrics["counts"], metrics["confusion"], metrics["calibration"]
    fitted = model.config.calibration
    basis = f"{counts['clips']} videos of {counts['identities']} people"
    if fitted.clips:
        origin = f"fitted on {fitted.clips} validation videos of {fitted.identities} people."
    else:
        origin = "the scores were never calibrated."
    sentences = [
        "TPR: at 1 % FPR; bal.: balanced accuracy at the threshold. Clips are real + fake; fakes of a kind "
        "are compared with all real clips. Intervals are over people.",
        f"At the threshold {metrics['threshold']:.2f}, {confusion['false_positives']} of {counts['real']} "
        f"real and {confusion['true_positives']} of {counts['fake']} fake videos score as fake.",
        f"Calibration: ECE {calibration['ece']:.3f} (by chance {calibration['ece_by_chance']:.3f}), "
        f"Brier score {calibration['brier']:.3f} on {basis}, both classes weighing the same; {origin}",
    ]
    sentences.append(_labels_note(metrics["selective"]))
    sentences += metrics["notes"]
    if metrics["skipped"]:
        sentences.append(f"{len(metrics['skipped'])} files were skipped; they are listed above.")
    return [*sentences, f"The model was trained on {metrics['trained_on']}."]


def _labels_note(selective: dict[str, Any]) -> str:
    """Coverage and error rates of the labels, and the reasons for undetermined ones."""
    parts = [f"{selective['coverage']:.1%} of the {selective['clips']} videos"]
    for rate, text in (
        ("risk", "{:.1%} of these wrongly"),
        ("fpr", "of all real videos {:.1%} are labelled fake"),
        ("fnr", "of all fake ones {:.1%} real"),
    ):
        if rate in selective:
            parts.append(text.format(selective[rate]))
    note = f"Labelled real or fake: {', '.join(parts)}."
    reasons = [f"{count} {reason.replace('_', ' ')}" for reason, count in selective["reasons"].items()]
    return f"{note} Undetermined, some for several reasons: {', '.join(reasons)}." if reasons else note


def write_folder(
    model: Detector, scored: Sequence[ClipScores], metrics: dict[str, Any], data: Path, out: Path
) -> None:
    """Write table.csv, scores.csv and the figures to a folder; no file is left incomplete.

    Args:
        model: the detector.
        scored: by `avff_lib.evaluation.evaluate.score_readable`.
        metrics: by `avff_lib.evaluation.evaluate.evaluate_scores`.
        data: folder of the dataset; paths in scores.csv are relative to it.
        out: existing folder.
    """
    _write_csv(
        out / "table.csv", [_table_record(by, name, block) for by, name, block in metric_rows(metrics)]
    )
    _write_csv(out / "scores.csv", [_score_record(entry, data) for entry in scored])
    if "auc" in metrics:
        _write_figures(model, scored, out)


def _write_figures(model: Detector, scored: Sequence[ClipScores], out: Path) -> None:
    labels = np.array([entry.row.label for entry in scored])
    scores = np.array([entry.score for entry in scored])
    threshold = model.config.threshold
    figure_of: dict[str, Callable[[], Axes]] = {
        "roc": lambda: figures.plot_roc(labels, scores, threshold),
        "pr": lambda: figures.plot_precision_recall(labels, scores),
        "det": lambda: figures.plot_det(labels, scores),
        "scores": lambda: figures.plot_histograms(labels, scores, threshold, model.config.calibration.unsure),
        "confusion": lambda: figures.plot_confusion(labels, scores, threshold),
        "reliability": lambda: figures.plot_reliability(labels, scores),
    }
    for name, draw in figure_of.items():
        figure = draw().get_figure(root=True)
        assert figure is not None  # each function makes one
        with atomic_write(out / f"{name}.png") as partial:
            figure.savefig(partial, format="png", dpi=150)
        plt.close(figure)


def _score_record(entry: ClipScores, data: Path) -> dict[str, Any]:
    """A row of scores.csv."""
    row = entry.row
    return {
        "path": Path(os.path.relpath(row.path, data)).as_posix() if row.path.is_absolute() else row.path,
        "label": row.label,
        "category": row.category,
        "method": row.method,
        "source": row.source,
        "group": row.group,
        "score": entry.score,
        "predicted": entry.prediction.label,
        "reasons": ";".join(entry.prediction.reasons),
        "windows": len(entry.windows),
    }


def _table_record(by: str, name: str, block: dict[str, Any]) -> dict[str, Any]:
    """A row of table.csv; an undefined metric is an empty field."""
    record = {"by": by, "name": name, **{kind: block[kind] for kind in ("real", "fake", "identities")}}
    for metric in METRICS:
        low, high = block.get("interval", {}).get(metric, ("", ""))
        record |= {metric: block.get(metric, ""), f"{metric}_low": low, f"{metric}_high": high}
    return record


def _write_csv(path: Path, records: Sequence[dict[str, Any]]) -> None:
    with atomic_write(path) as partial, partial.open("w", newline="") as file:
        table = csv.DictWriter(file, list(records[0]))
        table.writeheader()
        table.writerows(records)
