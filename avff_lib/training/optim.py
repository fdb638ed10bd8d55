"""Who learns how fast: parameter groups, their optimisers, and the average of the weights."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from avff_lib.models.base import Detector
from avff_lib.training.settings import TrainSettings

# wav2vec2's norm behind the stem stands behind the last block in other variants; slow is safe for both.
STEM = (
    r"patch_embed|cls_token|class_token|pos_embed|feature_extractor|feature_projection|masked_spec_embed"
    r"|pos_conv_embed|encoder\.layer_norm"
)
BLOCK = r"\.(?:blocks|layers)\.(\d+)\."
TOKENS = ("cls_token", "class_token", "pos_embed")  # matrices by shape only


def make_optimizers(
    model: Detector, settings: TrainSettings, device: torch.device
) -> list[torch.optim.AdamW]:
    """One for the model and, where it has a critic, one for that: the two pull against each other."""
    fused = device.type in ("cpu", "cuda")
    optimizers = [torch.optim.AdamW(parameter_groups(model, settings), fused=fused)]
    critic = [parameter for name, parameter in model.named_parameters() if name.startswith("critic.")]
    if critic:
        optimizers.append(
            torch.optim.AdamW(critic, settings.lr, betas=(0.5, 0.9), weight_decay=0.0, fused=fused)
        )
    return optimizers


def parameter_groups(model: Detector, settings: TrainSettings) -> list[dict[str, Any]]:
    """Encoders at their own rate, slower towards their stems; no weight decay on biases, norms and tokens.

    Encoders at rate 0 are frozen. A critic is left out: its loss is another one.
    """
    depths = {encoder: _depth(model, encoder) for encoder in ("audio_encoder.", "visual_encoder.")}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name.startswith("critic."):
            continue
        rate = settings.lr
        for encoder, depth in depths.items():
            if name.startswith(encoder):
                rate = settings.encoder_lr * settings.layer_decay ** (depth + 1 - layer_of(name, depth))
        parameter.requires_grad_(rate > 0)
        if rate > 0:
            spared = parameter.ndim <= 1 or name.endswith(TOKENS)
            groups.setdefault((rate, 0.0 if spared else settings.weight_decay), []).append(parameter)
    return [
        {"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()
    ]


def layer_of(name: str, depth: int) -> int:
    """Where a parameter of an encoder of ``depth`` blocks stands, by its name in the model.

    Returns:
        0 for the stem, i + 1 for block i, ``depth`` + 1 for what comes behind the blocks. A rate that is
        multiplied by ``layer_decay`` from one place to the one before it is the layer-wise decay of
        Clark et al. 2020 (ELECTRA) and He et al. 2022 (MAE, appendix A.1).
    """
    if re.search(STEM, name):
        return 0
    block = re.search(BLOCK, name)
    return int(block[1]) + 1 if block else depth + 1


def averaged(model: Detector, decay: float) -> AveragedModel:
    """A copy of ``model`` that follows it: a running mean of the weights after each step.

    The mean over the first steps is shorter, so that it forgets the random start: at update n it keeps
    ``min(decay, (1 + n) / (10 + n))``. Source: Polyak and Juditsky 1992; the warm-up as in TensorFlow.
    """

    def follow(average: list[Tensor], current: list[Tensor], updates: Tensor | int) -> None:
        keep = min(decay, (1 + float(updates)) / (10 + float(updates)))
        torch._foreach_lerp_(average, current, 1 - keep)

    return AveragedModel(model, multi_avg_fn=follow)


def _depth(model: Detector, encoder: str) -> int:
    """Number of blocks of an encoder."""
    names = [name for name, _ in model.named_parameters() if name.startswith(encoder)]
    blocks = [re.search(BLOCK, name) for name in names if not re.search(STEM, name)]
    return max((int(block[1]) + 1 for block in blocks if block), default=0)
