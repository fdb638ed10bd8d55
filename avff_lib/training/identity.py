"""The identity of a run: everything that its weights depend on, so that no other run is resumed instead."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import torch
from torch.utils.data import Dataset

from avff_lib.data.dataset import AVDataset, WindowSample
from avff_lib.data.fingerprint import fingerprint
from avff_lib.data.transforms import Augment
from avff_lib.models.base import Detector
from avff_lib.training.config import TrainConfig
from avff_lib.training.objectives import Objective

# May change when a run is resumed: its length, what it saves, and the processes that read ahead.
FREE_SETTINGS = ("steps", "save_every", "keep_last", "num_workers")
AFTER_TRAINING = ("threshold", "calibration", "trained_on")  # fields of a model's config
DATASET, INITIAL_MODEL = "dataset", "initial model"


def run_identity(
    model: Detector, objective: Objective, config: TrainConfig, dataset: Dataset[WindowSample]
) -> dict[str, Any]:
    """What must be the same when a run is resumed, by the name used in messages.

    Args:
        model: as it was before its first step; every weight is read once.
        objective: one of `avff_lib.training.objectives`.
        config: the run's settings; all but `FREE_SETTINGS` count.
        dataset: an `AVDataset` counts with all its clips and with its augmentation, any other by its type.
    """
    identity = {"family": type(model).__name__, "objective": getattr(objective, "__name__", "")}
    identity |= {name: value for name, value in asdict(config).items() if name not in FREE_SETTINGS}
    if not isinstance(dataset, AVDataset):
        identity[DATASET] = type(dataset).__name__
    else:
        augmentation = asdict(dataset.transforms or Augment(flip=0.0))  # has no effect either
        identity |= {f"{name} in the augmentation": value for name, value in augmentation.items()}
        identity[DATASET] = fingerprint(dataset.examples, dataset.spec)
    return {**identity, INITIAL_MODEL: _model_fingerprint(model)}


def _model_fingerprint(model: Detector) -> str:
    """Hash, twelve hexadecimal digits, of the weights and of the config fields that affect training."""
    settings = {name: value for name, value in asdict(model.config).items() if name not in AFTER_TRAINING}
    digest = hashlib.sha256(json.dumps(settings, default=str).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]
