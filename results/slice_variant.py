"""What the small model gains from its own features: slices, centring, a reduction slice by slice.

    avff synth data/avff-small --clips 1000 --identities 100 --seed 2026
    avff prepare data/avff-small --out data/small-shards
    python results/slice_variant.py

The paper's model compares whole windows, subtracts nothing, and reduces over all patches; each of these in
turn replaces the small model's own design, and is trained as in `ablations.py`.
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import torch
import tyro
from ablations import Variant, compare
from common import HERE, Options
from torch import Tensor

from avff_lib.models import AVFFMAE, avff_mae, contrast
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.training.objectives import pretraining_loss

OPTIONS = Options(
    HERE / "slice-variant.json",
    shards=Path("data/small-shards"),
    data=Path("data/avff-small"),
    steps=150,
)


class NotCentred(AVFFMAE):
    """Slices are compared without centring, in stage one and in the agreement that the classifier gets."""

    def __init__(self, config: avff_mae.AVFFMAEConfig) -> None:
        super().__init__(config)
        self.audio_centering = self.visual_centering = torch.nn.Identity()


def stage_one_not_centred(
    model: AVFFMAE, inputs: ModelInputs, labels: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """`pretraining_loss` with a contrast that subtracts nothing."""
    with mock.patch.object(contrast, "centered", lambda audio, visual: (audio, visual)):
        return pretraining_loss(model, inputs, labels, generator)


VARIANTS = {
    "slice variant": Variant(),
    "slices as they are": Variant(NotCentred, first=stage_one_not_centred),
    "contrast of windows": Variant(config={"granularity": "clip", "temperature": 0.05}),
    "reduction over patches": Variant(config={"reduction": "patch"}),
}


def main(options: Options = OPTIONS, first_steps: int = 200) -> None:
    """Train and test every variant.

    Args:
        options: of every experiment.
        first_steps: of stage one.
    """
    compare(VARIANTS, options, first_steps)


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
