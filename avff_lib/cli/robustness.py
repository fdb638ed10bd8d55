"""``avff robustness``: a detector's performance under compression, noise, blur and other perturbations."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from avff_lib.cli.common import (
    by_path,
    make_folder,
    print_skipped,
    rows_of,
    write_json,
)
from avff_lib.utils.device import Device, pick_device

if TYPE_CHECKING:
    from rich.table import Table


def robustness(
    data: Path,
    out: Path,
    checkpoint: Path = Path("avff-tiny"),
    split: Literal["test", "all"] = "test",
    perturbations: tuple[str, ...] = (),
    clips: int | None = None,
    device: Device = "auto",
) -> None:
    """Score a dataset under the field's grid of perturbations, at five levels each.

    Args:
        data: folder with a manifest.csv.
        out: folder for robustness.json and .png; run again to continue after an interruption.
        checkpoint: folder of a saved detector, or the name of a shipped one: avff-people, avff-tiny,
            avffmae-tiny.
        split: the manifest's test clips, or all of them.
        perturbations: only these; by default all twelve.
        clips: number of clips, drawn at random, half of each class; by default all.
        device: to run the detector on; auto is the GPU if there is one.
    """
    from rich.console import Console

    from avff_lib.evaluation.perturbations import PERTURBATIONS
    from avff_lib.evaluation.robustness import balanced_subset, score_perturbed, summarize_scores
    from avff_lib.models import Detector

    make_folder(out)
    rows = rows_of(data, None if split == "all" else split)
    if clips is not None:
        rows = balanced_subset(rows, clips)
    model = Detector.from_pretrained(checkpoint, device=pick_device(device, "--device"))
    names = perturbations or tuple(PERTURBATIONS)
    scores, skipped = score_perturbed(model, rows, names, out)
    print_skipped(by_path(skipped))
    command: list[object] = ["avff", "robustness", "--data", data, "--out", out]
    command += ["--checkpoint", checkpoint, "--split", split]
    command += ["--perturbations", *perturbations] if perturbations else []
    command += ["--clips", clips] if clips is not None else []
    summary = {
        "command": shlex.join(str(word) for word in command),
        **summarize_scores(rows, scores, names, model.config.threshold, model.config.calibration),
    }
    summary["trained_on"] = model.config.trained_on
    summary["skipped"] = [{"path": path, "reason": reason} for path, reason in by_path(skipped)]
    write_json(summary, out / "robustness.json")
    _draw(summary, out / "robustness.png")
    Console().print(_table(summary))
    print(
        f"{summary['clips']} clips of {summary['identities']} people; robustness.json and .png are in {out}"
    )


def _table(summary: dict) -> Table:
    from rich.table import Table

    untouched = summary["untouched"]
    interval = f"{untouched['low']:.2f}–{untouched['high']:.2f}"
    title = (
        f"AUC, and real clips called fake at the threshold {summary['threshold']:.2f}; of untouched clips "
        f"{untouched['auc']:.2f} ({interval}), {untouched['false_positive_rate']:.0%}"
    )
    table = Table("perturbation", *(f"level {level}" for level in range(1, 6)), title=title)
    for name, entry in summary["perturbations"].items():
        cells = (f"{level['auc']:.2f}  {level['false_positive_rate']:.0%}" for level in entry["levels"])
        table.add_row(name, *cells)
    return table


def _draw(summary: dict, path: Path) -> None:
    from matplotlib.figure import Figure

    from avff_lib.plots import plot_robustness_grid
    from avff_lib.utils.atomic import atomic_write

    with atomic_write(path) as partial:
        plot_robustness_grid(summary, figure=Figure()).savefig(partial, format="png", dpi=150)
