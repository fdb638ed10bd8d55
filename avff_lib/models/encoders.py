"""The two pretrained encoders of the documented system."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

import timm
import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
)

from avff_lib.errors import AVFFError
from avff_lib.models.configs import NO_SPEC_AUGMENT, AudioSettings, VisualSettings, input_side
from avff_lib.models.hub import from_hub


class AudioEncoder(nn.Module):
    """Raw waveform -> Wav2Vec2 -> projection, one vector every 20 ms.

    Wav2Vec2 takes the waveform, with zero mean and unit variance, not a mel spectrogram.
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
        if not self.training:  # makes a convolutional stem 1.2 times as fast, but a training step slower
            flat = flat.to(memory_format=torch.channels_last)
        return rearrange(self.project(self.backbone(flat)), "(b t) d -> b t d", t=frames.shape[1])


def build_audio_backbone(settings: AudioSettings) -> PreTrainedModel:
    """Wav2Vec2 with random weights."""
    return AutoModel.from_config(Wav2Vec2Config(**settings))


def build_visual_backbone(settings: VisualSettings) -> nn.Module:
    """timm ViT with random weights."""
    return timm.create_model(**settings, pretrained=False, num_classes=0)


def audio_settings(config: PreTrainedConfig) -> AudioSettings:
    """The fields of a ``Wav2Vec2Config`` from which `build_audio_backbone` rebuilds its encoder."""
    known = AudioSettings.__annotations__
    return cast(AudioSettings, {key: value for key, value in config.to_diff_dict().items() if key in known})


def load_audio_backbone(name_or_folder: str) -> tuple[PreTrainedModel, int]:
    """Pretrained Wav2Vec2 from a hub id or from a local folder in transformers' format.

    Returns:
        The model, and the sample rate in Hz, from its feature extractor (``preprocessor_config.json``).

    Raises:
        AVFFError: it is not on this machine and cannot be downloaded, or is another kind of model.
    """

    def load(local_files_only: bool) -> tuple[PreTrainedModel, int]:
        # Runs no code from the repository, and takes from its config only the encoder's settings.
        options: dict[str, Any] = {"local_files_only": local_files_only, "trust_remote_code": False}
        config = AutoConfig.from_pretrained(name_or_folder, **options)
        if config.model_type != "wav2vec2" or config.add_adapter or config.adapter_attn_dim:
            raise AVFFError(
                f"{name_or_folder} is a {config.model_type} model, or one with adapters; the audio encoder "
                "expects a wav2vec2 model without"
            )
        config = Wav2Vec2Config(**{**audio_settings(config), **NO_SPEC_AUGMENT})
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(name_or_folder, **options)
        if not extractor.do_normalize:
            raise AVFFError(
                f"{name_or_folder} was trained on waveforms as they are (do_normalize is false); the audio "
                "encoder expects a model for zero mean and unit variance, as wav2vec2-base is"
            )
        return AutoModel.from_pretrained(name_or_folder, config=config, **options), extractor.sampling_rate

    return from_hub(name_or_folder, load)


def load_visual_backbone(name_or_folder: str) -> tuple[nn.Module, VisualSettings]:
    """Pretrained ViT from a timm name or from a local folder in timm's hub format.

    Returns:
        The model, and the settings with which `build_visual_backbone` rebuilds it.

    Raises:
        AVFFError: it is not on this machine and cannot be downloaded, or its settings are not all of
            `avff_lib.models.configs.VisualSettings`.
    """
    is_folder = os.path.isdir(name_or_folder)
    if not is_folder and not timm.is_model(name_or_folder):
        raise AVFFError(f"{name_or_folder} is neither a timm model nor a folder that holds one")

    def load(local_files_only: bool) -> tuple[nn.Module, VisualSettings]:  # timm has no such argument
        name, settings = name_or_folder, VisualSettings(model_name=name_or_folder)
        if is_folder:
            name = f"local-dir:{name_or_folder}"
            card = json.loads(Path(name_or_folder, "config.json").read_text(encoding="utf-8"))
            settings = VisualSettings(model_name=card["architecture"], **card.get("model_args", {}))
        input_side(settings)  # before timm acts on them
        return timm.create_model(name, pretrained=True, num_classes=0), settings

    return from_hub(name_or_folder, load)
