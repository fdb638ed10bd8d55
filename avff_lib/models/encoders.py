"""The two pretrained encoders of the documented system, and how they are fetched or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import timm
from einops import rearrange
from huggingface_hub import constants
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel, Wav2Vec2Config

from avff_lib.clip import AVFFError

# Only what changes the architecture or how it computes; SpecAugment would hide parts of the sound
# at random in training mode, unasked.
NO_SPEC_AUGMENT = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "layerdrop": 0.0}
HUB_PATIENCE = 3.0  # seconds to find out whether there is a hub at all

T = TypeVar("T")


class AudioEncoder(nn.Module):
    """Raw waveform -> Wav2Vec2 -> projection, one vector every 20 ms.

    Wav2Vec2 listens to the waveform itself, zero mean and unit variance; a mel spectrogram does not
    go in. Source: Baevski et al. 2020, section 2.
    """

    def __init__(self, backbone: PreTrainedModel, dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.project = nn.Linear(backbone.config.hidden_size, dim)

    def forward(self, waveform: Tensor) -> Tensor:
        """``(B, S)`` normalised samples at 16 kHz -> ``(B, Na, dim)``."""
        return self.project(self.backbone(waveform).last_hidden_state)


class VisualEncoder(nn.Module):
    """Frames -> timm ViT, each on its own -> projection, one vector a frame.

    The backbone is made with ``num_classes=0``; with timm's default it would return the 1000 logits
    of ImageNet. Source: Dosovitskiy et al. 2021, section 3.
    """

    def __init__(self, backbone: nn.Module, dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.project = nn.Linear(backbone.num_features, dim)

    def forward(self, frames: Tensor) -> Tensor:
        """``(B, T, 3, H, W)`` normalised frames -> ``(B, T, dim)``."""
        flat = rearrange(frames, "b t c h w -> (b t) c h w")
        return rearrange(self.project(self.backbone(flat)), "(b t) d -> b t d", t=frames.shape[1])


def build_audio_backbone(config: dict[str, Any]) -> PreTrainedModel:
    """Wav2Vec2 with random weights from the fields of its config."""
    return AutoModel.from_config(Wav2Vec2Config(**config))


def build_visual_backbone(config: dict[str, Any]) -> nn.Module:
    """timm ViT with random weights: ``model_name`` and what ``timm.create_model`` takes."""
    return timm.create_model(**config, pretrained=False, num_classes=0)


def load_audio_backbone(name_or_folder: str) -> PreTrainedModel:
    """Pretrained Wav2Vec2 from a hub id or from a local folder in transformers' format.

    Raises:
        AVFFError: it is neither here nor to be had.
    """

    def load(**where) -> PreTrainedModel:
        config = AutoConfig.from_pretrained(name_or_folder, **where)
        if config.model_type != "wav2vec2":
            raise AVFFError(
                f"{name_or_folder} is a {config.model_type} model; the audio encoder expects a wav2vec2 one"
            )
        for key, value in NO_SPEC_AUGMENT.items():
            setattr(config, key, value)
        return AutoModel.from_pretrained(name_or_folder, config=config, **where)

    return from_hub(name_or_folder, load)


def load_visual_backbone(name_or_folder: str) -> tuple[nn.Module, dict[str, Any]]:
    """Pretrained ViT from a timm name or from a local folder in timm's hub format.

    Returns:
        The model, and the config with which `build_visual_backbone` builds its like.

    Raises:
        AVFFError: it is neither here nor to be had.
    """
    name, config = name_or_folder, {"model_name": name_or_folder}
    if os.path.isdir(name_or_folder):
        name = f"local-dir:{name_or_folder}"  # timm tells folders by a scheme in front of the path
    elif not timm.is_model(name_or_folder):
        raise AVFFError(f"{name_or_folder} is neither a timm model nor a folder that holds one")

    def load(**_) -> nn.Module:
        if name != name_or_folder:
            card = json.loads(Path(name_or_folder, "config.json").read_text())
            config.update(model_name=card.get("architecture"), **card.get("model_args", {}))
        return timm.create_model(name, pretrained=True, num_classes=0)

    return from_hub(name_or_folder, load), config


def from_hub(name_or_folder: str, load: Callable[..., T]) -> T:
    """Call ``load(local_files_only=...)``, so that without a hub it fails within seconds, in one sentence.

    Raises:
        AVFFError: it is neither here nor to be had.
    """
    local = os.path.isdir(name_or_folder) or not _hub_answers()
    # Both libraries ask the hub several times, for 20 to 50 s, before they give up: where there is
    # no hub they are told to look only at what is on the disk.
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE or local
    try:
        return load(local_files_only=local)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise AVFFError(
            f"the encoder {name_or_folder} cannot be loaded here ({reason}); download it on a machine "
            "with a network and name its local folder, or use the preset 'tiny', which needs no download"
        ) from None
    finally:
        constants.HF_HUB_OFFLINE = before


def _hub_answers() -> bool:
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_PATIENCE).close()
    except HTTPError:  # it answered, if only to refuse
        return True
    except (OSError, HTTPException):
        return False
    return True
