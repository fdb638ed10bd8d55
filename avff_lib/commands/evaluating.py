"""``avff evaluate``: how good a detector is on a dataset, as a table, figures and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from avff_lib.clip import AVFFError
from avff_lib.commands.common import by_path, examples_of, make_folder, print_skipped, write_json


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
    from avff_lib.evaluation.output import show, write_folder
    from avff_lib.predict import load_detector

    if out is not None:
        make_folder(out)
    model = load_detector(checkpoint)
    examples, skipped = examples_of(data, model.spec, lambda row: split in ("all", row.split))
    if not examples:
        raise AVFFError(
            f"none of the {split} clips of {data} can be used; "
            + (f"the first one: {skipped[0][1]}" if skipped else "name another split")
        )
    scored, unreadable = evaluation.score_readable(model, examples)
    skipped = skipped + by_path(unreadable)
    metrics = evaluation.evaluate(model, scored)
    metrics["skipped"] = [{"path": path, "reason": reason} for path, reason in skipped]
    print_skipped(skipped)
    if json_:
        print(json.dumps(metrics, indent=2))
    else:
        show(Console(), metrics, model)
    if out is not None:
        write_folder(model, scored, metrics, data, out)
        write_json(metrics, out / "metrics.json")
        if not json_:
            print(f"metrics.json, table.csv, scores.csv and the figures are in {out}")
