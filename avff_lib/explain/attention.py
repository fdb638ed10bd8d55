"""Where the encoders of the masked autoencoder attend. This does not explain a score; see chapter 17."""

from __future__ import annotations

from typing import cast

import torch
from einops import repeat
from timm.layers import Attention
from torch import Tensor
from torch.nn import functional as F

from avff_lib.errors import AVFFError
from avff_lib.explain.attribution import SaliencyMap
from avff_lib.models import AVFFMAE, Detector
from avff_lib.nn.blocks import Block, attention_weights
from avff_lib.nn.patches import TokenEncoder
from avff_lib.preprocess.spec import ModelInputs


@torch.inference_mode()
def attention_map(model: Detector, inputs: ModelInputs) -> SaliencyMap:
    """How much attention each patch of a window receives in the last block of its stream's encoder.

    The mean over all heads and queries, divided evenly among the points of a patch; each stream's map sums to
    1. It has no sign and no baseline, and does not depend on the classifier.

    Args:
        model: an `AVFFMAE`, whose streams are both patches on a grid.
        inputs: one window, ``(1, ...)``.

    Raises:
        AVFFError: the model is of another family, or there are several windows.
    """
    if not isinstance(model, AVFFMAE):
        raise AVFFError(
            f"the model is an {type(model).__name__}, whose audio is not a grid of patches; give an AVFFMAE"
        )
    if len(inputs.frames) != 1:
        raise AVFFError(f"{len(inputs.frames)} windows were given; expected one")
    config = model.config
    (u, p, q), (columns, bands) = config.video_patch, config.audio_patch
    visual = received_attention(model.visual_encoder, inputs.frames).view(config.video_grid)
    frames = repeat(visual, "t h w -> (t u) (h p) (w q)", u=u, p=p, q=q) / (u * p * q)
    patches = received_attention(model.audio_encoder, model.spectrogram(inputs)).view(config.audio_grid)
    audio = repeat(patches, "t f -> (f q) (t p)", p=columns, q=bands) / (columns * bands)
    return SaliencyMap(frames, F.pad(audio, (0, inputs.audio.shape[-1] - audio.shape[-1])))


def received_attention(encoder: TokenEncoder, stream: Tensor) -> Tensor:
    """Mean attention that each token receives in the last block, ``(N,)``, normalised to a sum of 1.

    A class token takes part but is left out of the result.
    """
    tokens = encoder.embed(stream)
    for block in encoder.blocks[:-1]:
        tokens = block(tokens)
    last = cast(Block, encoder.blocks[-1])
    weights = attention_weights(cast(Attention, last.attn), last.norm1(tokens))  # (1, heads, N, N)
    received = weights.mean(dim=(0, 1, 2))[-encoder.positions.shape[0] :]
    return received / received.sum()
