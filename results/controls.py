"""Is there a shortcut that no detector should find? All three AUCs must be 0.50 ± 0.05.

    python results/controls.py

The audio of FVRA clips is real and so is the video of RVFA clips: a detector that was trained on nothing
else, and lacks the fake stream, can tell them from real clips only by a flaw of the corpus. One
that was trained on shuffled labels can have learned nothing that holds for the test people. A single run
of it may stand off 0.5 either way all the same, as what it learns by heart need not be neutral. So every
deal is used twice, as it is and the other way round, and the mean counts. That does not take all of it
out: both runs of a pair came out on the same side of 0.5 (0.62 and 0.54, 0.47 and 0.38, 0.62 and 0.58),
so three seeds show a gross leak of the true labels, and not a small one.
With 240 real and 144 fake test clips the standard error of an AUC at chance is 0.03, and more seeds
do not lower it, since the test people stay the same: look at the interval over people.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from common import HERE, PRETRAINED_LR, Options, blank, measure, train_detector

from avff_lib.data.examples import Example
from avff_lib.models import Detector

OPTIONS = Options(HERE / "controls.json")
# name -> the stream that is taken away, and the only category of forgeries
ALONE: dict[str, tuple[Literal["audio", "video"], str]] = {
    "audio alone on FVRA": ("video", "FVRA"),
    "video alone on RVFA": ("audio", "RVFA"),
}
SHUFFLED = "shuffled labels"


def shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """The same clips with labels dealt anew, the same share of fakes to each method and to real clips."""
    rng = np.random.default_rng(seed)
    methods = np.array([example.row.method for example in examples])
    share = np.mean([example.row.label for example in examples])
    labels = np.zeros(len(examples), dtype=int)
    for method in np.unique(methods):
        members = rng.permutation(np.flatnonzero(methods == method))
        labels[members[: round(share * len(members))]] = 1
    return [labelled(example, int(label)) for example, label in zip(examples, labels, strict=True)]


def labelled(example: Example, label: int) -> Example:
    """A clip with another label, which holds for all of it."""
    return replace(example, row=replace(example.row, label=label, fake_segments=()))


def mean_of(found: Any) -> Any:
    """Mean of numbers, of each number of lists, of each entry of dicts; counts must agree."""
    first = found[0]
    if isinstance(first, dict):
        return {name: mean_of([each[name] for each in found]) for name in first}
    if isinstance(first, list):
        return [mean_of(numbers) for numbers in zip(*found, strict=True)]
    return round(float(np.mean(found)), 4) if isinstance(first, float) else first


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
        stream, category = ALONE.get(key["control"], (None, None))
        train, test = (
            [
                example
                for example in split[name]
                if category is None or example.row.category in ("RVRA", category)
            ]
            for name in ("train", "test")
        )
        lessons = [train]
        if key["control"] == SHUFFLED:
            dealt = shuffled(train, key["seed"])
            lessons = [dealt, [labelled(example, 1 - example.row.label) for example in dealt]]
        found = []
        for number, lesson in enumerate(lessons):
            model = Detector.from_pretrained(first)
            if stream:
                blank(model, stream)
            train_detector(model, lesson, options, key["seed"], folder / str(number), PRETRAINED_LR)
            found.append(measure(model, test))
        table.add(key, mean_of(found))
        shutil.rmtree(folder)


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
