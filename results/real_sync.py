"""From drawings to people: does synchrony, learned on drawn heads, transfer to people?

    python results/real_sync.py FOLDER --steps 600

Stage one is trained on real clips of the corpus with the augmentation `STRONG`. Then, without labels or
further training, real clips of a folder are separated from the same clips with the voice shifted: by the mean
cosine between the changes of both streams, and for comparison by the training-free ``avff sync``. Real test
clips of the corpus show what is lost in the transfer. The clips of the folder should be in sync and a few
seconds long, with one speaker each; file names are not recorded. Intervals are over the clips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import tyro
from common import HERE, Options, Table, pretrain
from sklearn.metrics import roc_auc_score
from sync_real import SHIFTS, shifted

from avff_lib.data.examples import Example
from avff_lib.data.transforms import STRONG
from avff_lib.errors import AVFFError
from avff_lib.evaluation.metrics import bootstrap_auc
from avff_lib.faces.crop import crop_face
from avff_lib.faces.mouth import speaker_face
from avff_lib.inference.sync import correlate_streams, mouth_opening
from avff_lib.inference.windows import WINDOW_HOP, sliding_windows
from avff_lib.media.clip import Clip
from avff_lib.media.decode import read_clip
from avff_lib.models import AVFF
from avff_lib.nn.cross_modal import agreement
from avff_lib.preprocess.prepare import prepare_batch

OPTIONS = Options(HERE / "real-sync.json", steps=600)
LR = 1.5e-3  # of the recipe of train.py
DRAWN = 60  # clips of the corpus


@torch.inference_mode()
def synchrony(model: AVFF, clip: Clip) -> float:
    """Mean cosine between the changes of both streams over all windows of a face crop."""
    windows = prepare_batch(sliding_windows(clip, model.spec.duration, WINDOW_HOP), model.spec)
    return float(agreement(model.eval().encode(windows)).mean())


def separation(clips: Sequence[Clip], score: Callable[[int, Clip], float]) -> dict:
    """How well ``score(number, clip)`` separates clips from the same clips with shifted voices."""
    real = np.array([score(i, clip) for i, clip in enumerate(clips)])  # (N,)
    moved = np.array([[score(i, shifted(clip, s)) for i, clip in enumerate(clips)] for s in SHIFTS])
    speakers = np.arange(len(clips))

    def measured(rows: np.ndarray) -> tuple[float, list[float]]:  # of some shifts, (S, N)
        labels = np.repeat([0, 1], [len(clips), rows.size])
        scores = -np.concatenate([real, rows.ravel()])  # out of sync counts as fake
        interval = bootstrap_auc(labels, scores, np.tile(speakers, 1 + len(rows)), np.random.default_rng(0))
        return round(float(roc_auc_score(labels, scores)), 4), [round(end, 4) for end in interval]

    auc, interval = measured(moved)
    return {
        "auc": auc,
        "interval": interval,
        "auc_by_shift": {f"{s:+.1f}": measured(moved[i : i + 1])[0] for i, s in enumerate(SHIFTS)},
        "above_own_shifted": round(float((real > moved).mean()), 4),
        "score_real": round(float(real.mean()), 4),
        "score_shifted": round(float(moved.mean()), 4),
        "clips": len(clips),
    }


def face_crop(clip: Clip, size: int) -> Clip:
    face = speaker_face(clip)
    if face is None:
        raise AVFFError("a clip of the folder shows no face; leave it out")
    return crop_face(clip, face, size)


def fill(table: Table, clips: Sequence[Clip], split: dict[str, list[Example]], options: Options) -> None:
    """Measure ``avff sync`` once, and a model for each seed."""
    for key in table.todo(seed=[0], measure=["avff sync"]):  # it does not depend on the seed
        lips = [mouth_opening(clip) for clip in clips]
        found = separation(
            clips, lambda i, clip, lips=lips: correlate_streams(lips[i], clip).correlation_at_zero
        )
        table.add(key, found)
    spec = AVFF.tiny().spec
    faces = [face_crop(clip, spec.image_size) for clip in clips]
    real = {name: [example for example in part if example.row.label == 0] for name, part in split.items()}
    drawn = [example.clip for example in real["test"][:DRAWN]]
    for key in table.todo(seed=options.seeds, measure=["stage one, people", "stage one, drawings"]):
        model, config = AVFF.tiny(key["seed"]), options.config(key["seed"], LR, lr=LR)
        # Trained for the first measure, read from its folder for the second.
        folder = options.folder({"seed": key["seed"]})
        retrieval = pretrain(model, real["train"], config, folder, augment=STRONG)
        shown = faces if "people" in key["measure"] else drawn
        found = separation(shown, lambda i, clip, model=model: synchrony(model, clip))
        table.add(key, {"retrieval": retrieval, **found})


def main(folder: tyro.conf.Positional[Path], options: Options = OPTIONS) -> None:
    """Train, then compare.

    Args:
        folder: folder with real clips of people.
        options: of every experiment.
    """
    spec = AVFF.tiny().spec
    table = options.table(family="AVFF", lr=LR, encoder_lr=LR, augment="STRONG")
    table.command = table.command.replace(str(folder), "FOLDER")
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    clips = [read_clip(path, sample_rate=spec.sample_rate) for path in paths]
    fill(table, clips, options.read(spec), options)


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
