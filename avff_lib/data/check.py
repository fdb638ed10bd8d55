"""Open every file of a dataset: unreadable files, and the distribution of clips, durations and codecs."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from avff_lib.data.manifest import SPLITS, Row
from avff_lib.errors import AVFFError
from avff_lib.media.decode import MediaInfo, probe
from avff_lib.utils.parallel import parallel_map

LARGEST = 10  # kinds of files with a line of their own


@dataclass(frozen=True)
class FileCheck:
    """The results of opening every file.

    Attributes:
        media: properties of each readable file, by its row.
        unreadable: the other files, by the reason.
    """

    media: list[tuple[Row, MediaInfo]]
    unreadable: dict[str, list[Path]]

    @property
    def readable(self) -> list[Row]:
        """Rows of the files that can be used."""
        return [row for row, _ in self.media]

    def tables(self, *, split: bool) -> list[Table]:
        """Clips and people by category and method, with durations; codecs by class.

        Args:
            split: whether the splits of the rows are meaningful.
        """
        columns = SPLITS if split else ("clips",)
        by_method = defaultdict(list)
        by_codecs: dict[str, Counter[int]] = defaultdict(Counter)
        for row, info in self.media:
            by_method[row.category, row.method].append((row, info))
            size = f"{info.width}x{info.height}, {info.frame_rate:.3g} fps"
            by_codecs[f"{info.video_codec} {size}; {info.audio_codec} {info.sample_rate} Hz"][row.label] += 1
        clips = Table("category", "method", *columns, "people", "seconds: median", "5 % to 95 %")
        for (category, method), members in sorted(by_method.items()):
            counts = Counter(row.split if split else "clips" for row, _ in members)
            low, median, high = np.percentile([info.duration for _, info in members], (5, 50, 95))
            clips.add_row(
                category,
                method,
                *(f"{counts[column]:,}" for column in columns),
                f"{len({row.source for row, _ in members}):,}",
                f"{median:.1f}",
                f"{low:.1f} to {high:.1f}",
            )
        codecs = Table("video; audio", "real", "fake")
        common = sorted(by_codecs.items(), key=lambda entry: -entry[1].total())
        for name, of_class in common[:LARGEST]:
            codecs.add_row(name, f"{of_class[0]:,}", f"{of_class[1]:,}")
        if others := common[LARGEST:]:
            total = sum((of_class for _, of_class in others), Counter())
            codecs.add_row(f"{len(others)} others", f"{total[0]:,}", f"{total[1]:,}")
        return [clips, codecs]


def check_files(rows: Sequence[Row], *, workers: int | None = None) -> FileCheck:
    """Open every file and decode its first frame and sound.

    Args:
        rows: those of the dataset.
        workers: number of processes; by default one per core.
    """
    workers = min(workers or os.cpu_count() or 1, max(1, len(rows)))
    media, unreadable = [], defaultdict(list)
    found = parallel_map(_describe, rows, workers, description="opening files")
    for row, result in zip(rows, found, strict=True):
        if isinstance(result, MediaInfo):
            media.append((row, result))
        else:
            unreadable[result].append(row.path)
    return FileCheck(media, dict(unreadable))


def _describe(row: Row) -> MediaInfo | str:
    """Properties of a file, or the reason, without its path, why it cannot be used."""
    try:
        return probe(row.path)
    except AVFFError as error:
        return str(error).replace(str(row.path), "").strip()
