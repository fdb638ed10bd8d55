"""Which step carries synchrony from drawings to people: each is taken back alone.

    for name in avff-sync avff-medium other grid-others wild; do
        avff prepare data/$name --out data/face/$name --image-size 48; done
    python results/sync_steps.py data/mouth data/face

Every variant learns from the same drawings as the first row of `people.py`, with the same budget, and is
measured on the same tests. That without the search needs no training: it is `auc_at_lag_0` of any row.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
import tyro
from common import HERE, pretrain
from people import DRAWN, TESTS, real_test_clips, separation
from torch import Tensor, nn

from avff_lib.data.shards import read_shards
from avff_lib.data.transforms import STRONG, Augment
from avff_lib.models import SyncNet, SyncNetConfig
from avff_lib.models.sync_net import MouthEncoder
from avff_lib.preprocess.spec import InputSpec
from avff_lib.training.config import TrainConfig
from avff_lib.utils.atomic import atomic_write

OUT = HERE / "sync-steps.json"


class FaceSyncNet(SyncNet):
    """Sees the detector's box of the face, which follows no landmark."""

    @property
    def spec(self) -> InputSpec:
        return replace(super().spec, region="face")


class StillMouthEncoder(MouthEncoder):
    """Without the subtraction; the scale stays that of the window."""

    def forward(self, frames: Tensor) -> Tensor:
        grey = torch.einsum("btchw,c->bthw", frames, self.luma)
        grey = (grey - grey.mean(dim=(1, 2, 3), keepdim=True)) / (
            grey.std(dim=(1, 2, 3), keepdim=True) + 1e-2
        )
        pictures = self.pictures(grey.flatten(0, 1)[:, None])
        vectors = self.flatten(pictures.flatten(1)).unflatten(0, frames.shape[:2])
        return self.time(vectors.transpose(1, 2)).transpose(1, 2)


class StillSyncNet(SyncNet):
    """Sees the pictures as they are, not less their mean."""

    def __init__(self, config: SyncNetConfig) -> None:
        super().__init__(config)
        self.visual_encoder = StillMouthEncoder(config.image_size, config.width, config.dim)


VARIANTS: dict[str, tuple[type[nn.Module], Augment]] = {
    "as shipped": (SyncNet, STRONG),
    "crop of the face": (FaceSyncNet, STRONG),
    "mean picture not subtracted": (StillSyncNet, STRONG),
    "no augmentation": (SyncNet, Augment()),
}


def main(
    mouth: tyro.conf.Positional[Path],
    face: tyro.conf.Positional[Path],
    seeds: tuple[int, ...] = (0,),
    steps: int = 300,
    batch_size: int = 16,
    lr: float = 1.5e-3,
    runs: Path = Path("runs/sync-steps"),
    out: Path = OUT,
    threads: int = 2,
) -> None:
    """Train and measure each variant.

    Args:
        mouth, face: folders with the shards of each source, of either region.
        seeds: one model of each variant with each.
        steps, batch_size, lr: of the training.
        runs: folder for states.
        out: JSON file; runs that it holds are not repeated.
        threads: of the processor; the last digits depend on it.
    """
    torch.set_num_threads(threads)
    settings = {"steps": steps, "batch_size": batch_size, "lr": lr}
    records = json.loads(out.read_text())["records"] if out.exists() else []
    for name, (family, augment) in VARIANTS.items():
        for seed in seeds:
            if any((record["variant"], record["seed"]) == (name, seed) for record in records):
                continue
            model = family.tiny(seed)
            shards = {"mouth": mouth, "face": face}[model.spec.region]
            train = [example for example in read_shards(shards / DRAWN, model.spec) if example.row.label == 0]
            config = TrainConfig(steps=steps, batch_size=batch_size, lr=lr, encoder_lr=lr, seed=seed)
            folder = runs / f"{name.replace(' ', '-')}-{seed}"
            retrieval = pretrain(model, train, config, folder, augment=augment)
            model.eval()
            found = {
                test: separation(model, real_test_clips(shards / source, model.spec))
                for test, source in TESTS.items()
            }
            records.append({"variant": name, "seed": seed, "retrieval": retrieval, **found})
            print(json.dumps(records[-1]), flush=True)
            with atomic_write(out) as path:
                command = "python results/sync_steps.py data/mouth data/face"
                content = {"command": command, "settings": settings, "records": records}
                path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
