"""How do the shipped models perform at the hard level?

    avff synth data/avff-hard --clips 600 --identities 120 --seed 2027 --level hard
    avff prepare data/avff-hard --out data/hard-shards
    python results/hard_level.py

The models were trained at the medium level. All 600 clips are of people who are not in their training data.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import tyro
from common import HERE, measure

from avff_lib.data.shards import read_shards
from avff_lib.models import Detector
from avff_lib.models.checkpoint import SHIPPED_DIR
from avff_lib.utils.atomic import atomic_write


def main(
    data: Path = Path("data/avff-hard"),
    shards: Path = Path("data/hard-shards"),
    out: Path = HERE / "hard-level.json",
    threads: int = 2,
) -> None:
    """Score every clip with both models.

    Args:
        data: the corpus, for its ``corpus.json``.
        shards: the corpus, prepared by ``avff prepare``.
        out: JSON file for the results.
        threads: of the processor.
    """
    torch.set_num_threads(threads)
    corpus = json.loads((data / "corpus.json").read_text())
    found = {}
    for name in sorted(folder.name for folder in SHIPPED_DIR.iterdir()):
        model = Detector.from_pretrained(name)
        found[name] = measure(model, read_shards(shards, model.spec))
        print(name, found[name]["auc"])
    with atomic_write(out) as path:
        result = {"command": "python results/hard_level.py", "corpus": corpus, "models": found}
        path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
