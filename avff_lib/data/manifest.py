"""The manifest of a dataset: one row per clip."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from avff_lib.errors import AVFFError
from avff_lib.utils.atomic import atomic_write

CATEGORIES = ("RVRA", "RVFA", "FVRA", "FVFA")  # real/fake video, real/fake audio (FakeAVCeleb)
SPLITS = ("train", "val", "test")
COLUMNS = ("path", "label", "category", "method", "source", "targets", "split", "fake_segments", "group")


@dataclass(frozen=True)
class Row:
    """One clip of a dataset.

    Attributes:
        path: the media file.
        label: 1 if any part of either stream is fake, else 0.
        category: one of `CATEGORIES`.
        method: name of the forgery, ``"real"`` for real clips.
        source: identity seen in the clip's own recording.
        targets: identities whose face or voice was put in.
        split: one of `SPLITS`.
        fake_segments: (start, end) of each fake part, in seconds; empty if real or not known.
        group: of people that the source belongs to, as the dataset names it, such as
            ``"African, women"``; empty if not known. Metrics are given for each.
    """

    path: Path
    label: int
    category: str
    method: str
    source: str
    targets: tuple[str, ...] = ()
    split: str = "test"
    fake_segments: tuple[tuple[float, float], ...] = ()
    group: str = ""


def write_manifest(rows: Iterable[Row], path: Path) -> None:
    """Write ``rows`` as CSV, paths relative to the manifest's folder, in one atomic step."""
    with atomic_write(path) as partial, partial.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for row in rows:
            segments = ";".join(f"{start:.3f}-{end:.3f}" for start, end in row.fake_segments)
            where = Path(os.path.relpath(row.path, path.parent)).as_posix()
            targets = ";".join(row.targets)
            values = (row.label, row.category, row.method, row.source, targets, row.split, segments)
            table.writerow([where, *values, row.group])


def read_manifest(path: Path) -> list[Row]:
    """Read a manifest written by `write_manifest`, or by hand with the same header.

    Only ``path`` and ``label`` are required; the other columns have defaults that follow from the label.

    Raises:
        AVFFError: the file is missing or empty, a required column is missing, a value is not one
            of those allowed, or a path leaves the manifest's folder.
    """
    if not path.is_file():
        raise AVFFError(f"{path} does not exist; expected a manifest.csv with {', '.join(COLUMNS)}")
    with path.open(newline="") as file:
        table = csv.DictReader(file)
        missing = {"path", "label"} - set(table.fieldnames or ())
        if missing:
            raise AVFFError(f"{path} lacks the column {min(missing)}; its header must hold path and label")
        rows = [_parse(record, path, line) for line, record in enumerate(table, start=2)]
    if not rows:
        raise AVFFError(f"{path} lists no clips; add one line per clip below the header")
    return rows


def _parse(record: dict[str, str | None], manifest: Path, line: int) -> Row:
    def value(column: str, default: str, allowed: tuple[str, ...] = ()) -> str:
        text = (record.get(column) or default).strip()
        if allowed and text not in allowed:
            raise AVFFError(
                f"{manifest}, line {line}: {column} is {text!r}; expected one of {', '.join(allowed)}"
            )
        return text

    root = manifest.parent.resolve()
    path = (root / value("path", "")).resolve()
    if not path.is_relative_to(root):
        raise AVFFError(f"{manifest}, line {line}: {path} leaves the manifest's folder; use a relative path")
    label = int(value("label", "", ("0", "1")))
    try:
        segments = tuple(
            (float(start), float(end))
            for start, end in (part.split("-") for part in value("fake_segments", "").split(";") if part)
        )
    except ValueError:
        raise AVFFError(
            f"{manifest}, line {line}: fake_segments is {record['fake_segments']!r}; "
            "expected start-end in seconds, several joined by ;"
        ) from None
    return Row(
        path=path,
        label=label,
        category=value("category", "FVFA" if label else "RVRA", CATEGORIES),
        method=value("method", "unknown" if label else "real"),
        source=value("source", path.stem),
        targets=tuple(part for part in value("targets", "").split(";") if part),
        split=value("split", "test", SPLITS),
        fake_segments=segments,
        group=value("group", ""),
    )
