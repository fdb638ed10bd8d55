"""What a training would do, found out on a few windows: data, parameters, steps, memory, time."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from avff_lib.clip import AVFFError, ModelInputs
from avff_lib.data.manifest import SPLITS, Row
from avff_lib.models.base import Detector
from avff_lib.objectives import Objective
from avff_lib.training.checkpoint import Checkpoints
from avff_lib.training.launch import launch
from avff_lib.training.optim import make_optimizers
from avff_lib.training.settings import TrainSettings

BUDGET = 5.0  # seconds that a timed pass may take

Batches = Callable[[int], tuple[ModelInputs, Tensor]]


@dataclass(frozen=True)
class Plan:
    """What a training would do.

    Attributes:
        clips: how many the dataset lists, by split, label and method.
        used: how many of them this stage learns from.
        settings: of the training.
        parameters: by part of the model, all and those that would be trained.
        activations: bytes that a micro-batch keeps for its backward pass.
        seconds: that a step takes.
        device: where it was timed.
        folder: what the run's folder holds, in one sentence.
    """

    clips: dict[tuple[str, int, str], int]
    used: int
    settings: TrainSettings
    parameters: dict[str, tuple[int, int]]
    activations: int
    seconds: float
    device: str
    folder: str

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by what they are for; weights, gradients and averages are float32."""
        everything, trained = (sum(counts) for counts in zip(*self.parameters.values(), strict=True))
        return {
            "weights": 4 * everything,
            "gradients": 4 * trained,
            "Adam's two averages": 8 * trained,
            "averaged weights": 4 * everything if self.settings.ema else 0,
            "activations": self.activations,
        }

    def show(self, console: Console) -> None:
        """Print it for people."""
        clips = _table("clips", "label", *SPLITS)
        for label, method in sorted({(label, method) for _, label, method in self.clips}):
            found = (self.clips.get((split, label, method), 0) for split in SPLITS)
            clips.add_row(method, str(label), *(f"{count:,}" for count in found))
        parts = _table("part of the model", "parameters", "trained")
        for name, counts in self.parameters.items():
            parts.add_row(name, *(f"{count:,}" for count in counts))
        parts.add_section()
        parts.add_row("all", *(f"{sum(counts):,}" for counts in zip(*self.parameters.values(), strict=True)))
        console.print(clips, parts)
        for line in self.lines():
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    def lines(self) -> list[str]:
        """One line each on settings, steps, memory, time and folder."""
        settings, memory = self.settings, self.memory
        windows = settings.steps * settings.batch_size
        parts = ", ".join(f"{name} {_size(count)}" for name, count in memory.items() if count)
        return [
            "settings: " + ", ".join(f"{name} {value}" for name, value in asdict(settings).items()),
            f"steps: {settings.steps:,} of {settings.batch_size} windows; {windows:,} windows in all, "
            f"that is {windows / self.used:,.1f} epochs of the {self.used:,} clips to learn from",
            f"memory: about {_size(sum(memory.values()))} ({parts})",
            f"time: about {_duration(settings.steps * self.seconds)} on this {self.device} "
            f"({self.seconds:.2g} s a step, without decoding)",
            f"folder: {self.folder}",
        ]


def make_plan(
    model: Detector,
    objective: Objective,
    batches_of: Callable[[int], Batches],
    rows: Sequence[Row],
    used: int,
    settings: TrainSettings,
    out: Path,
) -> Plan:
    """Measure a few passes on a copy of ``model``; nothing is changed and nothing is written.

    Memory is what two small batches keep, and a straight line through both; time is that of two passes
    of as many windows as take about `BUDGET` seconds, and of two updates.

    Args:
        model: to be trained.
        objective: one of `avff_lib.objectives`.
        batches_of: windows in a batch -> batches, as `avff_lib.training.loop.fit` takes them.
        rows: of the whole dataset.
        used: how many of its clips this stage learns from.
        settings: of the training.
        out: folder that the run would have.
    """
    trial = _Trial(model, objective, batches_of, settings)
    micro = settings.batch_size // settings.accumulate
    small, _ = trial.run(2)
    large, seconds = trial.run(4)
    size = max(4, min(micro, int(4 * BUDGET / seconds)))
    timed = [trial.run(size)[1] for _ in range(2)]
    return Plan(
        clips=Counter((row.split, row.label, row.method) for row in rows),
        used=used,
        settings=settings,
        parameters=trial.parameters(),
        activations=round(small + (large - small) / 2 * (micro - 2)),
        seconds=settings.batch_size * sum(timed) / len(timed) / size + trial.update(),
        device=trial.fabric.device.type,
        folder=_folder(model, objective, settings, out),
    )


class _Trial:
    """A copy of the model that is trained for a few passes and thrown away."""

    def __init__(
        self,
        model: Detector,
        objective: Objective,
        batches_of: Callable[[int], Batches],
        settings: TrainSettings,
    ) -> None:
        self.fabric = launch(settings.precision)
        self.model = copy.deepcopy(model).to(self.fabric.device).train()
        self.model.set_checkpointing(settings.checkpoint_blocks)
        self.optimizers = make_optimizers(self.model, settings, self.fabric.device)  # freezes, too
        self.objective, self.batches_of, self.settings = objective, batches_of, settings

    def run(self, size: int) -> tuple[int, float]:
        """Bytes kept for the backward pass of ``size`` windows, and seconds of both passes."""
        batches, began = self.batches_of(size), time.perf_counter()
        inputs, labels = batches(0)
        frames, audio, labels = self.fabric.to_device((inputs.frames, inputs.audio, labels))
        generator = torch.Generator().manual_seed(self.settings.seed)
        with self.fabric.autocast(), _saved(self.model) as kept:
            logged = self.objective(self.model, ModelInputs(frames, audio), labels, generator)
        bytes_kept = sum(kept.values())
        sum(logged[name] for name in ("loss", "critic_loss") if name in logged).backward()
        self._wait()
        return bytes_kept, time.perf_counter() - began

    def update(self) -> float:
        """Seconds of an update of the weights; the first one allocates the averages and is not timed."""
        for _ in range(2):
            began = time.perf_counter()
            for optimizer in self.optimizers:
                optimizer.step()
            self._wait()
        return time.perf_counter() - began

    def parameters(self) -> dict[str, tuple[int, int]]:
        """By part of the model: all, and those that got a gradient."""
        counts: dict[str, tuple[int, int]] = {}
        for name, parameter in self.model.named_parameters():
            part = name.split(".")[0]
            every, trained = counts.get(part, (0, 0))
            learns = 0 if parameter.grad is None else parameter.numel()
            counts[part] = (every + parameter.numel(), trained + learns)
        return counts

    def _wait(self) -> None:
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize()


@contextmanager
def _saved(model: Detector) -> Iterator[dict[int, int]]:
    """Collects the storages that autograd keeps meanwhile, by address, without the model's own weights."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def _folder(model: Detector, objective: Objective, settings: TrainSettings, out: Path) -> str:
    names = {"family": type(model).__name__, "objective": objective.__name__}
    try:
        done = len(Checkpoints(out, asdict(settings) | names, {}, settings.keep_last).resume())
    except AVFFError as error:
        return str(error)
    if not done:
        return f"{out} holds no run; it would start from nothing"
    left = "which is all" if done == settings.steps else "and would go on from there"
    return f"{out} holds {done:,} steps of this run, {left}"


def _table(*columns: str) -> Table:
    table = Table(columns[0])
    for name in columns[1:]:
        table.add_column(name, justify="right")
    return table


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
