"""Times of rivals that take turns, their spread, the exponents of laws, and the memory of a child process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Spread = dict[str, float]
Table = dict[str, dict[str, Spread | float | str]]  # row, column

# A process inherits the peak of its parent, so a small process is started in between.
LAUNCHER = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def take_turns(
    works: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, np.ndarray]:
    """Seconds of each call, ``(repeats,)``: all are called once, then all once more, and so on.

    A temporary slowdown of the machine thus affects all of them, and their ratios in each turn stay.

    Args:
        works: calls to time, by name.
        repeats: number of timed turns.
        warm_up: whether to start with an untimed turn, since first calls are slower.
        clock: in seconds; `time.process_time` counts only the work of this process.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(-warm_up, repeats):
        for name, work in works.items():
            start = clock()
            work()
            if turn >= 0:
                seconds[name].append(clock() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def spread(values: Sequence[float] | np.ndarray) -> Spread:
    """Median, lowest and highest, to four digits."""
    ends = {"median": np.median(values), "low": np.min(values), "high": np.max(values)}
    return {name: float(f"{value:.4g}") for name, value in ends.items()}


def exponent(sizes: Sequence[float], seconds: np.ndarray) -> Spread:
    """k of seconds = c sizes^k, by least squares of the logarithms, turn by turn.

    Args:
        sizes: of the work, ``(N,)``.
        seconds: its times, ``(turns, N)``.
    """
    return spread([np.polyfit(np.log(sizes), np.log(turn), 1)[0] for turn in seconds])


def peak_memory(command: Sequence[str]) -> int:
    """Peak memory of a program, in bytes.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    launched = [sys.executable, "-c", LAUNCHER, *command]
    result = subprocess.run(launched, check=True, stdout=subprocess.PIPE, text=True)
    return int(result.stdout) * (1 if sys.platform == "darwin" else 1024)
