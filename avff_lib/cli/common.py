"""Input and output that several commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from avff_lib.errors import AVFFError
from avff_lib.utils.atomic import atomic_write

if TYPE_CHECKING:
    from avff_lib.data.examples import Example, Skipped
    from avff_lib.data.manifest import Row
    from avff_lib.data.shards import StoredExample
    from avff_lib.models.calibration import Calibration
    from avff_lib.preprocess.spec import InputSpec


def rows_of(data: Path, split: str | None = None) -> list[Row]:
    """The clips that a dataset's manifest lists, of one split or of all.

    Raises:
        AVFFError: there are no such clips, or no manifest.
    """
    from avff_lib.data.manifest import find_manifest, read_manifest

    path = find_manifest(data)
    rows = [row for row in read_manifest(path) if split in (None, row.split)]
    if not rows:
        raise AVFFError(f"{path} lists no {split} clips; choose another split")
    return rows


def examples_of(
    data: Path, spec: InputSpec, wanted: Callable[[Row], bool], few: bool = False
) -> tuple[Sequence[Example | StoredExample], list[tuple[str, str]]]:
    """Some clips of a dataset, or of the shards that ``avff prepare`` made from one.

    Args:
        data: folder with a manifest.csv, or with shards.
        spec: input spec of the model.
        wanted: which rows to take.
        few: decode only two of each label, enough for a dry run.

    Returns:
        The clips, and path and reason of those that cannot be used. Shards do not record the split of a file
        that could not be decoded, so such files of all splits are listed.
    """
    from avff_lib.data.examples import load_examples
    from avff_lib.data.shards import left_out

    if stored := stored_examples(data, spec):
        return [example for example in stored if wanted(example.row)], left_out(data, spec)
    rows = [row for row in rows_of(data) if wanted(row)]
    if few:
        rows = [row for label in (0, 1) for row in [row for row in rows if row.label == label][:2]]
    examples, skipped = load_examples(rows, spec)
    return examples, by_path(skipped)


def stored_examples(data: Path, spec: InputSpec) -> list[StoredExample]:
    """All clips of a folder of shards; empty for any other folder."""
    from avff_lib.data.shards import INDEX_NAME, read_shards

    return read_shards(data, spec) if (data / INDEX_NAME).exists() else []


def by_path(skipped: Sequence[Skipped]) -> list[tuple[str, str]]:
    """Path and reason of each clip that was left out."""
    return [(str(entry.row.path), entry.reason) for entry in skipped]


def print_skipped(skipped: Sequence[tuple[str, str]]) -> None:
    """One line for each clip that was left out, path and reason, on stderr."""
    for path, reason in skipped:
        print(f"skipped {path}: {reason}", file=sys.stderr)


def error_rates(fitted: Calibration) -> str:
    """Error rates of a calibrated detector at its threshold, as part of a sentence."""
    clips = f"{fitted.clips} validation clips of {fitted.identities} people"
    if fitted.fpr is None or fitted.fnr is None:
        return f"error rates that {clips} are too few to measure"
    rates = f"{fitted.fpr:.1%} false positives and {fitted.fnr:.1%} false negatives"
    return f"{rates} on {clips}, each left out of the fit in turn"


def make_folder(out: Path) -> None:
    """Make a folder if there is none, and check that it is writable before hours of work."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()
    except OSError as error:
        raise AVFFError(f"{out} cannot be used ({error.strerror}); choose a writable folder") from None


def write_json(value: Any, path: Path) -> None:
    """Write a value as indented JSON; no file is left incomplete."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n")
