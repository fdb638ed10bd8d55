"""The answers to the exercises; that each solution is right is shown in the notebooks."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from avff_lib.exercises import ANSWERS, Answer, check

ROOT = Path(__file__).parents[1]


def test_every_answer_belongs_to_an_exercise_of_the_book_and_hints():
    text = "".join(
        "".join(cell["source"])
        for path in ROOT.glob("notebooks/*.ipynb")
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
    )
    assert sorted(re.findall(r":label: (ex-[\w-]+)", text)) == sorted(ANSWERS)
    assert all(len(answer.hint.split()) >= 5 for answer in ANSWERS.values())


@pytest.mark.parametrize("label", ANSWERS)
def test_a_right_answer_is_told_from_no_answer_and_a_wrong_one(label, capsys):
    for given, start in ((ANSWERS[label].expected, "Right."), (..., "Not answered"), ("?", "Not yet. ")):
        check(label, given)
        assert capsys.readouterr().out.startswith(start)


@pytest.mark.parametrize(
    ("expected", "given"),
    [(3, 3.0), (0.5, np.float32(0.5)), (0.5, torch.tensor(0.5)), ("right", " Right "), ((1, 2), [1, 2]),
     ((1, 2), np.array([1, 2])), ((1, 2), (np.float32(1), torch.tensor(2))), (True, True), (10.0, 10.05)],
)  # fmt: skip
def test_the_form_of_a_right_answer_does_not_matter(expected, given):
    assert Answer(expected, "", tolerance=0.1).matches(given)


@pytest.mark.parametrize(
    ("expected", "given"),
    [(3, 4), (3, "3"), (1, True), (True, 1), ((1, 2), [1]), ((1, 2), 1), (0.5, float("nan")), ("a", 1)],
)  # fmt: skip
def test_another_answer_is_wrong(expected, given):
    assert not Answer(expected, "", tolerance=0.1).matches(given)


def test_an_unfinished_tuple_is_no_answer(capsys):
    check(next(iter(ANSWERS)), (1, ...))
    assert capsys.readouterr().out.startswith("Not answered yet")


def test_an_unknown_label_is_named():
    with pytest.raises(KeyError, match="no exercise is called 'ex-none'"):
        check("ex-none", 1)
