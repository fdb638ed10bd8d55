"""Whether the memory of ``avff predict`` grows with the length of the film.

    python benchmarks/memory.py

Each film is scored in a process of its own, and the process's peak is measured. The shortest film is longer
than the part of a film that is held in memory at once (`avff_lib.faces.tracked`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import tyro
from films import write_film
from tables import print_tables
from timing import Table, peak_memory, spread

QUICK = {"lengths": (2.0, 4.0), "repeats": 1}


def measure(
    lengths: tuple[float, ...] = (20.0, 80.0, 320.0), repeats: int = 2, height: int = 240, width: int = 320
) -> dict[str, Table]:
    """Peak memory for each length.

    Args:
        lengths: of films, in seconds.
        repeats: number of processes for each.
        height, width: of the picture, in pixels.
    """
    peaks = {}
    with TemporaryDirectory() as folder:
        for length in lengths:
            path = write_film(Path(folder, "film.mp4"), length, height, width)
            command = [sys.executable, "-m", "avff_lib", "predict", str(path)]
            peaks[f"{length:g} s"] = [peak_memory(command) / 1e6 for _ in range(repeats)]
    first = min(peaks[f"{lengths[0]:g} s"])
    return {
        "memory": {
            name: {"MB": spread(values), "ratio": spread([value / first for value in values])}
            for name, values in peaks.items()
        }
    }


if __name__ == "__main__":
    print_tables(tyro.cli(measure))
