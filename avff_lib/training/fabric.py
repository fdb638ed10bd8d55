"""Device, precision and number of processes: a single process, or those that a launcher started."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import precision
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from avff_lib.utils.device import Device, pick_device


class MixedPrecision(precision.MixedPrecision):
    """bfloat16 only in the operations that autocast allows.

    Fabric would also round every input to three digits, including the patches and decibels that a model has
    to reconstruct.
    """

    def convert_input(self, data: Any) -> Any:
        return data


class ReplicaStrategy(DDPStrategy):
    """The same model in every process; `avff_lib.utils.distributed.sum_gradients` sums the gradients.

    DistributedDataParallel, which Fabric would wrap around the model, expects one loss whose gradient reaches
    every parameter. Here critics have their own loss, and each stage leaves out a part of the model.
    """

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]  # no wrapper here
        return module


def make_fabric(name: Literal["32-true", "bf16-mixed"], device: Device = "auto") -> Fabric:
    """Fabric at precision ``name``: one device or, under ``torchrun`` or ``fabric run``, one per process.

    Args:
        name: Fabric's name of the precision.
        device: ``"auto"`` takes an accelerator if there is one.

    Raises:
        AVFFError: a GPU was requested, but CUDA can use none.
    """
    launched = torch.distributed.is_torchelastic_launched()
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if launched else 1
    pick_device(device)
    if device == "auto" and (name != "32-true" or launched):  # not every accelerator supports these
        device = "cuda" if torch.cuda.is_available() else "cpu"
    fabric = Fabric(
        accelerator=device,
        devices=here,
        num_nodes=int(os.environ["WORLD_SIZE"]) // here if launched else 1,
        strategy=ReplicaStrategy() if launched else "auto",
        plugins=MixedPrecision(name, device) if name != "32-true" else None,
    )
    if "LT_CLI_USED" not in os.environ:  # under ``fabric run`` the processes are launched already
        fabric.launch()
    return fabric
