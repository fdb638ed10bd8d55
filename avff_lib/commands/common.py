"""What several commands read and write."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avff_lib.atomic import atomic_write
from avff_lib.clip import AVFFError

if TYPE_CHECKING:
    from avff_lib.data.loader import Skipped
    from avff_lib.data.manifest import Row


def rows_of(data: Path, split: str | None = None) -> list[Row]:
    """The clips that a dataset's manifest lists, of one split or of all.

    Raises:
        AVFFError: there is none, or no manifest.
    """
    from avff_lib.data.manifest import read_manifest

    rows = [row for row in read_manifest(data / "manifest.csv") if split in (None, row.split)]
    if not rows:
        raise AVFFError(f"{data / 'manifest.csv'} lists no {split} clips; name another split")
    return rows


def print_skipped(skipped: Sequence[Skipped]) -> None:
    """One line for each clip that was left out, on stderr."""
    for entry in skipped:
        print(f"skipped {entry.row.path}: {entry.reason}", file=sys.stderr)


def write_json(value: Any, path: Path) -> None:
    """Write the whole file or nothing."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n")
