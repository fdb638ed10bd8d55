"""Logs of a training run: a progress bar, a CSV file, TensorBoard."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from avff_lib.errors import AVFFError
from avff_lib.utils.atomic import atomic_write

CSV_NAME = "log.csv"
TENSORBOARD_NAME = "tensorboard"
PLAIN_SECONDS = 10.0  # between two lines if there is no terminal for a bar
SHOWN_FIELDS = ("loss", "lr", "retrieval", "accuracy", "feature_std", "validation")
PERCENTAGES = {"retrieval", "accuracy"}


class TrainingLogger:
    """Writes the record of every step to the console, to ``log.csv`` and to TensorBoard.

    The first record's step is where a run is resumed: rows of that step and later ones, which a killed run
    wrote after its last saved state, are removed, so no step occurs twice. The CSV has every step;
    TensorBoard's files may lack the last seconds before a kill.

    The console shows a bar, or a line every `PLAIN_SECONDS` if stderr is not a terminal or ``TQDM_DISABLE``
    is set.

    Args:
        folder: the run's folder.
        total: number of steps of the whole run.
        batch_size: windows per step, for the throughput.
    """

    def __init__(self, folder: Path, total: int, batch_size: int) -> None:
        self.folder, self.total, self.batch_size = folder, total, batch_size
        self.last_step_time = self.last_line_time = self.start_time = time.perf_counter()
        self.first: int | None = None

    def step(self, record: Mapping[str, float]) -> None:
        """Log one record of `avff_lib.training.loop.fit`, with ``windows_per_second`` added.

        Raises:
            AVFFError: the folder cannot be written to.
        """
        now = time.perf_counter()
        row = {**record, "windows_per_second": self.batch_size / (now - self.last_step_time)}
        self.last_step_time = now
        try:
            if self.first is None:
                self._open(int(row["step"]))
            self._write(row)
            for name, value in row.items():
                if name != "step":
                    self.tensorboard.add_scalar(name, value, row["step"])
        except OSError as error:
            raise AVFFError(
                f"the log cannot be written to {self.folder} ({error}); make room and run the same command "
                "again to continue"
            ) from error
        self._show(row, now)

    def close(self) -> None:
        """Flush and close everything; does nothing if nothing was logged, or when called again."""
        if self.first is None:
            return
        self.first = None
        self.bar.stop()
        with suppress(OSError):  # each row was flushed; `step` has reported a full disk
            self.file.close()
        with suppress(OSError):
            self.tensorboard.close()

    def __enter__(self) -> TrainingLogger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self.folder.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_rows(self.folder / CSV_NAME) if int(row["step"]) < first]
        self._rewrite(list(kept[0]) if kept else ["step"], kept)
        # ``purge_step`` hides older events of the step ``first`` and later ones.
        self.tensorboard = SummaryWriter(str(self.folder / TENSORBOARD_NAME), purge_step=first, flush_secs=10)
        console = Console(stderr=True)
        self.plain = not console.is_terminal or bool(os.environ.get("TQDM_DISABLE"))
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[summary]}"),
            console=console,
            disable=self.plain,
        )
        self.bar.start()
        self.first = first
        self.task = self.bar.add_task("", total=self.total, completed=first, summary="")

    def _write(self, row: Mapping[str, float]) -> None:
        new = [name for name in row if name not in self.table.fieldnames]
        if new:  # the first row, or the first one with a value that is not known at every step
            self.file.close()
            self._rewrite([*self.table.fieldnames, *new], read_rows(self.folder / CSV_NAME))
        self.table.writerow(row)
        self.file.flush()  # flushed data survives a killed process

    def _rewrite(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        path = self.folder / CSV_NAME
        with atomic_write(path) as partial, partial.open("w", newline="") as file:
            table = csv.DictWriter(file, columns, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
        self.file = path.open("a", newline="")
        self.table = csv.DictWriter(self.file, columns, lineterminator="\n")

    def _show(self, row: Mapping[str, float], now: float) -> None:
        assert self.first is not None  # since `_open`
        done = int(row["step"]) + 1
        summary = _summary(row, (now - self.start_time) / (done - self.first) * (self.total - done))
        self.bar.update(self.task, completed=done, summary=summary)
        if self.plain and (now - self.last_line_time > PLAIN_SECONDS or done == self.total):
            self.last_line_time = now
            print(f"step {done}/{self.total}  {summary}", file=sys.stderr, flush=True)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a log, as text; an incomplete last line is ignored."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if line.endswith("\n")))


def _summary(row: Mapping[str, float], seconds_left: float) -> str:
    parts = [
        f"{name} {row[name]:.0%}" if name in PERCENTAGES else f"{name} {row[name]:.3g}"
        for name in SHOWN_FIELDS
        if name in row
    ]
    minutes, seconds = divmod(round(seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    time_left = f"{hours}:{minutes:02d}:{seconds:02d} left"
    return "  ".join([*parts, f"{row['windows_per_second']:.1f} windows/s", time_left])
