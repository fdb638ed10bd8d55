"""``avff evaluate``: metrics of a detector on a dataset, as a table, figures and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from avff_lib.cli.common import (
    by_path,
    make_folder,
    print_skipped,
    rows_of,
    stored_examples,
    write_json,
)
from avff_lib.errors import AVFFError
from avff_lib.utils.cluster import Engine
from avff_lib.utils.device import Device, pick_device


def evaluate(
    data: Path,
    checkpoint: Path = Path("avff-tiny"),
    split: Literal["test", "all"] = "test",
    out: Path | None = None,
    json_: Annotated[bool, arg(name="json")] = False,
    device: Device = "auto",
    workers: int | None = None,
    engine: Engine = "local",
) -> None:
    """Measure how good a detector is on a dataset, overall and by group.

    Args:
        data: folder with a manifest.csv, or with shards.
        checkpoint: folder of a saved detector, or the name of a shipped one: avff-people, avff-tiny,
            avffmae-tiny.
        split: the test clips, or all of them.
        out: folder for metrics.json, table.csv, scores.csv (one row per video), and the figures; and for
            scores.jsonl, one line per scored video: run again to continue after an interruption.
        json_: print the metrics as JSON instead of a table.
        device: to run the detector on; auto is the GPU if there is one.
        workers: number of processes that score files; by default one per core, or one on a GPU.
        engine: what runs them: this machine, or a Ray cluster that can read the data and write to out.
    """
    from rich.console import Console

    from avff_lib.data.shards import left_out
    from avff_lib.evaluation.evaluate import evaluate_scores, score_readable
    from avff_lib.models import Detector
    from avff_lib.report.evaluation import print_summary, write_folder

    if out is not None:
        make_folder(out)
    elif engine == "ray":
        raise AVFFError("--engine ray needs --out, a folder that all nodes see")
    model = Detector.from_pretrained(checkpoint, device=pick_device(device, "--device"))
    skipped: list[tuple[str, str]] = []
    if stored := stored_examples(data, model.spec):
        skipped = left_out(data, model.spec)
        examples = [example for example in stored if split in ("all", example.row.split)]
        if not examples:
            raise AVFFError(f"{data} holds no {split} clips; choose another split")
        scored, unreadable = score_readable(model, examples, folder=out)
    else:
        rows = rows_of(data, None if split == "all" else split)
        scored, unreadable = score_readable(model, rows, workers=workers, engine=engine, folder=out)
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
