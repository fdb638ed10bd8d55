"""``avff sync``: how far lips and voice agree in time, measured without a model."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from avff_lib.errors import AVFFError

if TYPE_CHECKING:
    from avff_lib.inference.sync import SyncResult


def sync(
    files: Positional[tuple[Path, ...]],
    json_: Annotated[bool, arg(name="json")] = False,
) -> int:
    """Measure how far lips and voice agree in time, without a model and without a label.

    Args:
        files: videos with sound.
        json_: print a JSON list with one object per file instead of lines for people.
    """
    from avff_lib.inference.sync import sync_file

    if not files:
        raise AVFFError("no file was named; give one or more videos, as in: avff sync some.mp4")
    reports = []
    for path in files:
        report = sync_file(path)
        reports.append(report)
        if not json_:
            _print_sync(report)
    if json_:
        print(json.dumps([asdict(report) for report in reports], indent=2))
    else:
        print("This is no label: a fake video can be in sync, and a real one out of sync.")
    return 2 if any(report.error for report in reports) else 0


def _print_sync(report: SyncResult) -> None:
    if report.error:
        print(report.error, file=sys.stderr)  # it names the file
        return
    if report.lag:
        direction = "after" if report.lag > 0 else "before"
        order = f"{abs(report.lag):.2f} s {direction}"
    else:
        order = "with"
    print(
        f"{report.path}: the voice comes {order} the lips (correlation {report.correlation:.2f}, "
        f"without a shift {report.correlation_at_zero:.2f}, confidence {report.confidence:.2f})"
    )
    for warning in report.warnings:
        print(f"  note: {warning}")
