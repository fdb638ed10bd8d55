"""``avff evaluate``: metrics of a detector on a dataset, as a table, figures and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from avff_lib.cli.common import by_path, examples_of, make_folder, print_skipped, write_json
from avff_lib.errors import AVFFError


def evaluate(
    data: Path,
    checkpoint: Path = Path("avff-tiny"),
    split: Literal["test", "all"] = "test",
    out: Path | None = None,
    json_: Annotated[bool, arg(name="json")] = False,
) -> None:
    """Measure how good a detector is on a dataset, overall and by group.

    Args:
        data: folder with a manifest.csv, or with shards.
        checkpoint: folder of a saved detector, or the name of a shipped one: avff-tiny, avffmae-tiny.
        split: the test clips, or all of them.
        out: folder for metrics.json, table.csv, scores.csv (one row per video), and the figures.
        json_: print the metrics as JSON instead of a table.
    """
    from rich.console import Console

    from avff_lib.evaluation.evaluate import evaluate_scores, score_readable
    from avff_lib.models import Detector
    from avff_lib.report.evaluation import print_summary, write_folder

    if out is not None:
        make_folder(out)
    model = Detector.from_pretrained(checkpoint)
    examples, skipped = examples_of(data, model.spec, lambda row: split in ("all", row.split))
    if not examples:
        reason = f"the first one: {skipped[0][1]}" if skipped else "choose another split"
        raise AVFFError(f"none of the {split} clips of {data} can be used; {reason}")
    scored, unreadable = score_readable(model, examples)
    skipped = skipped + by_path(unreadable)
    metrics = evaluate_scores(model, scored)
    metrics["skipped"] = [{"path": path, "reason": reason} for path, reason in skipped]
    print_skipped(skipped)
    if json_:
        print(json.dumps(metrics, indent=2))
    else:
        print_summary(Console(), metrics, model)
    if out is not None:
        write_folder(model, scored, metrics, data, out)
        write_json(metrics, out / "metrics.json")
        if not json_:
            print(f"metrics.json, table.csv, scores.csv and the figures are in {out}")
