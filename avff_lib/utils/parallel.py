"""Independent work, distributed over the cores of this machine or of a cluster."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import cv2
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import BrokenProcessPool
from tqdm import tqdm

from avff_lib.errors import AVFFError
from avff_lib.utils.cluster import Engine, ray_map

IDLE_SECONDS = 10  # after which idle workers release their memory

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    *,
    description: str,
    done: int = 0,
    unit: str = "clip",
    bar: bool = True,
    engine: Engine = "local",
) -> Iterator[Result]:
    """Apply ``function`` to each item, with a progress bar; results in the order of ``items``.

    Local processes are joblib's (its backend loky), so a script needs no ``if __name__ == "__main__":``.

    Args:
        function: of one item.
        items: the items to process.
        workers: number of processes on this machine.
        description: of the progress bar.
        done: number of items finished earlier, which the bar counts.
        unit: name of an item in the bar.
        bar: whether to show it.
        engine: what runs the processes; see `avff_lib.utils.cluster.ray_map` for a cluster's requirements.

    Raises:
        AVFFError: a process died; with Ray, repeatedly.
    """
    run = ray_map if engine == "ray" else _local_map
    settings = {} if bar else {"disable": True}  # else TQDM_DISABLE decides
    yield from tqdm(
        run(function, items, workers),
        desc=description,
        initial=done,
        total=done + len(items),
        unit=unit,
        **settings,
    )


def _local_map(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    with parallel_config(
        "loky",
        inner_max_num_threads=1,
        idle_worker_timeout=IDLE_SECONDS,
        initializer=_start_worker,
        initargs=(os.getpid(),),
    ):
        pool = Parallel(workers, return_as="generator")
        here = partial(_call_in, os.getcwd(), function)
        results = pool(delayed(here)(item) for item in items)
    try:
        yield from results
    except BrokenProcessPool as error:
        if "SIGKILL" in str(error):  # what the system sends when memory runs out
            reason = "was killed, most likely for lack of memory; run the command again with fewer workers"
        else:
            reason = "crashed; run the command again with one worker, which shows where"
        raise AVFFError(f"a worker process {reason}") from error


def _call_in(folder: str, function: Callable[[Item], Result], item: Item) -> Result:
    """Call in ``folder``: workers serve several calls, and this process may have changed its folder."""
    os.chdir(folder)
    return function(item)


def _start_worker(parent: int) -> None:
    cv2.setNumThreads(1)
    # A killed parent cannot stop its workers, so each worker watches for the parent's end.
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()


def _exit_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
