"""Where a model runs; imports nothing heavy: the command line lists the choices in its help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from avff_lib.errors import AVFFError

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]


def pick_device(device: Device, setting: str = "the device") -> torch.device:
    """The device of that name; ``auto`` is the GPU if there is one.

    Args:
        device: the chosen device.
        setting: name of the option that chose it, for the error message.

    Raises:
        AVFFError: a GPU was requested, but PyTorch can use none.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise AVFFError(f"{setting} is cuda, but no GPU can be used; take auto or cpu")
    return torch.device(device)
