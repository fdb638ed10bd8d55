"""Parameter groups with their learning rates, the optimisers, and the average of the weights."""

from __future__ import annotations

import re
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn

from avff_lib.models.base import Detector
from avff_lib.training.config import TrainConfig

# wav2vec2's norm after the stem is after the last block in other variants; a low rate is safe for both.
STEM = (
    r"patch_embed|cls_token|class_token|pos_embed|feature_extractor|feature_projection|masked_spec_embed"
    r"|pos_conv_embed|encoder\.layer_norm"
)
BLOCK = r"\.(?:blocks|layers)\.(\d+)\."
TOKENS = ("cls_token", "class_token", "pos_embed")  # matrices only by their shape


def make_optimizers(model: Detector, config: TrainConfig, device: torch.device) -> list[torch.optim.AdamW]:
    """One optimiser for the model and another for its critic, if any: the two losses are opposed."""
    fused = device.type in ("cpu", "cuda")
    groups = parameter_groups(model, config)
    optimizers = [torch.optim.AdamW(groups, betas=(0.9, config.beta2), fused=fused)]
    critic = [parameter for name, parameter in model.named_parameters() if name.startswith("critic.")]
    if critic:
        optimizers.append(
            torch.optim.AdamW(critic, config.lr, betas=(0.5, 0.9), weight_decay=0.0, fused=fused)
        )
    return optimizers


def parameter_groups(model: Detector, config: TrainConfig) -> list[dict[str, Any]]:
    """Encoders at their own rate, slower towards their stems; no weight decay on biases, norms and tokens.

    Encoders at rate 0 are frozen. Critics are left out: they have their own loss.
    """
    # timm's param_groups_layer_decay does the same for one timm model. Here two encoders have their own
    # rates, and one of them is transformers' wav2vec2, whose names timm's matchers do not know.
    depths = {encoder: _depth(model, encoder) for encoder in ("audio_encoder.", "visual_encoder.")}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name.startswith("critic."):
            continue
        rate = config.lr
        for encoder, depth in depths.items():
            if name.startswith(encoder):
                rate = config.encoder_lr * config.layer_decay ** (depth + 1 - layer_of(name, depth))
        parameter.requires_grad_(rate > 0)
        if rate > 0:
            spared = parameter.ndim <= 1 or name.endswith(TOKENS)
            groups.setdefault((rate, 0.0 if spared else config.weight_decay), []).append(parameter)
    return [
        {"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()
    ]


def layer_of(name: str, depth: int) -> int:
    """The layer of a parameter, by its name in the model, in an encoder of ``depth`` blocks.

    Returns:
        0 for the stem, i + 1 for block i, ``depth`` + 1 for everything after the blocks. Multiplying the rate
        by ``layer_decay`` from each layer to the one before it is the layer-wise decay of Clark et al. 2020
        (ELECTRA) and He et al. 2022 (MAE, appendix A.1).
    """
    if re.search(STEM, name):
        return 0
    block = re.search(BLOCK, name)
    return int(block[1]) + 1 if block else depth + 1


def make_average(model: nn.Module, decay: float) -> ModelEmaV3:
    """A copy of ``model`` that follows it: an exponential moving average of the weights after each step.

    In the first steps the average is shorter, so that it forgets the random start: at update n it keeps
    ``min(decay, (1 + n) / (10 + n))``. Source: Polyak and Juditsky 1992; the warm-up as in TensorFlow.
    Update it with `update_average`.
    """
    return ModelEmaV3(model, decay, use_warmup=True, warmup_gamma=9.0, warmup_power=1.0, exclude_buffers=True)


def update_average(average: ModelEmaV3, model: nn.Module, updates: int) -> None:
    """Follow ``model`` after one more step; ``updates`` counts the earlier ones.

    With a gamma of 9, timm keeps ``s / (9 + s)``, where s is the given step minus 1, and copies the model if
    that is 0.
    """
    average.update(model, step=updates + 2 if updates else 0)


def _depth(model: Detector, encoder: str) -> int:
    """Number of blocks of an encoder."""
    names = [name for name, _ in model.named_parameters() if name.startswith(encoder)]
    blocks = [re.search(BLOCK, name) for name in names if not re.search(STEM, name)]
    return max((int(block[1]) + 1 for block in blocks if block), default=0)
