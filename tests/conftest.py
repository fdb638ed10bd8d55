"""What several test files share: small models, and no hub."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

from avff_lib.models import AVFF, AVFFConfig
from avff_lib.models.configs import AVFF_TINY, TINY_AUDIO, TINY_VISUAL
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
