"""Where the encoders of the masked autoencoder look. It is no reason for a verdict; see chapter 14."""

from __future__ import annotations

import torch
from einops import repeat
from torch import Tensor
from torch.nn import functional as F

from avff_lib.clip import AVFFError, ModelInputs
from avff_lib.explain.maps import Map
from avff_lib.models import AVFFMAE, Detector
from avff_lib.nn.patches import TokenEncoder


@torch.inference_mode()
def attention_map(model: Detector, inputs: ModelInputs) -> Map:
    """How much each place of a window is looked at in the last block of its stream's encoder.

    The mean over all heads and all places that look, shared out evenly among the points of a patch; each
    stream's map adds up to 1. It has no sign, no baseline, and knows nothing of the head behind it.

    Args:
        model: whose streams are both patches on a grid.
        inputs: one window, ``(1, ...)``.

    Raises:
        AVFFError: the model is of another family, or there are several windows.
    """
    if not isinstance(model, AVFFMAE):
        raise AVFFError(
            f"the model is an {type(model).__name__}, whose sound is no grid of patches; give an AVFFMAE"
        )
    if len(inputs.frames) != 1:
        raise AVFFError(f"{len(inputs.frames)} windows were given; expected one")
    config = model.config
    (u, p, q), (columns, bands) = config.video_patch, config.audio_patch
    seen = received(model.visual_encoder, inputs.frames).view(config.video_grid)
    frames = repeat(seen, "t h w -> (t u) (h p) (w q)", u=u, p=p, q=q) / (u * p * q)
    heard = received(model.audio_encoder, model.spectrogram(inputs)).view(config.audio_grid)
    sound = repeat(heard, "t f -> (f q) (t p)", p=columns, q=bands) / (columns * bands)
    return Map(frames, F.pad(sound, (0, inputs.audio.shape[-1] - sound.shape[-1])))


def received(encoder: TokenEncoder, stream: Tensor) -> Tensor:
    """Attention that each token gets in the last block, ``(N,)``; they add up to 1.

    A class token looks and is looked at, and is left out of the answer.
    """
    tokens = encoder.embed(stream)
    for block in encoder.blocks[:-1]:
        tokens = block(tokens)
    last = encoder.blocks[-1]
    query, key, _ = last.attn.split(last.norm1(tokens))  # (1, heads, N, D / heads)
    weights = (query @ key.mT / key.shape[-1] ** 0.5).softmax(dim=-1)
    got = weights.mean(dim=(0, 1, 2))[-len(encoder.positions) :]
    return got / got.sum()
