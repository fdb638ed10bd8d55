"""The manifest of a dataset: one row per clip."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avff_lib.errors import AVFFError
from avff_lib.utils.atomic import atomic_write
from avff_lib.utils.extras import explain_missing_extra

CATEGORIES = ("RVRA", "RVFA", "FVRA", "FVFA")  # real/fake video, real/fake audio (FakeAVCeleb)
SPLITS = ("train", "val", "test")
LABELS = {"0": 0, "1": 1, "real": 0, "fake": 1}
MANIFESTS = ("manifest.csv", "manifest.parquet")  # names that are looked for in a dataset's folder
COLUMNS = ("path", "label", "category", "method", "source", "targets", "split", "fake_segments", "group")
SEGMENT = re.compile(r"(\d+\.?\d*)-(\d+\.?\d*)", re.ASCII)  # no sign, no exponent, no nan
CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # a name with a line break or a NUL is a damaged one


@dataclass(frozen=True)
class Row:
    """One clip of a dataset.

    Attributes:
        path: the media file; in a manifest that was read, absolute and below its folder, links not followed.
        label: 1 if any part of either stream is fake, else 0.
        category: one of `CATEGORIES`.
        method: name of the forgery, ``"real"`` for real clips.
        source: identity seen in the clip's own recording.
        targets: identities whose face or voice was inserted.
        split: one of `SPLITS`.
        fake_segments: (start, end) of each fake part, in seconds from the beginning of the file, 0 <= start <
            end; in any order, possibly overlapping. Empty if the clip is real, or if its fake parts are not
            known.
        group: group of people that the source belongs to, as the dataset names it, such as
            ``"African, women"``; empty if not known. Metrics are computed for each.
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
    """Write ``rows`` as CSV in UTF-8, paths relative to the manifest's folder, in one atomic step."""
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for row in rows:
            segments = ";".join(f"{start:.3f}-{end:.3f}" for start, end in row.fake_segments)
            where = Path(os.path.relpath(row.path, path.parent)).as_posix()
            targets = ";".join(row.targets)
            values = (row.label, row.category, row.method, row.source, targets, row.split, segments)
            table.writerow([where, *values, row.group])


def find_manifest(folder: Path) -> Path:
    """The manifest of a dataset: the first of `MANIFESTS` that exists, or else its expected path."""
    return next((path for name in MANIFESTS if (path := folder / name).exists()), folder / MANIFESTS[0])


def read_manifest(path: Path) -> list[Row]:
    """Read a manifest written by `write_manifest`, or by hand with the same columns, as CSV or Parquet.

    Only ``path`` and ``label`` are required; the other columns have defaults that follow from the label, and
    other columns are ignored. The label is 0 or 1, or the word ``real`` or ``fake``. Media may be links to
    files elsewhere; a path that itself leaves the manifest's folder is refused. In Parquet, ``targets`` may
    be lists of names and ``fake_segments`` lists of (start, end) in seconds.

    Raises:
        AVFFError: the file is missing, empty or neither CSV in UTF-8 nor Parquet, a required column is
            missing, a line has too few or too many fields, or a value is not allowed; the message gives the
            line number.
    """
    rows = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    if not rows:
        raise AVFFError(f"{path} lists no clips; add one line per clip below the header")
    return rows


def _read_csv(path: Path) -> list[Row]:
    try:
        # Spreadsheets prepend a byte-order mark, which "utf-8-sig" removes.
        file = path.open(newline="", encoding="utf-8-sig")
    except FileNotFoundError:
        raise AVFFError(f"{path} does not exist; expected a manifest.csv with {', '.join(COLUMNS)}") from None
    except OSError as error:
        raise AVFFError(f"{path} cannot be read ({error.strerror}); expected a CSV file") from None
    with file:
        table = csv.reader(file, strict=True)
        try:
            return list(_rows(table, path.parent.absolute()))
        except UnicodeDecodeError:
            raise AVFFError(f"{path} is not text in UTF-8; save it as CSV in UTF-8") from None
        except csv.Error as error:
            line = table.line_num
            raise AVFFError(f"{path}, line {line}: no CSV ({error}); check its quotation marks") from None
        except ValueError as error:
            raise AVFFError(f"{path}, line {max(table.line_num, 1)}: {error}") from None


