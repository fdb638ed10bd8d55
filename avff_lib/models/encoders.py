"""The two pretrained encoders of the documented system."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import timm
from einops import rearrange
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel, Wav2Vec2Config

from avff_lib.errors import AVFFError
from avff_lib.models.configs import NO_SPEC_AUGMENT
from avff_lib.models.hub import from_hub


class AudioEncoder(nn.Module):
    """Raw waveform -> Wav2Vec2 -> projection, one vector every 20 ms.

    Wav2Vec2 takes the waveform itself, with zero mean and unit variance, not a mel spectrogram.
    Source: Baevski et al. 2020, section 2.
    """

    def __init__(self, backbone: PreTrainedModel, dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.project = nn.Linear(backbone.config.hidden_size, dim)

    def forward(self, waveform: Tensor) -> Tensor:
        """``(B, S)`` normalised samples at 16 kHz -> ``(B, Na, dim)``."""
        return self.project(self.backbone(waveform).last_hidden_state)


class VisualEncoder(nn.Module):
    """Frames -> timm ViT, each on its own -> projection, one vector per frame.

    The backbone is built with ``num_classes=0``; with timm's default it would return ImageNet's 1000 logits.
    Source: Dosovitskiy et al. 2021, section 3.
    """

    def __init__(self, backbone: nn.Module, dim: int) -> None:
        """``backbone`` of timm, with ``num_features``; ``dim`` of the output."""
        super().__init__()
        assert isinstance(backbone.num_features, int)
        self.backbone = backbone
        self.project = nn.Linear(backbone.num_features, dim)

    def forward(self, frames: Tensor) -> Tensor:
        """``(B, T, 3, H, W)`` normalised frames -> ``(B, T, dim)``."""
        flat = rearrange(frames, "b t c h w -> (b t) c h w")
        return rearrange(self.project(self.backbone(flat)), "(b t) d -> b t d", t=frames.shape[1])


def build_audio_backbone(config: dict[str, Any]) -> PreTrainedModel:
    """Wav2Vec2 with random weights, from the fields of its ``Wav2Vec2Config``."""
    return AutoModel.from_config(Wav2Vec2Config(**config))


def build_visual_backbone(config: dict[str, Any]) -> nn.Module:
    """timm ViT with random weights, from the arguments of ``timm.create_model``."""
    return timm.create_model(**config, pretrained=False, num_classes=0)


def load_audio_backbone(name_or_folder: str) -> PreTrainedModel:
    """Pretrained Wav2Vec2 from a hub id or from a local folder in transformers' format.

    Raises:
        AVFFError: it is not on this machine and cannot be downloaded.
    """

    def load(local_files_only: bool) -> PreTrainedModel:
        config = AutoConfig.from_pretrained(name_or_folder, local_files_only=local_files_only)
        if config.model_type != "wav2vec2":
            raise AVFFError(
                f"{name_or_folder} is a {config.model_type} model; the audio encoder expects a wav2vec2 one"
            )
        for key, value in NO_SPEC_AUGMENT.items():
            setattr(config, key, value)
        return AutoModel.from_pretrained(name_or_folder, config=config, local_files_only=local_files_only)

    return from_hub(name_or_folder, load)


def load_visual_backbone(name_or_folder: str) -> tuple[nn.Module, dict[str, Any]]:
    """Pretrained ViT from a timm name or from a local folder in timm's hub format.

    Returns:
        The model, and the config with which `build_visual_backbone` rebuilds it.

    Raises:
        AVFFError: it is not on this machine and cannot be downloaded.
    """
    is_folder = os.path.isdir(name_or_folder)
    if not is_folder and not timm.is_model(name_or_folder):
        raise AVFFError(f"{name_or_folder} is neither a timm model nor a folder that holds one")

    def load(local_files_only: bool) -> tuple[nn.Module, dict[str, Any]]:  # timm has no such argument
        name, config = name_or_folder, {"model_name": name_or_folder}
        if is_folder:
            name = f"local-dir:{name_or_folder}"
            card = json.loads(Path(name_or_folder, "config.json").read_text())
            config = {"model_name": card.get("architecture"), **card.get("model_args", {})}
        return timm.create_model(name, pretrained=True, num_classes=0), config

    return from_hub(name_or_folder, load)
