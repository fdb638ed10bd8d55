"""Published weights, mapped key by key: AudioMAE for audio; MARLIN or VideoMAE for video.

Every key of a file is either mapped or known to belong to a part that is not used here (a mask token, a head
for another task); any other key is an error. Each model comes with the preprocessing that it was trained on.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import pickle
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor

from avff_lib.errors import AVFFError
from avff_lib.models.configs import AUDIOMAE_MEAN, AUDIOMAE_STD
from avff_lib.models.hub import from_hub
from avff_lib.nn.decoder import PatchDecoder
from avff_lib.nn.patches import TokenEncoder
from avff_lib.nn.positions import grid_positions
from avff_lib.preprocess.frames import IMAGENET_MEAN, IMAGENET_STD

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
CARD_NAME = "config.json"
# What VideoMAE's and MARLIN's cards call the heads of the attention.
HEADS = {
    "num_attention_heads": "encoder",
    "decoder_num_attention_heads": "decoder",
    "encoder_num_heads": "encoder",
    "decoder_num_heads": "decoder",
}
MIN_TAU = 0.01  # of AudioMAE's cosine attention
StateDict = dict[str, Tensor]

# What each was trained on, as fields of an `AVFFMAEConfig`.
MARLIN_SETTINGS: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
VIDEOMAE_SETTINGS: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
AUDIOMAE_SETTINGS: dict[str, Any] = {"audio_mean": AUDIOMAE_MEAN, "audio_std": AUDIOMAE_STD}

# Regular expression for the beginning of a key -> its name in the encoder or in the decoder, or None.
LAYER = (
    (r"attention\.attention\.", "attn."),
    (r"attention\.output\.dense\.", "attn.proj."),
    (r"intermediate\.dense\.", "mlp.fc1."),
    (r"output\.dense\.", "mlp.fc2."),
    (r"layernorm_before\.", "norm1."),
    (r"layernorm_after\.", "norm2."),
)
VIDEOMAE_KEYS = (
    (r"(videomae\.)?embeddings\.patch_embeddings\.projection\.", "encoder.patch_embed.proj."),
    *((r"(videomae\.)?encoder\.layer\.(\d+)\." + key, r"encoder.blocks.\2." + name) for key, name in LAYER),
    (r"(videomae\.)?layernorm\.", "encoder.norm."),
    (r"encoder_to_decoder\.", "decoder.embed."),
    *((r"decoder\.decoder_layers\.(\d+)\." + key, r"decoder.blocks.\1." + name) for key, name in LAYER),
    (r"decoder\.(norm|head)\.", r"decoder.\1."),
    (r"mask_token$|classifier\.|fc_norm\.", None),
)
MARLIN_KEYS = (
    (r"(?:marlin\.)?encoder\.patch_embedding\.projection\.", "encoder.patch_embed.proj."),
    (r"(?:marlin\.)?(encoder|decoder)\.pos_embedding\.emb$", r"\1.positions"),
    (r"(?:marlin\.)?(encoder|decoder)\.blocks\.(\d+)\.mlp\.layers\.0\.linear\.", r"\1.blocks.\2.mlp.fc1."),
    (r"(?:marlin\.)?(encoder|decoder)\.blocks\.(\d+)\.mlp\.layers\.1\.linear\.", r"\1.blocks.\2.mlp.fc2."),
    (r"(?:marlin\.)?(encoder|decoder)\.blocks\.(\d+)\.", r"\1.blocks.\2."),
    (r"(?:marlin\.)?(encoder|decoder)\.norm\.", r"\1.norm."),
    (r"enc_dec_proj\.", "decoder.embed."),
    (r"decoder\.head\.", "decoder.head."),
    (r"decoder\.mask_token$|discriminator\.", None),
)
AUDIOMAE_KEYS = (
    (r"patch_embed\.proj\.", "encoder.patch_embed.proj."),
    (r"pos_embed$", "encoder.positions"),
    (r"cls_token$", "encoder.class_token"),
    (r"blocks\.(\d+)\.", r"encoder.blocks.\1."),
    (r"norm\.", "encoder.norm."),
    (r"decoder_embed\.", "decoder.embed."),
    (r"decoder_pos_embed$", "decoder.positions"),
    (r"decoder_blocks\.(\d+)\.attn\.tau$", r"decoder.blocks.\1.attn.logit_scale"),
    (r"decoder_blocks\.(\d+)\.", r"decoder.blocks.\1."),
    (r"decoder_norm\.", "decoder.norm."),
    (r"decoder_pred\.", "decoder.head."),
    (r"mask_token$|head\.|fc_norm\.", None),
)
# timm's fused parameter -> the separate ones that it concatenates; transformers renames the biases when it
# saves.
QKV_KEYS = (
    ("qkv.weight", ("query.weight", "key.weight", "value.weight")),
    ("qkv.bias", ("q_bias", "v_bias")),
    ("qkv.bias", ("query.bias", "value.bias")),
)


@dataclass(frozen=True, eq=False)
class PublishedWeights:
    """The weights of a published masked autoencoder under the names of `TokenEncoder` and `PatchDecoder`.

    Attributes:
        name: where they come from, for messages.
        encoder: by name.
        decoder: by name; empty if the file holds none.
        settings: the preprocessing that they were trained on, as fields of an
            `avff_lib.models.configs.AVFFMAEConfig`.
        heads: of the attention in encoder and decoder, where a card beside the file states them.
    """

    name: str
    encoder: StateDict
    decoder: StateDict
    settings: dict[str, Any]
    heads: dict[str, int] = field(default_factory=dict)


def read_video_mae(name: str) -> PublishedWeights:
    """Weights of MARLIN (its releases' format, or the hub's) or of VideoMAE (transformers' format).

    Args:
        name: hub id, folder, or file.

    Raises:
        AVFFError: they are not on this machine and cannot be downloaded, or are of another model.
    """
    state, card = _read(name)
    heads = {part: card[key] for key, part in HEADS.items() if key in card}
    marlin = any("encoder.patch_embedding." in key for key in state)
    encoder, decoder = _rename(state, MARLIN_KEYS if marlin else VIDEOMAE_KEYS, name)
    if "embed.weight" in decoder:  # in both it has no bias
        decoder["embed.bias"] = torch.zeros(decoder["embed.weight"].shape[:1])
    if not marlin:
        return PublishedWeights(name, encoder, decoder, VIDEOMAE_SETTINGS, heads)
    for key in ("head.weight", "head.bias"):
        if key in decoder and decoder[key].ndim and len(decoder[key]) % 3 == 0:
            # MARLIN's values of a tubelet begin with the colour, those here end with it.
            decoder[key] = decoder[key].unflatten(0, (3, -1)).transpose(0, 1).flatten(0, 1)
    return PublishedWeights(name, encoder, decoder, MARLIN_SETTINGS, heads)


def read_audiomae(name: str) -> PublishedWeights:
    """Weights of AudioMAE, in its own format or, without a decoder, in timm's, which has the same names.

    Args:
        name: hub id, folder, or file.

    Raises:
        AVFFError: they are not on this machine and cannot be downloaded, or are of another model.
    """
    encoder, decoder = _rename(_read(name)[0], AUDIOMAE_KEYS, name)
    token, positions = encoder.get("class_token"), encoder.get("positions")
    if token is None or positions is None or token.shape[-1:] != positions.shape[-1:]:
        raise AVFFError(
            f"{name} lacks cls_token or pos_embed, or the two differ in length; choose a complete "
            "AudioMAE checkpoint"
        )
    # The first position is the class token's, which the decoder drops; the patches' follow, time-major.
    positions = _rows(positions)
    encoder |= {"class_token": (token + positions[:1]).flatten(), "positions": positions[1:]}
    if "positions" in decoder:
        decoder["positions"] = _rows(decoder["positions"])[1:]
    for key, tau in decoder.items():
        if key.endswith("logit_scale"):
            decoder[key] = -tau.clamp(min=MIN_TAU).log()  # timm multiplies where AudioMAE divides
    return PublishedWeights(name, encoder, decoder, AUDIOMAE_SETTINGS)


def load_encoder(encoder: TokenEncoder, weights: PublishedWeights) -> None:
    """Load an encoder, strictly.

    If an AudioMAE was trained on longer windows, its positions of the first moments are used, which is right
    as long as it has the same number of bands. VideoMAE's file holds no positions; they are computed as
    sine-cosine codes of the token's index.

    Args:
        encoder: changed in place.
        weights: as `read_video_mae` or `read_audiomae` returns them.

    Raises:
        AVFFError: a weight is missing, unexpected, or of another shape.
    """
    _load(encoder, weights.encoder, weights, "encoder")


def load_decoder(decoder: PatchDecoder, weights: PublishedWeights) -> None:
    """Load a decoder, strictly; if the file holds none, warn and leave it as it is.

    Args:
        decoder: changed in place.
        weights: as `read_video_mae` or `read_audiomae` returns them.

    Raises:
        AVFFError: a weight is missing, unexpected, or of another shape.
    """
    if not weights.decoder:
        warnings.warn(f"{weights.name} holds no decoder; it starts from random weights", stacklevel=3)
        return
    _load(decoder, weights.decoder, weights, "decoder")


def _load(
    module: TokenEncoder | PatchDecoder, state: StateDict, weights: PublishedWeights, part: str
) -> None:
    expected, name = module.state_dict(), weights.name
    count, dim = module.positions.shape
    state = _fuse_qkv(state)
    positions = _rows(state.get("positions", grid_positions((count,), dim)))
    # For video, additional positions may belong to longer windows or to larger frames.
    state["positions"] = positions[:count] if len(module.grid) == 2 else positions
    mismatched = sorted(state.keys() ^ expected.keys())
    if mismatched:
        first = mismatched[0]
        where = "is missing from" if first in expected else f"is not a weight of the {part}, but is in"
        raise AVFFError(
            f"{first} {where} the {part} of {name} ({len(mismatched)} such weights); choose a checkpoint of "
            "this size"
        )
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape:
            raise AVFFError(
                f"{key} has shape {tuple(tensor.shape)} in the {part} of {name}, the model asks for "
                f"{tuple(expected[key].shape)}; choose a checkpoint of this size"
            )
    if weights.heads.get(part, module.heads) != module.heads:
        raise AVFFError(
            f"the {part} of {name} has {weights.heads[part]} heads, the model {module.heads}; choose a "
            "checkpoint of this size"
        )
    module.load_state_dict(state)


def _fuse_qkv(state: StateDict) -> StateDict:
    """Queries, keys and values in one matrix, as timm's attention has them.

    VideoMAE and MARLIN have no bias on the keys, as adding a constant to all keys does not change the
    softmax; here it becomes 0. Incomplete sets stay as they are, and are reported as unexpected weights.
    """
    fused = dict(state)
    for attention in {key.rsplit(".attn.", 1)[0] + ".attn." for key in state if ".attn." in key}:
        for whole, names in QKV_KEYS:
            parts = [fused[attention + name] for name in names if attention + name in fused]
            if len(parts) < len(names) or any(
                part.shape != parts[0].shape or not part.ndim for part in parts
            ):
                continue
            if whole == "qkv.bias":
                parts.insert(1, torch.zeros_like(parts[0]))
            fused[attention + whole] = torch.cat(parts)
            for name in names:
                del fused[attention + name]
    return fused


def _rows(positions: Tensor) -> Tensor:
    """Position codes of any shape ``(..., D)`` -> ``(N, D)``."""
    return torch.atleast_2d(positions).flatten(0, -2)


def _rename(
    state: StateDict, rules: tuple[tuple[str, str | None], ...], name: str
) -> tuple[StateDict, StateDict]:
    """The weights of encoder and decoder."""
    parts: dict[str, StateDict] = {"encoder": {}, "decoder": {}}
    for key, tensor in state.items():
        found = next(((match, new) for pattern, new in rules if (match := re.match(pattern, key))), None)
        if found is None:
            raise AVFFError(
                f"{name} holds the weight {key}, which belongs to no known part; expected the weights of "
                "VideoMAE or MARLIN for video, of AudioMAE for audio"
            )
        match, new = found
        if new is not None:
            part, _, rest = (match.expand(new) + key[match.end() :]).partition(".")
            parts[part][rest] = tensor.float()
    return parts["encoder"], parts["decoder"]


def _read(name: str) -> tuple[StateDict, dict[str, Any]]:
    """The tensors of a file, a folder or a hub repository, by name, and the card beside them, if any."""
    path = Path(name)
    if path.is_dir():
        files = [path / file for file in WEIGHT_FILES if (path / file).exists()]
        if not files:
            raise AVFFError(
                f"{name} holds neither {' nor '.join(WEIGHT_FILES)}; name a file or another folder"
            )
        path = files[0]
    if not path.exists():
        path = Path(from_hub(name, functools.partial(_download, name)))
    return _tensors(path), _card(path.with_name(CARD_NAME))


def _tensors(path: Path) -> StateDict:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # AudioMAE's file also holds its training arguments, an argparse.Namespace of plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own message advises loading without the check that failed
        raise AVFFError(
            f"{path} cannot be read as weights (it is damaged, or holds more than tensors and plain values); "
            "copy the file again"
        ) from None
    except Exception as error:  # on a damaged pickle torch.load raises anything from EOFError to KeyError
        reason = str(error).strip().split("\n")[0]
        raise AVFFError(f"{path} cannot be read as weights ({reason}); copy the file again") from None
    if isinstance(state, dict):
        state = state.get("model", state)
    if not isinstance(state, dict):
        raise AVFFError(f"{path} holds a {type(state).__name__}; expected weights by their names")
    return {
        key: tensor for key, tensor in state.items() if isinstance(key, str) and isinstance(tensor, Tensor)
    }


def _card(path: Path) -> dict[str, Any]:
    """The contents of a ``config.json``; empty if there is none or it is something else."""
    try:
        card = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def _download(name: str, local_files_only: bool) -> str:
    """Path of the first of `WEIGHT_FILES` that a hub repository has, its card beside it."""
    preferred, fallback = WEIGHT_FILES
    with contextlib.suppress(EntryNotFoundError):
        hf_hub_download(name, CARD_NAME, local_files_only=local_files_only)
    try:
        return hf_hub_download(name, preferred, local_files_only=local_files_only)
    except EntryNotFoundError:
        return hf_hub_download(name, fallback, local_files_only=local_files_only)