def _read_parquet(path: Path) -> list[Row]:
    with explain_missing_extra(f"reading {path}"):
        import pyarrow as pa
        import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise AVFFError(f"{path} does not exist; expected a manifest with {', '.join(COLUMNS)}") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise AVFFError(f"{path} cannot be read ({error}); expected a Parquet file") from None
    rows: list[Row] = []
    try:
        _check_header(table.column_names)
        known = table.select([name for name in table.column_names if name in COLUMNS])
        for record in known.to_pylist():
            text = {name: _as_text(value) for name, value in record.items()}
            rows.append(_parse(text, path.parent.absolute()))
    except ValueError as error:
        raise AVFFError(f"{path}, row {len(rows) + 1}: {error}") from None
    return rows


def _as_text(value: Any) -> str:
    """A value of a Parquet column as it would be written in CSV."""
    if value is None:
        return ""
    if isinstance(value, list):  # of names, or of segments
        pair = "{0[0]:.3f}-{0[1]:.3f}".format
        return ";".join(part if isinstance(part, str) else pair(part) for part in value)
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))  # a label of 0 or 1 that pandas converted
    return str(value)


def _rows(table: Iterator[list[str]], root: Path) -> Iterator[Row]:
    """The lines of a CSV file as rows.

    Raises:
        ValueError: a line is wrong; the message is the sentence for the user.
    """
    header = [name.strip() for name in next(table, [])]
    _check_header(header)
    for fields in table:
        if len(fields) not in (0, len(header)):
            raise ValueError(
                f"{len(fields)} fields, but {len(header)} in the header; quote values that hold a comma"
            )
        if fields:
            yield _parse(dict(zip(header, fields, strict=True)), root)


def _check_header(header: Sequence[str]) -> None:
    missing = {"path", "label"} - set(header)
    if missing:
        raise ValueError(
            f"the header lacks the column {min(missing)}; it must hold path and label, separated by commas"
        )
    for column in COLUMNS:
        if header.count(column) > 1:
            raise ValueError(f"the header holds {column} {header.count(column)} times; keep one of them")


def _parse(record: dict[str, str], root: Path) -> Row:
    def value(column: str, default: str, allowed: Collection[str] = ()) -> str:
        text = record.get(column, "").strip() or default
        if CONTROL.search(text):
            raise ValueError(f"{column} is {_quoted(text)}, with a control character; expected plain text")
        if allowed and text not in allowed:
            raise ValueError(f"{column} is {_quoted(text)}; expected one of {', '.join(allowed)}")
        return text

    text = value("path", "")
    # By names only: links inside the folder may lead to the media.
    relative = Path(os.path.relpath(root / text, root))
    if relative.parts[:1] in ((), ("..",)):
        raise ValueError(
            f"path is {_quoted(text)}, which is not below the manifest's folder; expected a relative path"
        )
    label = LABELS[value("label", "", LABELS)]
    segments = tuple(_segment(part) for part in value("fake_segments", "").split(";") if part.strip())
    if segments and not label:
        raise ValueError(
            f"fake_segments is {_quoted(record['fake_segments'])}, but the label is real; expected none"
        )
    return Row(
        path=root / relative,
        label=label,
        category=value("category", "FVFA" if label else "RVRA", CATEGORIES),
        method=value("method", "unknown" if label else "real"),
        source=value("source", relative.stem),
        targets=tuple(part for part in value("targets", "").split(";") if part),
        split=value("split", "test", SPLITS),
        fake_segments=segments,
        group=value("group", ""),
    )


def _segment(text: str) -> tuple[float, float]:
    match = SEGMENT.fullmatch(text.strip())
    start, end = map(float, match.groups()) if match else (0.0, 0.0)
    if not start < end < math.inf:
        raise ValueError(
            f"fake_segments holds {_quoted(text)}; expected start-end in seconds, the start before the end, "
            "several joined by ;"
        )
    return start, end


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}…")
