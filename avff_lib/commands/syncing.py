"""``avff sync``: how lips and voice go together, measured without a model."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from avff_lib.clip import AVFFError

if TYPE_CHECKING:
    from avff_lib.sync import SyncReport


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
