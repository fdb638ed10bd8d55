"""Every stored number has a command that makes it again, and something that reads it."""

import json
import re
import sys
from pathlib import Path

import pytest

from avff_lib.cli import COMMANDS

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "book/_ext"))

from proof import Source, pages, proofs  # noqa: E402

PROOFS = proofs()
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

results = pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.path.stem)


@results
def test_each_result_names_commands_that_exist(proof):
    assert proof.commands, "the file holds neither command nor commands"
    for command in proof.commands:
        program, first, *_ = command.split()
        if program == "avff":
            assert first in {command.__name__ for command in COMMANDS}
        elif program == "make":
            assert first in TARGETS
        else:
            assert program == "python"
            assert (ROOT / first).is_file()
        assert not set("/~") & {word[0] for word in command.split()}, "a path of one machine"


@results
def test_each_script_writes_its_result_and_shows_how_to_run_it(proof):
    for script in proof.scripts:
        text = script.read_text()
        assert f"python {script.relative_to(ROOT).as_posix()}" in text.partition("from __future__")[0]
        assert f"{proof.path.stem}.json" in text or '}.json"' in text


@results
def test_each_result_is_read_by_a_page_a_card_or_a_test(proof):
    assert proof.readers or proof.cards or proof.tests, "nothing opens or names it"


def test_each_script_makes_a_result_or_is_named_by_what_does():
    made = {script for proof in PROOFS for script in proof.scripts}
    scripts = {path: path.read_text() for path in ROOT.glob("results/*.py")}
    others = [source.text for source in pages()]
    others += [path.read_text() for path in (ROOT / "book/proof.md", *ROOT.glob("tests/test_*.py"))]
    for path in scripts.keys() - made:
        texts = [text for other, text in scripts.items() if other != path] + others
        named = rf"\b{path.name}\b|(from|import) {path.stem}\b"
        assert any(re.search(named, text) for text in texts), f"nothing needs {path.name}"


def test_a_chapter_reads_what_its_code_opens_and_not_what_its_words_are():
    code = (
        'def result(name: str) -> dict:\n    return json.loads((RESULTS / f"{name}.json").read_text())',
        'a = result("one")["two"]\nb = [result(name) for name in ("three", "four")]',
        'c = Path("../results/five.json")\nd = [six for six in ("six", "seven")]',
    )
    source = Source("notebooks/01", "as in eleven-ten.json", code)
    names = ("one", "two", "three", "four", "five", "six", "seven", "ten")
    assert [name for name in names if source.reads(name)] == ["one", "three", "four", "five"]
    assert source.mentions("eleven-ten.json")
    assert not source.mentions("ten.json")


def test_the_recipe_for_own_data_states_what_is_stored():
    page = (ROOT / "book/recipe_own_data.md").read_text()
    stored = json.loads((ROOT / "results/own-data.json").read_text())
    assert f"an AUC of {stored['auc']:.2f} " in page
    rows = re.findall(r"^\| (`.+`) \| (\d+) \| (\d\.\d\d) \|$", page, re.MULTILINE)
    stated = {
        method: (int(clips), auc) for names, clips, auc in rows for method in re.findall(r"`(\w+)`", names)
    }
    assert stated.keys() == stored["by_method"].keys()
    for methods in (set(re.findall(r"`(\w+)`", names)) for names, *_ in rows):
        entries = [stored["by_method"][method] for method in methods]
        clips, auc = stated[next(iter(methods))]
        assert sum(entry["clips"] for entry in entries) == clips
        assert {f"{entry['auc']:.2f}" for entry in entries} == {auc}
