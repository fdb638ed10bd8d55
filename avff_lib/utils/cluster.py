"""Independent work on a Ray cluster, or on this machine as if it were one.

Ray (Moritz et al. 2018, arXiv 1712.05889) is an extra: ``pip install 'avff-lib[ray]'``. Every node must have
this library, and find the files under the same paths.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from typing import Any, Literal, TypeVar

from avff_lib.errors import AVFFError
from avff_lib.utils.extras import explain_missing_extra

Engine = Literal["local", "ray"]  # processes of this machine, or of a Ray cluster
MAX_TASKS = 10_000  # Ray must track each, and repeats it as a whole if its worker dies
MAX_RETRIES = 3  # of a task whose worker died

Item = TypeVar("Item")
Result = TypeVar("Result")


def ray_map(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[Result]:
    """Apply ``function`` to each item by Ray Data, one core each; results in the order of ``items``.

    The cluster is the one that this process is connected to, or else that of the variable ``RAY_ADDRESS``.
    Without either, one is started on this machine and stopped at the end.

    Args:
        function: of one item; a worker that dies is replaced, and calls it again.
        items: the items to process.
        workers: cores of a cluster that is started here; by default all.

    Raises:
        AVFFError: raised by ``function``; or Ray is missing, there is no cluster at the address, or workers
            died over the same items more than `MAX_RETRIES` times.
    """
    with explain_missing_extra("--engine ray"):
        import ray
        import ray.data
        from ray.exceptions import RayError, RayTaskError, WorkerCrashedError
    if not items:
        return
    with _quiet():
        try:
            with _cluster(workers):
                rows = _rows(function, items)
                while True:
                    # Ray prints there that a worker died, amid requested JSON output.
                    with redirect_stdout(sys.stderr):
                        row = next(rows, None)
                    if row is None:
                        return
                    value, error = ray.cloudpickle.loads(row["result"])
                    if error:
                        raise error
                    yield value
        except RayTaskError:  # a bug, with the traceback of the worker
            raise
        except WorkerCrashedError as error:
            raise AVFFError(
                f"workers died {MAX_RETRIES + 1} times over the same item; run the command again with "
                "--engine local --workers 1, which shows where"
            ) from error
        except ConnectionError:
            raise AVFFError(
                f"no Ray cluster answers at {os.environ.get('RAY_ADDRESS')}; correct RAY_ADDRESS, or, if it "
                "asks for a token, set RAY_AUTH_MODE=token"
            ) from None
        except (RayError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise AVFFError(f"Ray gave up ({reason}); run the command again to continue") from error


def _rows(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[dict[str, bytes]]:
    """Packed results, as tasks end."""
    import ray

    # As bytes, since Ray would store lists and arrays as tables, and return them as other types.
    packed = [{"item": ray.cloudpickle.dumps(item)} for item in items]
    data = ray.data.from_items(packed, override_num_blocks=min(len(items), MAX_TASKS))
    data.context.enable_progress_bars = False  # `parallel_map` shows one
    data.context.execution_options.preserve_order = True
    with warnings.catch_warnings():  # about the removal of `max_retries`; by default there is no limit
        warnings.simplefilter("ignore")
        results = data.map(partial(_call, function, os.getcwd()), num_cpus=1, max_retries=MAX_RETRIES)
    return iter(results.iter_rows())


def _call(function: Callable[[Any], Any], folder: str, row: dict[str, bytes]) -> dict[str, bytes]:
    """The function of one packed item: its value, or the error that it ended with."""
    import cv2  # not at the top: the command line imports this module and must respond at once
    import ray

    cv2.setNumThreads(1)  # there is a task for each core; Ray limits PyTorch's threads
    with suppress(OSError):  # a node may lack it, where all paths are absolute
        os.chdir(folder)
    value, error = None, None
    try:
        value = function(ray.cloudpickle.loads(row["item"]))
    except AVFFError as sentence:
        error = sentence
    return {"result": ray.cloudpickle.dumps((value, error))}


@contextmanager
def _cluster(workers: int | None) -> Iterator[None]:
    """Connect to a cluster, or start one that ends with this block."""
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # report nothing to anybody
    settings: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        settings = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=False, **settings)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Ray's messages on each step, and on errors that are reported as a sentence."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
