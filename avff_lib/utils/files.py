"""Files: videos below a folder, and the identity of a file, to detect changes."""

from __future__ import annotations

from os.path import isfile
from pathlib import Path

# Searched for in folders; a file that is named explicitly is read with any suffix.
VIDEO_SUFFIXES = {
    ".3gp",
    ".avi",
    ".flv",
    ".m2ts",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".ogv",
    ".ts",
    ".vob",
    ".webm",
    ".wmv",
}


def find_videos(folder: Path) -> list[Path]:
    """All videos, sorted, without hidden files such as the ``._name.mp4`` that macOS leaves behind."""
    files = (path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    return sorted(path for path in files if isfile(path) and not path.name.startswith("."))


def file_identity(path: Path) -> tuple[str, int, int]:
    """The identity of a file in stored results of earlier runs, without reading it.

    Returns:
        Its path, its size in bytes, and its modification time in nanoseconds; -1 for both if it is missing.
    """
    try:
        stat = path.stat()
    except OSError:
        return str(path), -1, -1
    return str(path), stat.st_size, stat.st_mtime_ns
