"""Published encoder weights, mapped key by key onto `TokenEncoder`: VideoMAE, MARLIN, AudioMAE.

Every key of a file is either mapped or known to belong to an unused part (a decoder, a mask token); any other
key is an error.
"""

from __future__ import annotations

import argparse
import functools
import re
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor

from avff_lib.errors import AVFFError
from avff_lib.models.hub import from_hub
from avff_lib.nn.patches import TokenEncoder
from avff_lib.nn.positions import grid_positions
from avff_lib.preprocess.frames import IMAGENET_MEAN, IMAGENET_STD

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
StateDict = dict[str, Tensor]


class Normalization(NamedTuple):
    """Mean and standard deviation that an encoder's frames were normalised with, per RGB channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalization(IMAGENET_MEAN, IMAGENET_STD)
NO_NORMALIZATION = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

# Regular expression for the beginning of a key -> its name in `TokenEncoder`.
VIDEOMAE_KEYS = (
    (r"(videomae\.)?embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"(videomae\.)?encoder\.layer\.(\d+)\.attention\.attention\.", r"blocks.\2.attn."),
    (r"(videomae\.)?encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\2.attn.proj."),
    (r"(videomae\.)?encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\2.mlp.fc1."),
    (r"(videomae\.)?encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\2.mlp.fc2."),
    (r"(videomae\.)?encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\2.norm1."),
    (r"(videomae\.)?encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\2.norm2."),
    (r"(videomae\.)?layernorm\.", "norm."),
)
MARLIN_KEYS = (
    (r"encoder\.patch_embedding\.projection\.", "patch_embed.proj."),
    (r"encoder\.pos_embedding\.emb$", "positions"),
    (r"encoder\.blocks\.(\d+)\.mlp\.layers\.0\.linear\.", r"blocks.\1.mlp.fc1."),
    (r"encoder\.blocks\.(\d+)\.mlp\.layers\.1\.linear\.", r"blocks.\1.mlp.fc2."),
    (r"encoder\.blocks\.(\d+)\.", r"blocks.\1."),
    (r"encoder\.norm\.", "norm."),
)
AUDIOMAE_KEYS = (
    (r"patch_embed\.proj\.", "patch_embed.proj."),
    (r"pos_embed$", "positions"),
    (r"cls_token$", "class_token"),
    (r"blocks\.(\d+)\.", r"blocks.\1."),
    (r"norm\.", "norm."),
)
# timm's fused parameter -> the separate ones that it is concatenated from; transformers renames the biases
# when it saves.
QKV_KEYS = (
    ("qkv.weight", ("query.weight", "key.weight", "value.weight")),
    ("qkv.bias", ("q_bias", "v_bias")),
    ("qkv.bias", ("query.bias", "value.bias")),
)
# The other half of an autoencoder, and heads for other tasks.
UNUSED_KEYS = r"decoder|mask_token$|encoder_to_decoder\.|enc_dec_proj\.|discriminator\.|classifier\.|head\."


def read_visual_weights(name: str) -> tuple[StateDict, Normalization]:
    """Weights of VideoMAE (transformers' format) or MARLIN (its own format), and the normalisation of frames.

    Args:
        name: hub id, folder, or file.

    Raises:
        AVFFError: they are not on this machine and cannot be downloaded, or are of another model.
    """
    state = _read(name)
    if any(key.startswith("encoder.patch_embedding.") for key in state):
        return _rename(state, MARLIN_KEYS, name), NO_NORMALIZATION  # MARLIN takes pixels in [0, 1]
    return _rename(state, VIDEOMAE_KEYS, name), IMAGENET


def read_audio_weights(name: str) -> StateDict:
    """Weights of AudioMAE, in its own format or in timm's, which has the same names.

    Args:
        name: hub id, folder, or file.

    Raises:
        AVFFError: they are not on this machine and cannot be downloaded, or are of another model.
    """
    state = _rename(_read(name), AUDIOMAE_KEYS, name)
    token, positions = state.get("class_token"), state.get("positions")
    if token is None or positions is None or token.shape[-1:] != positions.shape[-1:]:
        raise AVFFError(
            f"{name} lacks cls_token or pos_embed, or the two differ in length; choose a complete "
            "AudioMAE checkpoint"
        )
    # The first position is the class token's; those of the patches follow, time-major.
    positions = _rows(positions)
    return state | {"class_token": token + positions[:1], "positions": positions[1:]}


def load_encoder(encoder: TokenEncoder, state: StateDict, name: str) -> None:
    """Load ``state`` into ``encoder``, strictly.

    Of an AudioMAE for longer windows the positions of the first moments are used, which is right as long as
    it has as many bands. VideoMAE's file holds no positions, since they are computed: sine-cosine codes of
    the token's index.

    Args:
        encoder: changed in place.
        state: as `read_visual_weights` or `read_audio_weights` returns it.
        name: of the weights, for error messages.

    Raises:
        AVFFError: a weight is missing, unexpected, or of another shape.
    """
    expected = encoder.state_dict()
    count, dim = encoder.positions.shape
    state = _fuse_qkv(state)
    positions = _rows(state.get("positions", grid_positions((count,), dim)))
    # For a video it is not known whether additional positions belong to more time or to larger frames.
    state["positions"] = positions[:count] if len(encoder.grid) == 2 else positions
    if "class_token" in state:
        state["class_token"] = state["class_token"].flatten()
    mismatched = sorted(state.keys() ^ expected.keys())
    if mismatched:
        first = mismatched[0]
        where = "is missing from" if first in expected else "is no weight of the encoder, but is in"
        raise AVFFError(
            f"{first} {where} {name} ({len(mismatched)} such weights); choose a checkpoint of this size"
        )
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape:
            raise AVFFError(
                f"{key} has shape {tuple(tensor.shape)} in {name}, the encoder asks for "
                f"{tuple(expected[key].shape)}; choose a checkpoint of this size"
            )
    encoder.load_state_dict(state)


def _fuse_qkv(state: StateDict) -> StateDict:
    """Queries, keys and values in one matrix, as timm's attention has them.

    VideoMAE and MARLIN have no bias on the keys, as adding a constant to all keys does not change the
    softmax; here it becomes 0. Incomplete sets stay as they are, and are then unexpected weights.
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


def _rename(state: StateDict, rules: tuple[tuple[str, str], ...], name: str) -> StateDict:
    renamed = {}
    for key, tensor in state.items():
        for pattern, replacement in rules:
            match = re.match(pattern, key)
            if match:
                renamed[match.expand(replacement) + key[match.end() :]] = tensor.float()
                break
        else:
            if not re.match(UNUSED_KEYS, key):
                raise AVFFError(
                    f"{name} holds the weight {key}, which belongs to no known part; expected the weights of "
                    "VideoMAE or MARLIN for video, of AudioMAE for audio"
                )
    return renamed


def _read(name: str) -> StateDict:
    """The tensors of a file, a folder or a hub repository, by name."""
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
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # AudioMAE's file also holds its training arguments, an argparse.Namespace of plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged pickle torch.load says anything from EOFError to KeyError
        reason = str(error).strip().split("\n")[0]
        raise AVFFError(f"{path} cannot be read as weights ({reason}); copy the file anew") from None
    if isinstance(state, dict):
        state = state.get("model", state)
    if not isinstance(state, dict):
        raise AVFFError(f"{path} holds a {type(state).__name__}; expected weights by their names")
    return {
        key: tensor for key, tensor in state.items() if isinstance(key, str) and isinstance(tensor, Tensor)
    }


def _download(name: str, local_files_only: bool) -> str:
    """Path of the first of `WEIGHT_FILES` that a hub repository has."""
    preferred, fallback = WEIGHT_FILES
    try:
        return hf_hub_download(name, preferred, local_files_only=local_files_only)
    except EntryNotFoundError:
        return hf_hub_download(name, fallback, local_files_only=local_files_only)
