"""Video files below a folder."""

from __future__ import annotations

from os.path import isfile
from pathlib import Path

# Searched for in folders; a file that is named itself is read whatever its suffix.
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
    """All of them, sorted, without hidden ones such as the ``._name.mp4`` that macOS leaves behind."""
    files = (path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    return sorted(path for path in files if isfile(path) and not path.name.startswith("."))
