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
    """Yield a temporary path beside ``path``; at the end, that file replaces ``path`` in one step.

    If writing fails, a file at ``path`` stays as it was, and the temporary one is removed. Several writers at
    the same time use separate files, and the last one wins. The contents are on disk before the replacement,
    so a power failure leaves either the old file or the new one.

    The temporary file already exists and is empty, with the permissions of a new file.
    """
    partial = path.with_name(f"{temporary_name()}.partial")
    partial.touch(exist_ok=False)
    try:
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # safetensors replaces it by a file that nobody else may read
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def temporary_name() -> str:
    """A unique name, short even if the final name is long; the dot hides it from listings."""
    return f".{secrets.token_hex(8)}"


def flush(path: Path) -> None:
    """Wait until a file's contents, or a folder's list of names, are on disk."""
    if path.is_dir():
        with suppress(OSError):  # not every system can open or flush a folder
            _fsync(path, os.O_RDONLY)
    else:
        _fsync(path, os.O_RDWR)


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Lock a folder for this process, or share it with other readers; further processes wait.

    The lock ends with the process, even if that is killed. Systems without locks (Windows, some network
    drives) do not lock.
    """
    with ExitStack() as held:
        if sys.platform != "win32":
            with suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY)
                held.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
                # `close` is not enough: a process forked meanwhile has a copy that would keep the lock.
                held.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)
        yield


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
