"""The worked table of `book/limits.md` is arithmetic, so it is computed again here."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "book/limits.md").read_text()
# videos, fakes, TPR, FPR, fakes found, fakes missed, people accused wrongly, alarms that are right
NUMBER = r"\**([\d.,]+) ?%?\**"
ROWS = re.findall(r"^\| [^|]+ \| " + r" \| ".join([NUMBER] * 8) + r" \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row[:4]))
def test_each_row_follows_from_its_share_of_fakes_and_the_two_rates(row):
    videos, fakes, tpr, fpr, found, missed, accused, right = (float(value.replace(",", "")) for value in row)
    hits, alarms = fakes * tpr / 100, (videos - fakes) * fpr / 100
    assert found == round(hits)
    assert found + missed == fakes
    assert accused == round(alarms)
    assert right == pytest.approx(100 * hits / (hits + alarms), abs=0.5 if right > 1 else 0.05)


def test_the_table_is_there_and_its_rule_of_three_holds():
    assert len(ROWS) == 6
    assert 0.99**299 < 0.05 < 0.99**298
    assert 0.999**3000 < 0.05 < 0.999**2990  # "about three thousand"
