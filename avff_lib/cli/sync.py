"""``avff sync``: the lag of lips and voice, measured without a model or with a learned embedding."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from avff_lib.errors import AVFFError

if TYPE_CHECKING:
    from avff_lib.inference.sync import SyncResult


def sync(
    files: Positional[tuple[Path, ...]],
    learned: bool = False,
    json_: Annotated[bool, arg(name="json")] = False,
) -> int:
    """Measure the lag between lips and voice and their correlation, without a label.

    Args:
        files: videos with sound.
        learned: compare them with the embedding of avff-people, instead of mouth opening and loudness.
        json_: print a JSON list with one object per file instead of text.
    """
    if not files:
        raise AVFFError("no file was named; give one or more videos, as in: avff sync some.mp4")
    measure = _learned() if learned else _untrained()
    reports = []
    for path in files:
        report = measure(path)
        reports.append(report)
        if not json_:
            _print_sync(report)
    if json_:
        print(json.dumps([asdict(report) for report in reports], indent=2))
    else:
        print("This is no label: a fake video can be in sync, and a real one out of sync.")
    return 2 if any(report.error for report in reports) else 0


def _untrained() -> Callable[[Path], SyncResult]:
    from avff_lib.inference.sync import sync_file

    return sync_file


def _learned() -> Callable[[Path], SyncResult]:
    from avff_lib.inference.learned_sync import learned_sync_file
    from avff_lib.models import SyncNet

    return partial(learned_sync_file, model=SyncNet.from_pretrained("avff-people"))


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
