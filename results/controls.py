"""Is there a shortcut that no detector should find? All three AUCs must be 0.50 ± 0.05.

    python results/controls.py

The audio of FVRA clips is real, and so is the video of RVFA clips: a detector that is trained only on these,
without the fake stream, can separate them from real clips only by a flaw of the corpus. A detector that is
trained on shuffled labels cannot learn anything that holds for the test people. A single run of it may still
deviate from 0.5 either way, since the clips that it memorises need not be neutral. So every assignment of
labels is used twice, as it is and inverted, and the mean counts. That does not remove the whole deviation:
both runs of a pair ended on the same side of 0.5 (0.62 and 0.54, 0.47 and 0.38, 0.62 and 0.58), so three
seeds can show a gross leak of the true labels, but not a small one.
With 240 real and 144 fake test clips, the standard error of an AUC at chance is 0.03, and more seeds do not
lower it, since the test people stay the same: see the interval over people.
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
# name -> the stream that is removed, and the only category of forgeries
ALONE: dict[str, tuple[Literal["audio", "video"], str]] = {
    "audio alone on FVRA": ("video", "FVRA"),
    "video alone on RVFA": ("audio", "RVFA"),
}
SHUFFLED = "shuffled labels"


def shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """The same clips with shuffled labels, the same share of fakes in each method and in real clips."""
    rng = np.random.default_rng(seed)
    methods = np.array([example.row.method for example in examples])
    share = np.mean([example.row.label for example in examples])
    labels = np.zeros(len(examples), dtype=int)
    for method in np.unique(methods):
        members = rng.permutation(np.flatnonzero(methods == method))
        labels[members[: round(share * len(members))]] = 1
    return [labelled(example, int(label)) for example, label in zip(examples, labels, strict=True)]


def labelled(example: Example, label: int) -> Example:
    """A clip with another label for its whole length."""
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
        first: model from stage one.
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
