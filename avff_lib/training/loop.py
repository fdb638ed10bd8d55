"""One readable training loop for both stages, on Lightning Fabric."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from avff_lib import ranks
from avff_lib.atomic import atomic_write
from avff_lib.clip import AVFFError, ModelInputs
from avff_lib.models.base import Detector
from avff_lib.objectives import Objective
from avff_lib.training.checkpoint import Checkpoints
from avff_lib.training.launch import launch
from avff_lib.training.optim import averaged, make_optimizers
from avff_lib.training.settings import TrainSettings

if TYPE_CHECKING:
    from avff_lib.training.log import Log

HISTORY_NAME = "history.json"
BEST_NAME = "best"
LOSSES = ("loss", "critic_loss")
NORMS = ("grad_norm", "critic_grad_norm")


class Task(nn.Module):
    """Model and objective as one module, so that Fabric sees one forward call, on plain tensors, a step."""

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
    batches: Callable[..., tuple[ModelInputs, Tensor]],
    settings: TrainSettings,
    out: Path,
    on_step: Callable[[int, dict[str, float]], Any] | None = None,
    *,
    log: Log | None = None,
    validate: Callable[[Detector], float] | None = None,
) -> list[dict[str, float]]:
    """Train ``model`` in place and return one record a step.

    A run that was stopped and is called again with the same arguments goes on from its last saved
    state and ends with the same weights. That is simple because no random state needs saving:
    batch, dropout and masks of a step depend on (seed, step) alone.

    Started in several processes by ``torchrun``, each takes its rows of every batch, and the loss is that
    of one process with the whole batch. ``out`` is then a folder that all of them see; process 0 alone
    writes, shows and validates.

    Args:
        model: changed in place; in training mode afterwards, with the averaged weights if there are any.
        objective: one of `avff_lib.objectives`.
        batches: step -> inputs and labels. With micro-batches or several processes it is called with the
            step and a slice, and gives these rows of the batch alone.
        settings: see `TrainSettings`.
        out: folder for saved states, for ``history.json`` and for ``best``, the model that validated best.
        on_step: called with every record, to plot or to print.
        log: shows and keeps every record; without one a bar is shown.
        validate: score of a model in evaluation mode, higher is better.

    Returns:
        Records: step; learning rate (the highest of all groups); loss and its parts, as means over the
        batch; norm of the gradient before clipping; steps skipped so far; samples skipped so far by this
        process, if ``batches.skipped`` lists them; and the score of validation, where there was one.

    Raises:
        AVFFError: the loss or its gradient is not a number, a state cannot be written or read, or ``out``
            holds another run.
    """
    out.mkdir(parents=True, exist_ok=True)
    fabric = launch(settings.precision)
    first = fabric.is_global_zero
    model.set_checkpointing(settings.checkpoint_blocks)
    optimizers = make_optimizers(model, settings, fabric.device)
    schedule = get_cosine_schedule_with_warmup(
        optimizers[0], math.ceil(settings.warmup * settings.steps), settings.steps
    )
    task, *optimizers = fabric.setup(Task(model, objective), *optimizers)
    ranks.copy_from_first(model)
    average = averaged(model, settings.ema) if settings.ema else None

    parts = {"model": model, "schedule": schedule, "optimizer": optimizers[0]}
    parts |= {"critic": optimizers[1]} if optimizers[1:] else {}
    parts |= {"average": average} if average else {}
    names = {"family": type(model).__name__, "objective": getattr(objective, "__name__", "")}
    states = Checkpoints(out, asdict(settings) | names, parts, settings.keep_last)
    history = states.resume()
    if ranks.mean(torch.tensor(float(len(history)), device=fabric.device)) != len(history):
        raise AVFFError(f"{out} does not hold the same for every process; choose a folder that all can see")

    task.train()
    for step in _shown(range(len(history), settings.steps), first and log is None):
        lr, skipped = max(schedule.get_last_lr()), history[-1]["skipped_steps"] if history else 0
        measured, usable = _update(fabric, task, optimizers, batches, settings, step)
        record = {"step": step, "lr": lr, **measured, "skipped_steps": skipped + (not usable)}
        if not usable:
            _stop_if_stuck(history, record, settings)
        elif average:
            average.update_parameters(model)
        schedule.step()

        last = step + 1 == settings.steps
        if validate and settings.validate_every and (last or (step + 1) % settings.validate_every == 0):
            candidate = average.module if average else model
            record["validation"] = _validate(fabric, validate, candidate, history, states)
        history.append(record)
        if first and on_step is not None:
            on_step(step, record)
        if first and log is not None:
            with states.room("the log"):
                log.step(record)
        if first and (last or (step + 1) % settings.save_every == 0):
            states.save(history)

    if average:
        model.load_state_dict(average.module.state_dict())
    if first:
        with states.room("the history"), atomic_write(out / HISTORY_NAME) as partial:
            partial.write_text(json.dumps(history, indent=1))
    fabric.barrier()
    return history


def own_rows(settings: TrainSettings, rank: int, world_size: int) -> list[slice]:
    """Rows of a batch that process ``rank`` takes, one slice for each micro-batch.

    Raises:
        AVFFError: the batch cannot be shared equally.
    """
    shares = settings.accumulate * world_size
    if settings.batch_size % shares:
        raise AVFFError(
            f"batch_size is {settings.batch_size}, which {world_size} processes x {settings.accumulate} "
            f"micro-batches cannot share; choose a multiple of {shares}"
        )
    size = settings.batch_size // shares
    starts = [(turn * world_size + rank) * size for turn in range(settings.accumulate)]
    return [slice(start, start + size) for start in starts]


def _update(
    fabric: Fabric,
    task: Task,
    optimizers: Sequence[Optimizer],
    batches: Callable[..., tuple[ModelInputs, Tensor]],
    settings: TrainSettings,
    step: int,
) -> tuple[dict[str, float], bool]:
    """One step downhill; or none, and False, if a loss or a gradient is not a number."""
    remembered = [buffer.clone() for buffer in task.buffers()]
    for optimizer in optimizers:
        optimizer.zero_grad()
    record = _gradients(fabric, task, batches, settings, step)
    norms = [
        fabric.clip_gradients(task, optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False)
        for optimizer in optimizers
    ]
    record |= {name: norm.item() for name, norm in zip(NORMS, norms, strict=False)}
    if not all(math.isfinite(record[name]) for name in (*LOSSES, *NORMS) if name in record):
        for buffer, before in zip(task.buffers(), remembered, strict=True):
            buffer.copy_(before)  # running means know of this batch already
        return record, False
    for optimizer in optimizers:
        optimizer.step()
    return record, True


def _gradients(
    fabric: Fabric,
    task: Task,
    batches: Callable[..., tuple[ModelInputs, Tensor]],
    settings: TrainSettings,
    step: int,
) -> dict[str, float]:
    """Fill the gradients of one step; what the objective logs, as means over the whole batch."""
    # Dropout differs from process to process. Masks are drawn for the whole batch, so they must not.
    torch.manual_seed(_seed(settings.seed + 1009 * ranks.rank(), step))
    generator = torch.Generator().manual_seed(_seed(settings.seed, step))
    shares = own_rows(settings, ranks.rank(), ranks.world_size())
    whole = len(shares) * ranks.world_size() == 1
    logged: list[dict[str, Tensor]] = []
    for rows in shares:
        inputs, labels = batches(step) if whole else batches(step, rows)
        losses = task(*fabric.to_device((inputs.frames, inputs.audio, labels)), generator)
        # The critic's loss reaches the critic alone, and the other loss all but the critic.
        loss = losses["loss"] + losses.get("critic_loss", 0.0)
        fabric.backward(loss / (len(shares) * ranks.world_size()))
        logged.append({name: value.detach().float() for name, value in losses.items()})
    ranks.sum_gradients(task)
    means = ranks.mean(torch.stack([torch.stack(list(each.values())) for each in logged]).mean(dim=0))
    record = dict(zip(logged[0], means.tolist(), strict=True))
    if hasattr(batches, "skipped"):
        record["skipped_samples"] = len(batches.skipped)
    return record


def _validate(
    fabric: Fabric,
    validate: Callable[[Detector], float],
    candidate: Detector,
    history: list[dict[str, float]],
    states: Checkpoints,
) -> float:
    """Score a model, and keep it if no earlier one of the run was better."""
    scores = [earlier["validation"] for earlier in history if "validation" in earlier]
    best = max(filter(math.isfinite, scores), default=-math.inf)
    score = fabric.broadcast(validate(candidate.eval()) if fabric.is_global_zero else 0.0)
    if fabric.is_global_zero and score > best:
        with states.room("the best model"):
            candidate.save_pretrained(states.folder / BEST_NAME)
    candidate.train()
    return score


def _stop_if_stuck(
    history: list[dict[str, float]], record: dict[str, float], settings: TrainSettings
) -> None:
    allowed = settings.max_skipped
    before = history[-1 - allowed]["skipped_steps"] if len(history) > allowed else 0
    if record["skipped_steps"] - before > allowed:
        what = next(name for name in (*LOSSES, *NORMS) if not math.isfinite(record.get(name, 0.0)))
        raise AVFFError(
            f"the {what} is {record[what]} at step {record['step']}; lower the learning rate "
            f"(now {settings.lr}) and start again in an empty folder"
        )


def _shown(steps: range, bar: bool) -> Iterable[int]:
    return tqdm(steps, initial=steps.start, total=steps.stop, desc="training") if bar else steps


def _seed(seed: int, step: int) -> int:
    return seed * 1_000_003 + step
