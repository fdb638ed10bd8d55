"""``avff predict | sync``: what a model, or no model, says of clips."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from avff_lib.clip import AVFFError

if TYPE_CHECKING:
    from avff_lib.predict import Report
    from avff_lib.sync import SyncReport


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


def _print_report(report: Report) -> None:
    if report.error:
        print(report.error, file=sys.stderr)  # it names the file
        return
    judged = sum(window.score is not None for window in report.windows)
    label = f"{report.label}, but unsure" if report.unsure else report.label
    print(
        f"{report.path}: {label} (probability of fake {report.prediction:.2f}, threshold "
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
