"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; at the end that file replaces ``path`` in one step.

    If writing fails, a file at ``path`` stays as it was, and the temporary one is removed. Of several writers
    at the same time the last one wins, each with a file of its own. What was written is on the disk before it
    takes its place, so that a loss of power leaves the old file or the new one.

    The temporary file is there already, empty, with the permissions that new files get.
    """
    partial = path.with_name(f"{temporary_name()}.partial")
    partial.touch(exist_ok=False)
    try:
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # safetensors puts a file of its own there, which nobody else may read
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def temporary_name() -> str:
    """A name that nobody else uses, short however long the final one is; the dot hides it from listings."""
    return f".{secrets.token_hex(8)}"


def flush(path: Path) -> None:
    """Wait until a file's contents, or a folder's list of names, are on the disk."""
    if path.is_dir():
        with suppress(OSError):  # not every system lets one open a folder, or flush it
            _fsync(path, os.O_RDONLY)
    else:
        _fsync(path, os.O_RDWR)


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder alone, or together with others that only read it; whoever else asks for it waits.

    The lock ends with the process, however that ends. Where there are no locks (Windows, some network drives)
    nothing is held.
    """
    with ExitStack() as held:
        if sys.platform != "win32":
            with suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY)
                held.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
                # Not left to `close`: a process forked meanwhile has a copy that would go on holding it.
                held.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)
        yield


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
