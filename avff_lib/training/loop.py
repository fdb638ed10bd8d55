"""One readable training loop for both stages, on Lightning Fabric."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from avff_lib.data.dataset import WindowSample
from avff_lib.data.loader import BatchReader, make_loader
from avff_lib.errors import AVFFError
from avff_lib.models.base import Detector
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.training.checkpoint import Checkpoints, History
from avff_lib.training.config import TrainConfig
from avff_lib.training.fabric import make_fabric
from avff_lib.training.identity import run_identity
from avff_lib.training.objectives import Objective
from avff_lib.training.optim import make_average, make_optimizers, update_average
from avff_lib.training.validation import Validation, best_record
from avff_lib.utils import distributed
from avff_lib.utils.atomic import atomic_write
from avff_lib.utils.device import Device

if TYPE_CHECKING:
    from avff_lib.training.log import TrainingLogger

HISTORY_NAME = "history.json"
LOSSES = ("loss", "critic_loss")
NORMS = ("grad_norm", "critic_grad_norm")


class Task(nn.Module):
    """Model and objective as one module, so that Fabric sees one forward call per step, on plain tensors."""

    def __init__(self, model: Detector, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(
        self, frames: Tensor, audio: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        return self.objective(self.model, ModelInputs(frames, audio), labels, generator)


def fit(
    model: Detector,
    objective: Objective,
    dataset: Dataset[WindowSample],
    config: TrainConfig,
    out: Path,
    on_step: Callable[[int, dict[str, float]], Any] | None = None,
    *,
    log: TrainingLogger | None = None,
    validate: Callable[[Detector], float] | None = None,
    device: Device = "auto",
) -> History:
    """Train ``model`` in place and return one record per step.

    >>> dataset = AVDataset(examples, model.spec, transforms=LIGHT)  # doctest: +SKIP
    >>> fit(model, pretraining_loss, dataset, TrainConfig(steps=500), Path("runs/one"))  # doctest: +SKIP

    A stopped run that is called again with the same arguments resumes from its last saved state and ends with
    the same weights, bit for bit. No random state is saved for that: the batch, dropout and masks of a step
    depend only on (seed, step). A run with other data, augmentation, settings or initial weights is refused;
    see `avff_lib.training.identity.run_identity` for what may change.

    With more ``steps`` than before, a run is extended, finished or not: its past steps stay as they are, and
    from the next step on the learning rate is that of a run of the new length. If it had fallen to 0, it
    rises again, so the weights differ from those of a run that had this length from the start.

    If ``torchrun`` starts several processes, each takes its rows of every batch, and the loss equals that of
    one process with the whole batch. All processes must then see the folder ``out``; only process 0 writes,
    shows and validates.

    Args:
        model: with its initial weights, even if a run is resumed; changed in place. It is in training mode
            afterwards, with the averaged weights if there are any.
        objective: one of `avff_lib.training.objectives`.
        dataset: an `AVDataset`; or any map-style dataset that returns a `WindowSample` for
            ``dataset[step, row]``.
        config: see `TrainConfig`.
        out: folder for saved states, for ``history.json`` and for ``best``, the model that validated best.
        on_step: called with every record, for example to plot or print it.
        log: shows and stores every record; without one, a bar is shown.
        validate: returns the score of a model in evaluation mode, higher is better; a model whose score is
            not finite never becomes the best one.
        device: where to train; ``"auto"`` takes an accelerator if there is one.

    Returns:
        Records: ``step``; ``lr``, the highest of all groups; ``loss`` and its parts, as means over the
        batch; ``grad_norm`` before clipping; ``skipped_steps`` so far; ``skipped_samples``, the number of
        clips that this process could not read so far; and ``validation``, if the step had one (the best of
        them: `avff_lib.training.validation.best_record`).

    Raises:
        AVFFError: the loss or its gradient is not finite, too many clips cannot be read, a validation fails,
            a state cannot be written or read, the device does not exist, or ``out`` holds another run.
    """
    if validate is None:
        config = replace(config, validate_every=0)
    out.mkdir(parents=True, exist_ok=True)
    fabric = make_fabric(config.precision, device)
    first = fabric.is_global_zero
    model.set_grad_checkpointing(config.checkpoint_blocks)
    plain_optimizers = make_optimizers(model, config, fabric.device)
    validation = Validation(validate, model, config) if validate and config.validate_every else None
    task, *optimizers = fabric.setup(Task(model, objective), *plain_optimizers)
    distributed.copy_from_first(model)
    average = make_average(model, config.ema) if config.ema else None

    parts: dict[str, Any] = {"model": model, "optimizer": optimizers[0]}
    parts |= {"critic": optimizers[1]} if optimizers[1:] else {}
    parts |= {"average": average} if average else {}
    parts |= {"best": validation.best} if validation else {}
    states = Checkpoints(out, run_identity(model, objective, config, dataset), parts, config.keep_last)
    history = states.resume(config.steps)
    if distributed.mean(torch.tensor(float(len(history)), device=fabric.device)) != len(history):
        raise AVFFError(f"{out} does not hold the same for every process; choose a folder that all can see")
    # Rebuilt for the run's present length; the rates it starts from are in the optimiser's state.
    schedules = [
        get_cosine_schedule_with_warmup(
            optimizer, math.ceil(config.warmup * config.steps), config.steps, last_epoch=len(history) - 1
        )
        for optimizer in plain_optimizers
    ]

    loader = make_loader(
        dataset,
        batch_size=config.batch_size,
        steps=config.steps,
        seed=config.seed,
        identity_balanced=config.identity_balanced,
        start_step=len(history),
        shares=micro_batches(config, distributed.rank(), distributed.world_size()),
        num_workers=config.num_workers,
        pin_memory=fabric.device.type == "cuda",
    )
    batches = BatchReader(loader)
    task.train()

    def finish_step() -> None:
        """Validate, report and save, if due after the last step of the history."""
        record, last = history[-1], len(history) == config.steps
        if validation and validation.is_due(history):
            validation.run(fabric, average.module if average else model, history, states)
        if first and on_step is not None:
            on_step(int(record["step"]), record)
        if first and log is not None:
            with states.report_full_disk("the log"):
                log.step(record)
        if first and (last or len(history) % config.save_every == 0):
            states.save(history)

    if validation and validation.is_due(history):  # it failed, or the run ends where it was stopped
        finish_step()
    for step in _shown(range(len(history), config.steps), first and log is None):
        lr, skipped = max(schedules[0].get_last_lr()), history[-1]["skipped_steps"] if history else 0
        logged, usable = _update(fabric, task, optimizers, batches, config, step)
        record = {"step": step, "lr": lr, **logged, "skipped_steps": skipped + (not usable)}
        if not usable:
            _stop_if_stuck(history, record, config)
        elif average:
            update_average(average, model, updates=step - int(skipped))
        for schedule in schedules:
            schedule.step()
        history.append(record)
        finish_step()

    if average:
        model.load_state_dict(average.module.state_dict())
    if first:
        if validation and best_record(history):  # a killed run may have left one that this run never reached
            validation.save_best(states)
        with states.report_full_disk("the history"), atomic_write(out / HISTORY_NAME) as partial:
            partial.write_text(json.dumps(history, indent=1))
    fabric.barrier()
    return history


def micro_batches(config: TrainConfig, rank: int, world_size: int) -> list[slice]:
    """Rows of a batch that process ``rank`` takes, one slice for each micro-batch.

    Raises:
        AVFFError: the batch cannot be shared equally.
    """
    shares = config.accumulate * world_size
    if config.batch_size % shares:
        raise AVFFError(
            f"batch_size is {config.batch_size}, which {world_size} processes x {config.accumulate} "
            f"micro-batches cannot share; choose a multiple of {shares}"
        )
    size = config.batch_size // shares
    starts = [(turn * world_size + rank) * size for turn in range(config.accumulate)]
    return [slice(start, start + size) for start in starts]


def _update(
    fabric: Fabric,
    task: Task,
    optimizers: Sequence[Optimizer],
    batches: BatchReader,
    config: TrainConfig,
    step: int,
) -> tuple[dict[str, float], bool]:
    """Take one optimiser step; or none, and return False, if a loss or a gradient is not finite."""
    buffers = [buffer.clone() for buffer in task.buffers()]
    for optimizer in optimizers:
        optimizer.zero_grad()
    record = _gradients(fabric, task, batches, config, step)
    norms = [
        fabric.clip_gradients(task, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
        for optimizer in optimizers
    ]
    record |= {name: norm.item() for name, norm in zip(NORMS, norms, strict=False) if norm is not None}
    if not all(math.isfinite(record[name]) for name in (*LOSSES, *NORMS) if name in record):
        for buffer, before in zip(task.buffers(), buffers, strict=True):
            buffer.copy_(before)  # running means already include this batch
        return record, False
    for optimizer in optimizers:
        optimizer.step()
    return record, True


def _gradients(
    fabric: Fabric,
    task: Task,
    batches: BatchReader,
    config: TrainConfig,
    step: int,
) -> dict[str, float]:
    """Compute the gradients of one step; return the objective's logs, as means over the whole batch."""
    # Dropout differs between processes. Masks are drawn for the whole batch, so they must not differ.
    torch.manual_seed(_seed(config.seed + 1009 * distributed.rank(), step))
    generator = torch.Generator().manual_seed(_seed(config.seed, step))
    logged: list[dict[str, Tensor]] = []
    for batch in islice(batches, config.accumulate):
        tensors = fabric.to_device((batch.inputs.frames, batch.inputs.audio, batch.labels))
        losses = task(*tensors, generator)
        # The critic's loss reaches only the critic; the other loss reaches everything else.
        loss = losses["loss"] + losses.get("critic_loss", 0.0)
        fabric.backward(loss / (config.accumulate * distributed.world_size()))
        logged.append({name: value.detach().float() for name, value in losses.items()})
    distributed.sum_gradients(task)
    means = distributed.mean(torch.stack([torch.stack(list(each.values())) for each in logged]).mean(dim=0))
    record = dict(zip(logged[0], means.tolist(), strict=True))
    return record | {"skipped_samples": len(batches.skipped)}


def _stop_if_stuck(history: list[dict[str, float]], record: dict[str, float], config: TrainConfig) -> None:
    allowed = config.max_skipped
    before = history[-1 - allowed]["skipped_steps"] if len(history) > allowed else 0
    if record["skipped_steps"] - before > allowed:
        name = next(name for name in (*LOSSES, *NORMS) if not math.isfinite(record.get(name, 0.0)))
        raise AVFFError(
            f"the {name} is {record[name]} at step {record['step']}; lower the learning rate "
            f"(now {config.lr}) and start again in an empty folder"
        )


def _shown(steps: range, bar: bool) -> Iterable[int]:
    return tqdm(steps, initial=steps.start, total=steps.stop, desc="training") if bar else steps


def _seed(seed: int, step: int) -> int:
    return seed * 1_000_003 + step
