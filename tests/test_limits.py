"""The worked table of `book/limits.md` is arithmetic, so it is computed again here."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "book/limits.md").read_text()
# videos, fakes, TPR, FPR, true positives, false negatives, false positives, precision
NUMBER = r"\**([\d.,]+) ?%?\**"
ROWS = re.findall(r"^\| [^|]+ \| " + r" \| ".join([NUMBER] * 8) + r" \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row[:4]))
def test_each_row_follows_from_its_share_of_fakes_and_the_two_rates(row):
    videos, fakes, tpr, fpr, tp, fn, fp, precision = (float(value.replace(",", "")) for value in row)
    expected_tp, expected_fp = fakes * tpr / 100, (videos - fakes) * fpr / 100
    assert tp == round(expected_tp)
    assert tp + fn == fakes
    assert fp == round(expected_fp)
    share = 100 * expected_tp / (expected_tp + expected_fp)
    assert precision == pytest.approx(share, abs=0.5 if precision > 1 else 0.05)


def test_the_table_is_there_and_its_rule_of_three_holds():
    assert len(ROWS) == 6
    assert 0.99**299 < 0.05 < 0.99**298
    assert 0.999**3000 < 0.05 < 0.999**2990  # "about three thousand"
