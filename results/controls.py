"""Is there a shortcut that no detector should find? All three AUCs must be 0.50 ± 0.05.

    python results/controls.py

The sound of FVRA clips is genuine and so is the picture of RVFA clips: a detector that was trained on
nothing else, and is blind or deaf, can tell them from genuine clips only by a flaw of the corpus. One
that was trained on shuffled labels can have learned nothing that holds for the test people; still, a
single run of it may stand a little off 0.5 either way, as what it learned by heart need not be neutral.
With 240 genuine and 144 forged test clips the standard error of an AUC at chance is 0.03, and more seeds
do not lower it, since the test people stay the same: look at the interval over people.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from common import HERE, PRETRAINED_LR, Options, blank, measure, train_detector

from avff_lib.data.loader import Example
from avff_lib.models import Detector

OPTIONS = Options(HERE / "controls.json")
# name -> the stream that is taken away, and the only category of forgeries
ALONE: dict[str, tuple[Literal["audio", "video"], str]] = {
    "audio alone on FVRA": ("video", "FVRA"),
    "video alone on RVFA": ("audio", "RVFA"),
}
SHUFFLED = "shuffled labels"


def shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """The same clips, each with the label of another one."""
    labels = np.random.default_rng(seed).permutation([example.row.label for example in examples])
    return [
        replace(example, row=replace(example.row, label=int(label), fake_segments=()))
        for example, label in zip(examples, labels, strict=True)
    ]


def main(options: Options = OPTIONS, first: Path = Path("runs/avffmae/one")) -> None:
    """Train and test the controls.

    Args:
        options: of every experiment.
        first: model that stage one left.
    """
    model = Detector.from_pretrained(first)
    table = options.table(family=type(model).__name__, encoder_lr=PRETRAINED_LR)
    split = options.read(model.spec)
    for key in table.todo(seed=options.seeds, control=[*ALONE, SHUFFLED]):
        folder = options.folder(key)
        model = Detector.from_pretrained(first)
        train, test = split["train"], split["test"]
        if key["control"] == SHUFFLED:
            train = shuffled(train, key["seed"])
        else:
            stream, category = ALONE[key["control"]]
            blank(model, stream)
            train, test = (
                [example for example in part if example.row.category in ("RVRA", category)]
                for part in (train, test)
            )
        train_detector(model, train, options, key["seed"], folder, PRETRAINED_LR)
        table.add(key, measure(model, test))
        shutil.rmtree(folder)


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
