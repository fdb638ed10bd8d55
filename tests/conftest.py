"""What several test files share: small models, and no hub."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

from avff_lib.models import AVFF, AVFFConfig
from avff_lib.models.configs import AVFF_TINY, AVFFMAE_TINY, TINY_AUDIO, TINY_VISUAL
from avff_lib.preprocess.spec import ModelInputs

torch.set_num_threads(1)

# The same classes as the tiny preset, smaller still, so that a training step takes milliseconds.
MINI = {
    **AVFF_TINY,
    "dim": 32,
    "heads": 4,
    "image_size": 32,
    "audio": {**TINY_AUDIO, "hidden_size": 32, "intermediate_size": 32, "conv_dim": [16] * 7},
    "visual": {**TINY_VISUAL, "img_size": 32, "embed_dim": 32, "depth": 1},
}

# As small as the models can be, for tests that load hundreds.
SMALLEST = {
    **{"dim": 8, "heads": 1, "frame_count": 2, "image_size": 16},
    "audio": {
        **{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8},
        **{"conv_dim": [8], "conv_kernel": [400], "conv_stride": [320], "feat_extract_norm": "layer"},
        **{"num_conv_pos_embeddings": 3, "num_conv_pos_embedding_groups": 1},
    },
    "visual": {
        **{"model_name": "vit_tiny_patch16_224", "img_size": 16, "patch_size": 8},
        **{"embed_dim": 8, "depth": 1, "num_heads": 1},
    },
}
SMALLEST_MAE = {
    **AVFFMAE_TINY,
    **{"dim": 12, "depth": 1, "heads": 1, "decoder_dim": 12, "decoder_depth": 1, "decoder_heads": 1},
    **{"audio_decoder_dim": 12, "audio_decoder_depth": 1, "audio_decoder_heads": 1},
    **{"reduced_dim": 2, "critic_dim": 2, "detail": 0, "image_size": 16, "frame_count": 4, "slices": 2},
    "mel": {**AVFFMAE_TINY["mel"], "n_mels": 16},
}


@pytest.fixture
def mini() -> AVFF:
    torch.manual_seed(0)
    return AVFF(AVFFConfig(**MINI))


@pytest.fixture
def inputs() -> ModelInputs:
    generator = torch.Generator().manual_seed(0)
    return ModelInputs(
        frames=torch.randn(4, 16, 3, 32, 32, generator=generator),
        audio=torch.randn(4, 16_000, generator=generator),
    )
