"""Saved states of a run: written completely or not at all; the last few are kept; damage is detected."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from avff_lib.errors import AVFFError
from avff_lib.utils.atomic import atomic_write

History = list[dict[str, float]]

logger = logging.getLogger(__name__)


class Checkpoints:
    """The saved states of one run: the state of each of its parts, and its history.

    Args:
        folder: the run's folder.
        run: what must be the same when the run is resumed.
        parts: everything that has a ``state_dict``, by name.
        keep_last: number of states to keep.
    """

    def __init__(self, folder: Path, run: dict[str, Any], parts: dict[str, Any], keep_last: int) -> None:
        self.folder, self.run, self.parts, self.keep_last = folder, run, parts, keep_last

    def paths(self) -> list[Path]:
        """The saved states, oldest first."""
        return sorted(self.folder.glob("state-*.pt"))

    def save(self, history: History) -> None:
        """Write the state after ``len(history)`` steps, then delete all but the last few."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        with (
            self.report_full_disk("the state of this run"),
            atomic_write(self._path(len(history))) as partial,
        ):
            torch.save({**state, "run": self.run, "history": history}, partial)
        for old in self.paths()[: -self.keep_last]:
            old.unlink()

    def resume(self, steps: int) -> History:
        """Load the newest undamaged state into the parts.

        Args:
            steps: length of the whole run; more than before extends it.

        Returns:
            The history up to that state; empty in a fresh folder.

        Raises:
            AVFFError: the state belongs to another run, or to one that is already past ``steps``, or no saved
                state can be read.
        """
        for path in reversed(self.paths()):
            if not _is_whole(path):
                logger.warning("%s is damaged and is left out", path)
                continue
            saved = torch.load(path, weights_only=True, map_location="cpu")
            self._check(saved, steps)
            for name, part in self.parts.items():
                part.load_state_dict(saved[name])
            return saved["history"]
        if self.paths():
            raise AVFFError(f"no saved state in {self.folder} is whole; empty the folder to start again")
        return []

    @contextmanager
    def report_full_disk(self, what: str) -> Iterator[None]:
        """Turn a failure to write ``what`` into an `AVFFError` that names the last undamaged state."""
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            states = self.paths()
            safe = f"{states[-1].name} is whole" if states else "nothing was saved before"
            reason = str(error).strip().split("\n")[0]
            raise AVFFError(
                f"{what} cannot be written to {self.folder} ({reason}); {safe}: make room and run the same "
                "command again to continue"
            ) from error

    def _path(self, steps: int) -> Path:
        return self.folder / f"state-{steps:08d}.pt"

    def _check(self, saved: dict[str, Any], steps: int) -> None:
        for name, value in self.run.items():
            before = saved["run"].get(name)
            if before != value:
                raise AVFFError(
                    f"{self.folder} holds a run with another {name} ({before}, now {value}); choose another "
                    "folder, or restore the original settings to continue"
                )
        done = len(saved["history"])
        if done > steps:
            raise AVFFError(
                f"{self.folder} holds {done} steps of this run, more than the {steps} asked for; choose "
                f"another folder, or at least {done} steps to continue"
            )


def _is_whole(path: Path) -> bool:
    """Whether the file, a zip archive, matches its own checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, NotImplementedError):
        return False
