"""Published encoder weights, mapped key by key onto `TokenEncoder`: VideoMAE, MARLIN, AudioMAE.

Every key of a file is either mapped, or known to belong to a part that is not used (a decoder, a mask
token); a key that is neither is an error. Nothing is loaded by luck.
"""

from __future__ import annotations

import argparse
import pickle
import re
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from avff_lib.clip import AVFFError
from avff_lib.models.encoders import from_hub
from avff_lib.nn.patches import TokenEncoder
from avff_lib.nn.positions import grid_positions

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
State = dict[str, Tensor]


class Statistics(NamedTuple):
    """How an encoder's pictures were normalised, per RGB channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNCHANGED = Statistics((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

# What a key of a file begins with -> what it is called here. A key that nothing matches is an error.
VIDEOMAE = (
    (r"(videomae\.)?embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"(videomae\.)?encoder\.layer\.(\d+)\.attention\.attention\.", r"blocks.\2.attn."),
    (r"(videomae\.)?encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\2.attn.proj."),
    (r"(videomae\.)?encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\2.mlp.fc1."),
    (r"(videomae\.)?encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\2.mlp.fc2."),
    (r"(videomae\.)?encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\2.norm1."),
    (r"(videomae\.)?encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\2.norm2."),
    (r"(videomae\.)?layernorm\.", "norm."),
)
MARLIN = (
    (r"encoder\.patch_embedding\.projection\.", "patch_embed.proj."),
    (r"encoder\.pos_embedding\.emb$", "positions"),
    (r"encoder\.blocks\.(\d+)\.mlp\.layers\.0\.linear\.", r"blocks.\1.mlp.fc1."),
    (r"encoder\.blocks\.(\d+)\.mlp\.layers\.1\.linear\.", r"blocks.\1.mlp.fc2."),
    (r"encoder\.blocks\.(\d+)\.", r"blocks.\1."),
    (r"encoder\.norm\.", "norm."),
)
AUDIOMAE = (
    (r"patch_embed\.proj\.", "patch_embed.proj."),
    (r"pos_embed$", "positions"),
    (r"cls_token$", "class_token"),
    (r"blocks\.(\d+)\.", r"blocks.\1."),
    (r"norm\.", "norm."),
)
# What an attention has in one piece here -> the pieces that it comes in; transformers renames the biases
# when it saves.
QKV = (
    ("qkv.weight", ("query.weight", "key.weight", "value.weight")),
    ("qkv.bias", ("q_bias", "v_bias")),
    ("qkv.bias", ("query.bias", "value.bias")),
)
# The other half of an autoencoder, and heads for other tasks.
UNUSED = r"decoder|mask_token$|encoder_to_decoder\.|enc_dec_proj\.|discriminator\.|classifier\.|head\."


def read_visual(name: str) -> tuple[State, Statistics]:
    """Weights of a VideoMAE (transformers' format) or of MARLIN (its own), and how its pictures look.

    Args:
        name: hub id, folder, or file.

    Raises:
        AVFFError: they are neither here nor to be had, or of another kind.
    """
    state = _read(name)
    if any(key.startswith("encoder.patch_embedding.") for key in state):
        return _rename(state, MARLIN, name), UNCHANGED  # MARLIN takes pixels in [0, 1] as they are
    return _rename(state, VIDEOMAE, name), IMAGENET


def read_audio(name: str) -> State:
    """Weights of an AudioMAE, in its own format or in timm's, which has the same names.

    Args:
        name: hub id, folder, or file.

    Raises:
        AVFFError: they are neither here nor to be had, or of another kind.
    """
    state = _rename(_read(name), AUDIOMAE, name)
    token, places = state.get("class_token"), state.get("positions")
    if token is None or places is None or token.shape[-1:] != places.shape[-1:]:
        raise AVFFError(
            f"{name} lacks cls_token or pos_embed, or the two are not of one length; choose a whole "
            "AudioMAE checkpoint"
        )
    # The class token has a place of its own, the first; patches follow, all bands of a moment together.
    places = places.reshape(-1, places.shape[-1])
    return state | {"class_token": token + places[:1], "positions": places[1:]}


def load_encoder(encoder: TokenEncoder, state: State, name: str) -> None:
    """Put ``state`` into ``encoder``; every weight must be there and fit.

    An AudioMAE for longer windows gives the codes of its first moments, which is right as long as it has
    as many bands. VideoMAE keeps no codes in its file, since they follow from a formula: sines and
    cosines of the token's number.

    Raises:
        AVFFError: a weight is missing, left over, or of another shape.
    """
    wanted = encoder.state_dict()
    places, dim = encoder.positions.shape
    state = _join_qkv(state)
    codes = state.get("positions", grid_positions((places,), dim))
    codes = codes.reshape(-1, codes.shape[-1])
    # Of a video's codes nobody can say whether there are more for its time or for its size.
    state["positions"] = codes[:places] if len(encoder.grid) == 2 else codes
    if "class_token" in state:
        state["class_token"] = state["class_token"].flatten()
    odd = sorted(state.keys() ^ wanted.keys())
    if odd:
        where = "is missing from" if odd[0] in wanted else "has no place in the encoder, but is in"
        raise AVFFError(
            f"{odd[0]} {where} {name} ({len(odd)} such weights); choose a checkpoint of this size"
        )
    for key, tensor in state.items():
        if tensor.shape != wanted[key].shape:
            raise AVFFError(
                f"{key} has shape {tuple(tensor.shape)} in {name}, the encoder asks for "
                f"{tuple(wanted[key].shape)}; choose a checkpoint of this size"
            )
    encoder.load_state_dict(state)


def _join_qkv(state: State) -> State:
    """Queries, keys and values in one matrix, as `avff_lib.nn.blocks.Attention` keeps them.

    VideoMAE and MARLIN have no bias on the keys: a constant added to all keys of a query changes
    nothing in the softmax. Here it becomes 0. Parts that are not complete stay as they are, and have no
    place in the encoder.
    """
    joined = dict(state)
    for attention in {key.rsplit(".attn.", 1)[0] + ".attn." for key in state if ".attn." in key}:
        for whole, names in QKV:
            parts = [joined.get(attention + name) for name in names]
            if any(part is None or part.shape != parts[0].shape for part in parts):
                continue
            if whole == "qkv.bias":
                parts.insert(1, torch.zeros_like(parts[0]))
            joined[attention + whole] = torch.cat(parts)
            for name in names:
                del joined[attention + name]
    return joined


def _rename(state: State, rules: tuple[tuple[str, str], ...], name: str) -> State:
    renamed = {}
    for key, tensor in state.items():
        match, new = next(((m, new) for old, new in rules if (m := re.match(old, key))), (None, ""))
        if match:
            renamed[match.expand(new) + key[match.end() :]] = tensor.float()
        elif not re.match(UNUSED, key):
            raise AVFFError(
                f"{name} holds the weight {key}, which belongs to no known part; expected the weights of "
                "VideoMAE or MARLIN for the picture, of AudioMAE for the sound"
            )
    return renamed


def _read(name: str) -> State:
    """The tensors of a file, of a folder, or of a hub's repository."""
    path = Path(name)
    if path.is_dir():
        found = [path / file for file in WEIGHT_FILES if (path / file).exists()]
        if not found:
            raise AVFFError(
                f"{name} holds neither {' nor '.join(WEIGHT_FILES)}; name a file or another folder"
            )
        path = found[0]
    if not path.exists():
        path = Path(from_hub(name, lambda **where: _download(name, **where)))
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # AudioMAE's file also keeps the arguments of its training, which are plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).strip().split("\n")[0]
        raise AVFFError(f"{path} cannot be read as weights ({reason}); copy the file anew") from None
    if isinstance(state, dict):
        state = state.get("model", state)
    if not isinstance(state, dict):
        raise AVFFError(f"{path} holds a {type(state).__name__}; expected weights by their names")
    return {key: tensor for key, tensor in state.items() if isinstance(tensor, Tensor)}


def _download(name: str, **where: bool) -> str:
    for file in WEIGHT_FILES[:-1]:
        try:
            return hf_hub_download(name, file, **where)
        except EntryNotFoundError:
            continue
    return hf_hub_download(name, WEIGHT_FILES[-1], **where)
