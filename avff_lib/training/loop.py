"""One readable training loop for both stages, on Lightning Fabric."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import precision
from torch import Tensor, nn
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from avff_lib.atomic import atomic_write
from avff_lib.clip import AVFFError, ModelInputs
from avff_lib.models.base import Detector
from avff_lib.objectives import Objective
from avff_lib.training.settings import TrainSettings

LAST_NAME = "last.pt"
HISTORY_NAME = "history.json"


class MixedPrecision(precision.MixedPrecision):
    """bfloat16 where autocast finds it good enough, and nowhere else.

    Fabric would round every input as well, to three digits, and with it the patches and decibels that
    a model has to reconstruct.
    """

    def convert_input(self, data: Any) -> Any:
        return data


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
    batches: Callable[[int], tuple[ModelInputs, Tensor]],
    settings: TrainSettings,
    out: Path,
    on_step: Callable[[int, dict[str, float]], Any] | None = None,
) -> list[dict[str, float]]:
    """Train ``model`` in place and return one record a step: step, learning rate, loss and its parts.

    A run that was stopped and is called again with the same arguments goes on from its last saved
    state and ends with the same weights. That is simple because no random state needs saving:
    batch, dropout and masks of a step depend on (seed, step) alone.

    Args:
        model: changed in place; in training mode afterwards.
        objective: one of `avff_lib.objectives`.
        batches: step -> inputs and labels.
        settings: see `TrainSettings`.
        out: folder for the saved state and for ``history.json``.
        on_step: called with every record, to plot or to print.

    Raises:
        AVFFError: the loss is not a number, or ``out`` holds a run with other settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    fabric = _fabric(settings.precision)
    optimizer = torch.optim.AdamW(parameter_groups(model, settings))
    schedule = get_cosine_schedule_with_warmup(
        optimizer, math.ceil(settings.warmup * settings.steps), settings.steps
    )
    # A critic and what it judges pull against each other, each with an optimiser of its own.
    critic = [parameter for name, parameter in model.named_parameters() if name.startswith("critic.")]
    critics = [torch.optim.AdamW(critic, settings.lr, betas=(0.5, 0.9), weight_decay=0.0)] if critic else []
    task, optimizer, *critics = fabric.setup(Task(model, objective), optimizer, *critics)
    state = {"model": model, "optimizer": optimizer, "schedule": schedule}
    if critics:
        state["critic"] = critics[0]
    history = _resume(out / LAST_NAME, state, settings)

    task.train()
    for step in tqdm(
        range(len(history), settings.steps), initial=len(history), total=settings.steps, desc="training"
    ):
        torch.manual_seed(_step_seed(settings.seed, step))
        inputs, labels = batches(step)
        generator = torch.Generator().manual_seed(_step_seed(settings.seed, step))
        frames, audio, labels = fabric.to_device((inputs.frames, inputs.audio, labels))
        logged = task(frames, audio, labels, generator)
        if not torch.isfinite(logged["loss"]):
            raise AVFFError(
                f"the loss is {logged['loss'].item()} at step {step}; lower the learning rate "
                f"(now {settings.lr}) and start again in an empty folder"
            )
        losses = [logged[name] for name in ("loss", "critic_loss") if name in logged]
        for loss, learner in zip(losses, [optimizer, *critics], strict=False):
            learner.zero_grad()
            fabric.backward(loss)
            fabric.clip_gradients(task, learner, max_norm=settings.clip_norm)
            learner.step()
        record = {
            "step": step,
            "lr": schedule.get_last_lr()[-1],
            **{key: value.item() for key, value in logged.items()},
        }
        schedule.step()
        history.append(record)
        if on_step is not None:
            on_step(step, record)
        if (step + 1) % settings.save_every == 0 or step + 1 == settings.steps:
            _save(out / LAST_NAME, state, settings, history)
    (out / HISTORY_NAME).write_text(json.dumps(history, indent=1))
    return history


def parameter_groups(model: Detector, settings: TrainSettings) -> list[dict[str, Any]]:
    """Encoders at their own rate; no weight decay on biases and norms. Freezes encoders at rate 0.

    A critic is left out: its loss is another one.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name.startswith("critic."):
            continue
        rate = settings.encoder_lr if "_encoder." in name else settings.lr
        parameter.requires_grad_(rate > 0)
        if rate > 0:
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()
    ]


def _fabric(name: str) -> Fabric:
    if name == "32-true":
        return Fabric(accelerator="auto", devices=1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Fabric(accelerator=device, devices=1, plugins=MixedPrecision(name, device))


def _step_seed(seed: int, step: int) -> int:
    return seed * 1_000_003 + step


def _save(
    path: Path, state: dict[str, Any], settings: TrainSettings, history: list[dict[str, float]]
) -> None:
    dicts = {name: part.state_dict() for name, part in state.items()}
    with atomic_write(path) as partial:
        torch.save({**dicts, "settings": asdict(settings), "history": history}, partial)


def _resume(path: Path, state: dict[str, Any], settings: TrainSettings) -> list[dict[str, float]]:
    if not path.exists():
        return []
    saved = torch.load(path, weights_only=True, map_location="cpu")
    changed = [name for name, value in asdict(settings).items() if saved["settings"].get(name) != value]
    if changed:
        raise AVFFError(
            f"{path.parent} holds a run with another {changed[0]} ({saved['settings'].get(changed[0])}, "
            f"now {getattr(settings, changed[0])}); choose another folder, or the same settings to go on"
        )
    for name, part in state.items():
        part.load_state_dict(saved[name])
    return saved["history"]
