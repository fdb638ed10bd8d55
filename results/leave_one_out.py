"""Does a detector find forgeries that were not in its training data?

    python results/leave_one_out.py

Each of the methods in turn is left out of stage two, and its test clips are scored against the real test
clips. A run with nothing left out gives the AUCs of the same methods when they are in the training data.
Nothing is chosen on validation clips. No pseudo fakes are used, since they would show shifted voices in
training. Stage one is shared, since it uses only real clips. Methods have traces in common, so "unseen" holds
for the method, not for each trace: without revoiced, swapped_revoiced still shows a vocoder.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import tyro
from common import HERE, PRETRAINED_LR, Options, measure, train_detector

from avff_lib.models import Detector

OPTIONS = Options(HERE / "leave-one-out.json")
NOTHING = "nothing"


def main(options: Options = OPTIONS, first: Path = Path("runs/avffmae/one")) -> None:
    """Train without each method, test on it.

    Args:
        options: of every experiment.
        first: model from stage one.
    """
    model = Detector.from_pretrained(first)
    table = options.table(family=type(model).__name__, encoder_lr=PRETRAINED_LR)
    split = options.read(model.spec)
    methods = sorted({example.row.method for example in split["test"] if example.row.label})
    for key in table.todo(seed=options.seeds, left_out=[NOTHING, *methods]):
        left_out, folder = key["left_out"], options.folder(key)
        train = [example for example in split["train"] if example.row.method != left_out]
        test = [
            example
            for example in split["test"]
            if left_out in (NOTHING, example.row.method) or example.row.label == 0
        ]
        model = Detector.from_pretrained(first)
        train_detector(model, train, options, key["seed"], folder, PRETRAINED_LR)
        table.add(key, measure(model, test))
        shutil.rmtree(folder)
    unseen = [record["auc"] for record in table.records if record["left_out"] != NOTHING]
    print(f"mean AUC of methods that were left out: {np.mean(unseen):.3f}")


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
