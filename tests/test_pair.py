"""The pair of clips on the front page: what the answer claims about them, and what they weigh."""

import re
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup

from avff_lib import synth
from avff_lib.synth.recording import FRAME_TIMES

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "book/_ext"))

import pair  # noqa: E402


@pytest.fixture(scope="module")
def players() -> list:
    return BeautifulSoup(pair.pair_html(), "html.parser").select("video")


def test_the_lips_of_a_move_in_the_pause_and_those_of_b_rest():
    plans = pair.plans()
    assert (plans["A"].method, plans["B"].method) == ("other_lips", "real")
    pause = (pair.PAUSE[0] <= FRAME_TIMES) & (pair.PAUSE[1] > FRAME_TIMES)
    opening = {letter: synth.perform(plan).mouth[pause, 0].max() for letter, plan in plans.items()}
    assert opening["A"] > 0.8
    assert opening["B"] < 0.1


def test_both_have_the_same_voice_which_pauses_there():
    a, b = pair.clips().values()
    np.testing.assert_array_equal(a.waveform, b.waveform)
    heard = re.findall(r"00:00:(\d\d\.\d+) --> 00:00:(\d\d\.\d+)", pair.voice_captions(a))
    ends = [(float(begin), float(end)) for begin, end in heard]
    assert any(
        end <= pair.PAUSE[0] + 0.1 and begin >= pair.PAUSE[1] - 0.1 for (_, end), (begin, _) in pairwise(ends)
    )


def test_posters_give_nothing_away():
    plans = pair.plans()
    opening = [synth.perform(plan).mouth[pair.POSTER, 0] for plan in plans.values()]
    assert max(opening) < 0.2


def test_players_are_small_have_captions_and_a_name_and_need_no_file(players):
    assert len(pair.pair_html()) <= 150_000
    assert len({player["aria-label"] for player in players}) == 2
    for player in players:
        assert player["poster"].startswith("data:image/jpeg;base64,")
        assert player["src"].startswith("data:video/mp4;base64,")
        assert player.select_one('track[kind="captions"]')["src"].startswith("data:text/vtt;base64,")
