"""Which step carries synchrony from drawings to people: each is removed alone.

    for name in avff-sync other grid-others wild; do avff prepare data/$name --out data/face/$name; done
    python results/sync_steps.py data/mouth data/face

Every variant learns from the same drawings as the model with all steps, ``people.py --mixes drawings
--augment STRONG --steps 300``, with the same budget, and is measured on the same tests. The variant without
the search needs no training: it is `auc_at_lag_0` of any row. The starting point is measured for comparison:
stage one of the shipped detectors of drawings, by their agreement of lips and voice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import tyro
from common import HERE, pretrain, write_result
from people import DRAWN, MAX_SECONDS, TESTS, real_test_clips, separation, told_from_shifted
from sync_real import SHIFTS, shifted
from torch import Tensor, nn

from avff_lib.data.shards import StoredExample, read_shards
from avff_lib.data.transforms import STRONG, Augment
from avff_lib.inference.windows import WINDOW_HOP, predict_windows, sliding_windows
from avff_lib.media.clip import Clip
from avff_lib.models import Detector, SyncNet, SyncNetConfig
from avff_lib.models.checkpoint import SHIPPED_DIR
from avff_lib.models.sync_net import MouthEncoder
from avff_lib.preprocess.spec import InputSpec
from avff_lib.training.config import TrainConfig

BEFORE = ("avff-tiny", "avffmae-tiny")
STRANGERS = {name: folder for name, folder in TESTS.items() if name != "drawings"}
HOME_CLIPS = 100  # drawings of the renderer that the shipped detectors know
OUT = HERE / "sync-steps.json"


class FaceSyncNet(SyncNet):
    """Takes the box of the face, which follows no landmarks, in as many pixels as `AVFF.tiny`."""

    tiny_config: ClassVar[dict[str, Any]] = {"image_size": 64}

    @property
    def spec(self) -> InputSpec:
        return replace(super().spec, region="face")


class StillMouthEncoder(MouthEncoder):
    """Without the subtraction; still scaled by the window."""

    def center(self, grey: Tensor) -> Tensor:
        return grey - grey.mean(dim=(1, 2, 3), keepdim=True)


class StillSyncNet(SyncNet):
    """Takes the pictures without subtracting their mean."""

    def __init__(self, config: SyncNetConfig) -> None:
        super().__init__(config)
        self.visual_encoder = StillMouthEncoder(config.image_size, config.width, config.dim)


VARIANTS: dict[str, tuple[type[nn.Module], Augment]] = {
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
    """Measure the starting point, then train and measure each variant.

    Args:
        mouth, face: folders with the shards of each source, for each region.
        seeds: each variant has a model for each seed.
        steps, batch_size, lr: of the training.
        runs: folder for states.
        out: JSON file; runs that it holds are not repeated.
        threads: of the processor; the last digits depend on it.
    """
    torch.set_num_threads(threads)
    settings = {"steps": steps, "batch_size": batch_size, "lr": lr}
    content: dict[str, Any] = {
        "command": "python results/sync_steps.py data/mouth data/face",
        "settings": settings,
        "before": {},
        "records": [],
    }
    if out.exists():
        content |= json.loads(out.read_text())
    records = content["records"]

    for name in BEFORE:
        if name not in content["before"]:
            stage_one = Detector.from_pretrained(SHIPPED_DIR / name / "stage-one").eval()
            # These detectors do not know the variants' training data.
            tests = {"drawings": read_shards(face / DRAWN, stage_one.spec)[:HOME_CLIPS]} | {
                test: real_test_clips(face / source, stage_one.spec) for test, source in STRANGERS.items()
            }
            content["before"][name] = {test: by_agreement(stage_one, clips) for test, clips in tests.items()}
            print(name, json.dumps(content["before"][name]), flush=True)
            write_result(content, out)
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
                for test, source in STRANGERS.items()
            }
            records.append({"variant": name, "seed": seed, "retrieval": retrieval, **found})
            print(json.dumps(records[-1]), flush=True)
            write_result(content, out)


def by_agreement(model: Detector, examples: Sequence[StoredExample]) -> dict[str, Any]:
    """How well `Detector.agreement` separates real clips from the same clips with a shifted voice."""

    def agreement(clip: Clip) -> float:
        outputs = predict_windows(model, sliding_windows(clip, model.spec.duration, WINDOW_HOP))
        return float(outputs.agreement.mean())

    scores, groups = [], []
    for example in examples:
        clip = example.clip
        clip = clip.window(clip.start, min(clip.duration, MAX_SECONDS))
        scores.append([-agreement(shifted(clip, seconds)) for seconds in (0.0, *SHIFTS)])
        groups.append(example.row.group or example.row.source)
    return {"clips": len(examples), **told_from_shifted(np.array(scores), groups)}


if __name__ == "__main__":
    tyro.cli(main)
