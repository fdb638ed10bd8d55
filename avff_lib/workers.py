"""Processes that share out independent work, one core each."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TypeVar

import cv2
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from avff_lib.clip import AVFFError

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    *,
    description: str,
    done: int = 0,
    unit: str = "clip",
) -> Iterator[Result]:
    """``function`` of each item, in the order of ``items``, with a progress bar.

    The processes are spawned, so a script that calls this must do it under
    ``if __name__ == "__main__":``, and ``function`` must be importable.

    Args:
        function: of one item.
        items: what to work on.
        workers: how many processes.
        description: of the progress bar.
        done: items finished earlier, which the bar counts.
        unit: what an item is called in the bar.

    Raises:
        AVFFError: a process died.
    """
    context = get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, context, initializer=_start) as pool:
            results = pool.map(function, items)
            yield from tqdm(results, desc=description, initial=done, total=done + len(items), unit=unit)
    except BrokenProcessPool:
        raise AVFFError(
            "a worker process died, often for lack of memory; run the command again with fewer workers"
        ) from None


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and stops the pool
    # A parent that is killed outright cannot stop anybody, so each worker watches for its end.
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    threadpool_limits(1)


def _leave_with_parent() -> None:
    parent_process().join()
    os._exit(1)
