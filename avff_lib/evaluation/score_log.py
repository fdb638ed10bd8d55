"""Scores that are appended to a file as they are computed, one line per clip."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avff_lib.errors import AVFFError
from avff_lib.utils.atomic import atomic_write, locked


class ScoreLog:
    """A file of JSON lines: first the settings that the scores depend on, then one entry after the other.

    Attributes:
        entries: those of earlier runs, without the appended ones.
    """

    def __init__(self, path: Path, settings: dict[str, Any], fields: Collection[str]) -> None:
        self.entries: list[dict[str, Any]] = []
        self._path = path
        if not path.exists():
            with atomic_write(path) as partial:
                partial.write_text(json.dumps(settings) + "\n")
            return
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        try:
            found, *self.entries = map(json.loads, whole.splitlines())
            differs = [name for name, value in settings.items() if found[name] != value]
            if any(field not in entry for entry in self.entries for field in fields):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise AVFFError(
                f"{path} holds no scores of an earlier run; remove it or choose another folder"
            ) from None
        for name in differs:
            raise AVFFError(
                f"{path} holds scores with another {name}; choose another folder, or remove it to start again"
            )
        if len(whole) < len(text):  # a killed run left an incomplete last line
            os.truncate(path, len(whole))

    def append(self, entry: dict[str, Any]) -> None:
        """Write an entry as one line."""
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


@contextmanager
def open_log(path: Path, settings: dict[str, Any], fields: Collection[str]) -> Iterator[ScoreLog]:
    """A log, locked for this process; others that open it wait.

    Args:
        path: of the file; its folder need not exist.
        settings: values that JSON can hold, with lists instead of tuples.
        fields: names of the fields of every entry.

    Raises:
        AVFFError: the file holds something else, or scores with other settings.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        yield ScoreLog(path, settings, fields)
