"""What a training run would do, measured on a few windows: data, parameters, steps, memory, time."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import Dataset

from avff_lib.data.dataset import WindowSample
from avff_lib.data.loader import make_loader
from avff_lib.data.manifest import SPLITS, Row
from avff_lib.errors import AVFFError
from avff_lib.models.base import Detector
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.training.checkpoint import Checkpoints
from avff_lib.training.config import TrainConfig
from avff_lib.training.fabric import make_fabric
from avff_lib.training.identity import run_identity
from avff_lib.training.objectives import Objective
from avff_lib.training.optim import make_optimizers
from avff_lib.utils.device import Device

TIMING_BUDGET = 5.0  # seconds for a timed pass


@dataclass(frozen=True)
class DryRun:
    """What a training run would do.

    Attributes:
        clips: number of clips in the dataset, by split, label and method.
        used: number of them that this stage trains on.
        config: the run's settings.
        parameters: number of all and of trained parameters, by part of the model.
        activations: bytes that a micro-batch keeps for its backward pass.
        seconds: time of a step.
        device: where it was timed.
        folder: what the run's folder holds, in one sentence.
    """

    clips: dict[tuple[str, int, str], int]
    used: int
    config: TrainConfig
    parameters: dict[str, tuple[int, int]]
    activations: int
    seconds: float
    device: str
    folder: str

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by purpose; weights, gradients and averages are float32."""
        everything, trained = (sum(counts) for counts in zip(*self.parameters.values(), strict=True))
        return {
            "weights": 4 * everything,
            "gradients": 4 * trained,
            "Adam's two averages": 8 * trained,
            "averaged weights": 4 * everything if self.config.ema else 0,
            "activations": self.activations,
        }

    def show(self, console: Console) -> None:
        """Print tables of clips and parameters, and the lines of `lines`."""
        clips = _table("clips", "label", *SPLITS)
        for label, method in sorted({(label, method) for _, label, method in self.clips}):
            counts = (self.clips.get((split, label, method), 0) for split in SPLITS)
            clips.add_row(method, str(label), *(f"{count:,}" for count in counts))
        parts = _table("part of the model", "parameters", "trained")
        for name, of_part in self.parameters.items():
            parts.add_row(name, *(f"{count:,}" for count in of_part))
        parts.add_section()
        parts.add_row("all", *(f"{sum(column):,}" for column in zip(*self.parameters.values(), strict=True)))
        console.print(clips, parts)
        for line in self.lines():
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    def lines(self) -> list[str]:
        """A line each on config, steps, memory, time and folder."""
        config, memory = self.config, self.memory
        windows = config.steps * config.batch_size
        parts = ", ".join(f"{name} {_size(count)}" for name, count in memory.items() if count)
        return [
            "settings: " + ", ".join(f"{name} {value}" for name, value in asdict(config).items()),
            f"steps: {config.steps:,} of {config.batch_size} windows; {windows:,} windows in all, "
            f"that is {windows / self.used:,.1f} epochs of the {self.used:,} clips to learn from",
            f"memory: about {_size(sum(memory.values()))} ({parts})",
            f"time: about {_duration(config.steps * self.seconds)} on this {self.device} "
            f"({self.seconds:.2g} s a step, without decoding)",
            f"folder: {self.folder}",
        ]


def dry_run(
    model: Detector,
    objective: Objective,
    dataset: Dataset[WindowSample],
    rows: Sequence[Row],
    used: int,
    config: TrainConfig,
    out: Path,
    *,
    device: Device = "auto",
    unknown: Collection[str] = (),
) -> DryRun:
    """Measure a few passes on a copy of ``model``; nothing is changed and nothing is written.

    Memory is measured for two small batches and extrapolated by a straight line. Time is that of two passes,
    with as many windows as take about `TIMING_BUDGET` seconds, and of two updates.

    Args:
        model: the model to train.
        objective: one of `avff_lib.training.objectives`.
        dataset: as `avff_lib.training.loop.fit` takes it; a few clips will do.
        rows: those of the whole corpus.
        used: number of its clips that this stage trains on.
        config: the run's settings.
        out: folder that the run would use.
        device: as `avff_lib.training.loop.fit` takes it.
        unknown: names in `avff_lib.training.identity.run_identity` that cannot be compared with a run in
            ``out``, since ``model`` or ``dataset`` stand in for others.
    """
    identity = run_identity(model, objective, config, dataset)
    known = {name: value for name, value in identity.items() if name not in unknown}
    trial = _Trial(model, objective, dataset, config, device)
    micro = config.batch_size // config.accumulate
    small, _ = trial.run(2)
    large, seconds = trial.run(4)
    size = max(4, min(micro, int(4 * TIMING_BUDGET / seconds)))
    timed = [trial.run(size)[1] for _ in range(2)]
    return DryRun(
        clips=Counter((row.split, row.label, row.method) for row in rows),
        used=used,
        config=config,
        parameters=trial.parameters(),
        activations=round(small + (large - small) / 2 * (micro - 2)),
        seconds=config.batch_size * sum(timed) / len(timed) / size + trial.update(),
        device=trial.fabric.device.type,
        folder=_folder(known, config, out),
    )


class _Trial:
    """A copy of the model, trained for a few passes and thrown away."""

    def __init__(
        self,
        model: Detector,
        objective: Objective,
        dataset: Dataset[WindowSample],
        config: TrainConfig,
        device: Device = "auto",
    ) -> None:
        self.fabric = make_fabric(config.precision, device)
        self.model = copy.deepcopy(model).to(self.fabric.device).train()
        self.model.set_grad_checkpointing(config.checkpoint_blocks)
        self.optimizers = make_optimizers(self.model, config, self.fabric.device)  # also freezes
        self.objective, self.dataset, self.config = objective, dataset, config

    def run(self, size: int) -> tuple[int, float]:
        """Bytes kept for the backward pass of ``size`` windows, and seconds of both passes."""
        loader = make_loader(
            self.dataset,
            batch_size=size,
            steps=1,
            seed=self.config.seed,
            identity_balanced=self.config.identity_balanced,
        )
        began = time.perf_counter()
        batch = next(iter(loader))
        frames, audio, labels = self.fabric.to_device((batch.inputs.frames, batch.inputs.audio, batch.labels))
        generator = torch.Generator().manual_seed(self.config.seed)
        with self.fabric.autocast(), saved_storages(self.model) as kept:
            logged = self.objective(self.model, ModelInputs(frames, audio), labels, generator)
        bytes_kept = sum(kept.values())
        (logged["loss"] + logged.get("critic_loss", 0.0)).backward()
        self._wait()
        return bytes_kept, time.perf_counter() - began

    def update(self) -> float:
        """Seconds of a weight update; the first update allocates the averages and is not timed."""
        for _ in range(2):
            began = time.perf_counter()
            for optimizer in self.optimizers:
                optimizer.step()
            self._wait()
        return time.perf_counter() - began

    def parameters(self) -> dict[str, tuple[int, int]]:
        """Number of all parameters, and of those that received a gradient, by part of the model."""
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
def saved_storages(model: Detector) -> Iterator[dict[int, int]]:
    """Collect the storages that autograd keeps in this context, by address, without the model's weights."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def _folder(identity: dict[str, Any], config: TrainConfig, out: Path) -> str:
    try:
        done = len(Checkpoints(out, identity, {}, config.keep_last).resume(config.steps))
    except AVFFError as error:
        return str(error)
    if not done:
        return f"{out} holds no run; it would start from nothing"
    outlook = "which is all" if done == config.steps else "and would go on from there"
    return f"{out} holds {done:,} steps of this run, {outlook}"


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
