"""The recipes' pages: their commands run as they stand there, on miniature datasets of the real shape."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import SMALLEST_MAE

from avff_lib import Detector, cli
from avff_lib.data.manifest import read_manifest
from avff_lib.models import AVFFMAE, AVFFMAEConfig
from avff_lib.synth import write_corpus

BOOK = Path(__file__).parents[1] / "book"
PAGES = sorted(path.stem for path in BOOK.glob("recipe_*.md"))
# The base model in its shapes, and in nothing else.
BASE = {**SMALLEST_MAE, "image_size": 224, "frame_count": 16, "video_patch": (2, 56, 56)}
# Of training for real: enough steps for a model to be there.
SHORT = ["--steps", "2", "--batch-size", "4", "--warmup", "0.5", "--validate-every", "0"]


def commands(page: str) -> list[list[str]]:
    """Arguments of each ``avff`` in the page's blocks of commands; what torchrun starts is one, too."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (BOOK / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    return [line[line.index("avff_lib" if line[0] == "torchrun" else "avff") + 1 :] for line in lines]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list:
    """Rows of two drawn clips of each of eight people, the first of them to pass for real."""
    folder = tmp_path_factory.mktemp("drawn")
    rows = read_manifest(write_corpus(folder, clips=16, identities=8, seed=4, methods=(), workers=2))
    seen: set[str] = set()
    labelled = []
    for row in rows:
        labelled.append(replace(row, label=1, category="FVFA", method="fsgan") if row.source in seen else row)
        seen.add(row.source)
    return labelled


def own_data(folder: Path, rows: list) -> None:
    for row in rows:
        place = folder / "recordings" / row.source
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(row.path, place)


def fakeavceleb(folder: Path, rows: list) -> None:
    names = {"R": "Real", "F": "Fake"}
    lines = ["source,target1,target2,method,category,type,race,gender,path,"]
    for row in rows:
        kind = f"{names[row.category[0]]}Video-{names[row.category[2]]}Audio"
        inside = f"{kind}/African/men/{row.source}"
        place = folder / "FakeAVCeleb_v1.2" / inside
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(row.path, place)
        lines.append(
            f"{row.source},-,-,{row.method},A,{kind},African,men,{row.path.name},FakeAVCeleb/{inside}"
        )
    (folder / "FakeAVCeleb_v1.2/meta_data.csv").write_text("\n".join(lines) + "\n")


def lrs3(folder: Path, rows: list) -> None:
    for number, row in enumerate(row for row in rows if row.label == 0):
        place = folder / "lrs3" / ("pretrain", "trainval", "test")[number % 3] / row.source
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(row.path, place / "00001.mp4")
        (place / "00001.txt").write_text("Text:  WHAT IS SAID\n")


def dfdc_test(folder: Path, rows: list) -> None:
    (folder / "dfdc-test").mkdir()
    for row in rows:
        shutil.copy(row.path, folder / "dfdc-test")
    entries = {row.path.name: {"is_fake": row.label} for row in rows}
    (folder / "dfdc-test/metadata.json").write_text(json.dumps(entries))


DATASETS = {
    "recipe_own_data": own_data,
    "recipe_fakeavceleb": fakeavceleb,
    "recipe_lrs3_pretrain": lrs3,
    "recipe_dfdc_test": dfdc_test,
}
RESULTS = {  # of each recipe; tables by their number of rows
    "recipe_own_data": "results/scores.csv",
    "recipe_fakeavceleb": "fakeavceleb-results/scores.csv",
    "recipe_lrs3_pretrain": "lrs3-shards/index.json",
    "recipe_dfdc_test": "dfdc-robustness/robustness.json",
}


def test_every_recipe_is_tried():
    assert sorted(DATASETS) == PAGES
    assert all(commands(page) for page in PAGES)


@pytest.mark.parametrize("page", DATASETS)
def test_the_commands_of_a_recipe_run_in_their_order(page, clips, tmp_path, monkeypatch):
    DATASETS[page](tmp_path, clips)
    monkeypatch.chdir(tmp_path)
    for arguments in commands(page):
        run(arguments, monkeypatch)
    assert Path(RESULTS[page]).exists()
    if Path(RESULTS[page]).suffix == ".csv":
        assert set(pd.read_csv(RESULTS[page])["label"]) == {0, 1}


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One command, which must end well. Training of a base model is a dry run, and a small one stands in."""
    for option in ("--init", "--checkpoint"):
        if option in arguments and not (folder := Path(arguments[arguments.index(option) + 1])).exists():
            base_model().save_pretrained(folder)
    if arguments[0] in ("pretrain", "train"):
        base = "--recipe" in arguments
        arguments = (
            arguments if "--dry-run" in arguments else [*arguments, *(["--dry-run"] if base else SHORT)]
        )
    if "--clips" in arguments:
        arguments = [*arguments, "--clips", "2", "--perturbations", "saturation"]
    with monkeypatch.context() as patch:
        if "--audio-weights" in arguments:  # a dry run makes the base model without them
            patch.setattr(AVFFMAE, "config_class", lambda: AVFFMAEConfig(**BASE))
        assert cli.main(arguments) == 0, " ".join(arguments)


def base_model() -> Detector:
    return AVFFMAE(AVFFMAEConfig(**BASE))
