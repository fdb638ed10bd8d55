"""What does stage one contribute when labels are few?

    python results/label_efficiency.py

Stage two gets 1, 5, 10, 50 and 100 % of the labelled training clips, each set containing the smaller ones,
and starts from stage one or from random weights. Both arms take the same steps on the same batches;
pre-trained encoders are frozen, the others learn at 1e-3. Small sets are memorised: the number of steps is
fixed, without early stopping.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro
from common import ENCODER_LR, HERE, PRETRAINED_LR, Options, fresh, measure, train_detector

from avff_lib.data.examples import Example
from avff_lib.models import Detector

OPTIONS = Options(HERE / "label-efficiency.json")
PERCENTS = (1, 5, 10, 50, 100)
RATES = {"pre-trained": PRETRAINED_LR, "from scratch": ENCODER_LR}
MIN_CLIPS = 4  # of each class


def labelled(examples: Sequence[Example], percent: float, seed: int) -> list[Example]:
    """This percentage of each class; with the same seed, larger sets contain the smaller ones."""
    rng = np.random.default_rng(seed)
    chosen = []
    for label in (0, 1):
        members = [example for example in examples if example.row.label == label]
        count = max(MIN_CLIPS, math.ceil(percent / 100 * len(members)))
        chosen += [members[i] for i in rng.permutation(len(members))[:count]]
    return chosen


def main(options: Options = OPTIONS, first: Path = Path("runs/avffmae/one")) -> None:
    """Train and test both arms.

    Args:
        options: of every experiment.
        first: model from stage one.
    """
    pretrained = Detector.from_pretrained(first)
    table = options.table(family=type(pretrained).__name__, encoder_lr=RATES, fewest_clips=MIN_CLIPS)
    split = options.read(pretrained.spec)
    for key in table.todo(seed=options.seeds, percent=PERCENTS, arm=list(RATES)):
        seed, folder = key["seed"], options.folder(key)
        train = labelled(split["train"], key["percent"], seed)
        start = key["arm"] == "pre-trained"
        model = Detector.from_pretrained(first) if start else fresh(pretrained, seed)
        train_detector(model, train, options, seed, folder, RATES[key["arm"]])
        table.add(key, {"labelled_clips": len(train), **measure(model, split["test"])})
        shutil.rmtree(folder)


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
