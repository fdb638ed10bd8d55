"""One batch spread over several processes, each with its own rows: the exchange between them.

A loss over the whole batch (negatives, statistics, a mean over masked tokens) would change if each process
computed it from its own rows alone. With these functions it stays the same for any number of processes, if
all have the same number of rows. In a single process they do nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_gather


def world_size() -> int:
    """Number of processes that share a batch."""
    return distributed.get_world_size() if _together() else 1


def rank() -> int:
    """Number of this process, from 0; only process 0 writes files and shows progress."""
    return distributed.get_rank() if _together() else 0


def gathered(rows: Tensor) -> Tensor:
    """Rows ``(N, ...)`` of every process -> ``(world_size x N, ...)``; gradients flow back to each."""
    return torch.cat(all_gather(rows)) if _together() else rows


def mean(value: Tensor) -> Tensor:
    """Mean over the processes, the same in each of them; no gradient."""
    value = value.detach().clone()
    if _together():
        distributed.all_reduce(value)
    return value / world_size()


def std_mean(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean over the rows ``(N, D)`` of all processes, each ``(D,)``; no gradient."""
    count = len(rows) * world_size()
    center = mean(rows.mean(dim=0))
    variance = mean((rows - center).square().mean(dim=0)) * count / max(count - 1, 1)
    return variance.sqrt(), center


def rand(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform draws for the rows ``(N, ...)`` of this process, on the CPU.

    Every process draws for the whole batch and keeps its part, so the draw of a row does not depend on the
    number of processes.
    """
    whole = torch.rand(world_size() * shape[0], *shape[1:], generator=generator)
    return whole.chunk(world_size())[rank()]


def copy_from_first(module: nn.Module) -> None:
    """Give every process the weights of process 0."""
    if _together():
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, 0)


def sum_gradients(module: nn.Module) -> None:
    """Sum the gradients of all processes, in place.

    Call it once per step, after the backward pass: a parameter that had no part in the loss is left alone,
    and two losses or several micro-batches need no special treatment. For billions of weights, PyTorch's
    DistributedDataParallel, which sends during the backward pass, would be worth its restrictions.
    """
    if _together():
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        for work in [distributed.all_reduce(gradient, async_op=True) for gradient in gradients]:
            work.wait()


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
