"""A fingerprint of training data, so that a run is resumed only on the data that it was started with."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from avff_lib.data.examples import Example
from avff_lib.data.shards import StoredExample, checksums
from avff_lib.preprocess.spec import InputSpec


def fingerprint(examples: Sequence[Example | StoredExample], spec: InputSpec) -> str:
    """Hash, twelve hexadecimal digits, of everything that the windows of a dataset are drawn from.

    It covers the rows with their clips' positions in time, in order, since the order decides the draws; the
    size of each media file, or the checksum of its shard; and the form of the windows. No clip is read. A
    dataset that is moved to another folder keeps its fingerprint.

    Args:
        examples: those of the dataset.
        spec: that of the windows.
    """
    paths = [str(example.row.path) for example in examples]
    folders = [os.path.dirname(path) for path in paths if os.path.isabs(path)]
    root = os.path.commonpath(folders) if folders else ""
    checksums_of = functools.cache(checksums)
    entries = []
    for path, example in zip(paths, examples, strict=True):
        name = Path(os.path.relpath(path, root) if os.path.isabs(path) else path).as_posix()
        content = (
            (example.key, checksums_of(example.shard.parent)[example.shard.name])
            if isinstance(example, StoredExample)
            else _size(path)
        )
        entries.append([{**asdict(example.row), "path": name}, example.start, example.duration, content])
    return hashlib.sha256(json.dumps([asdict(spec), entries], default=str).encode()).hexdigest()[:12]


def _size(path: str) -> int | None:
    """Bytes of a file; None if its clip was made in memory."""
    return os.path.getsize(path) if os.path.exists(path) else None
