"""Independent work on a Ray cluster, or on this machine as if it were one.

Ray (Moritz et al. 2018, arXiv 1712.05889) is an extra: ``pip install 'avff-lib[ray]'``. Every node must have
this library, and find the files under the same paths.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, TypeVar

from avff_lib.errors import AVFFError
from avff_lib.utils.extras import explain_missing_extra

Engine = Literal["local", "ray"]  # processes of this machine, or of a Ray cluster
MAX_BLOCKS = 10_000  # tasks; each has to be remembered, and done again as a whole if its worker dies
MAX_RETRIES = 3  # of a task whose worker died

Item = TypeVar("Item")
Result = TypeVar("Result")


def ray_map(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[Result]:
    """``function`` of each item by Ray Data, one core each, in the order of ``items``.

    The cluster is the one that runs already, or that of the variable ``RAY_ADDRESS``; without either, one is
    started on this machine and stopped at the end.

    Args:
        function: of one item; a worker that dies is replaced, and calls it again.
        items: what to work on.
        workers: cores of a cluster that is started here; by default all.

    Raises:
        AVFFError: the one that ``function`` raised; or Ray is missing, there is no cluster at the address, or
            a worker died `MAX_RETRIES` times over the same items.
    """
    with explain_missing_extra("--engine ray"):
        import ray
        from ray.exceptions import RayError

    try:
        with _cluster(workers):
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False  # `parallel_map` shows one
            context.execution_options.preserve_order = True
            # As bytes, since Ray would store lists and arrays as tables, and give them back as other types.
            packed = [{"item": ray.cloudpickle.dumps(item)} for item in items]
            results = ray.data.from_items(packed, override_num_blocks=min(len(items), MAX_BLOCKS)).map(
                partial(_call, function), num_cpus=1, max_retries=MAX_RETRIES
            )
            for row in results.iter_rows():
                value, error = ray.cloudpickle.loads(row["result"])
                if error:
                    raise error
                yield value
    except (RayError, ConnectionError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise AVFFError(
            f"Ray gave up ({reason}); run the command again, which goes on, or with --engine local"
        ) from error


def _call(function: Callable[[Any], Any], row: dict[str, bytes]) -> dict[str, bytes]:
    """The function of one packed item; its value, or the sentence that it ended with."""
    import cv2
    import ray

    cv2.setNumThreads(1)  # as many tasks as cores
    value, sentence = None, None
    try:
        value = function(ray.cloudpickle.loads(row["item"]))
    except AVFFError as error:
        sentence = error
    return {"result": ray.cloudpickle.dumps((value, sentence))}


@contextmanager
def _cluster(workers: int | None) -> Iterator[None]:
    """Connect to a cluster, or start one that ends with this block."""
    import ray

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is to be reported to anybody
    started: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False}
    if os.environ.get("RAY_ADDRESS"):
        started = {}
    ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=False, **started)
    try:
        yield
    finally:
        ray.shutdown()
