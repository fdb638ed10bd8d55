"""The benchmarks run with tiny settings, and the book shows what they store; nothing is asserted of times."""

import json
import os
import re
import sys
from importlib import import_module
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))  # the scripts are run from their folder, and are no package
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import laws  # noqa: E402
import run  # noqa: E402
import tables  # noqa: E402
import timing  # noqa: E402

STORED = json.loads((ROOT / "results" / "benchmarks.json").read_text())
CHEAP = ("augment", "reading")


def test_rivals_take_turns():
    order = []
    works = {name: lambda name=name: order.append(name) for name in "ab"}
    ticks = iter([100, 900, 0, 1, 1, 3, 3, 7, 7, 15])  # before and after each call
    seconds = timing.take_turns(works, 2, clock=lambda: next(ticks), warm_up=False)
    assert order == ["a", "b", "a", "b"]
    assert {name: list(values) for name, values in seconds.items()} == {"a": [800, 2], "b": [1, 4]}


def test_the_turn_that_warms_up_is_not_timed():
    calls = []
    seconds = timing.take_turns({"a": lambda: calls.append(1)}, 2)
    assert len(calls) == 3
    assert seconds["a"].shape == (2,)


def test_a_spread_is_median_and_ends_of_four_digits():
    assert timing.spread([3.0, 1.23456, 2.0]) == {"median": 2.0, "low": 1.235, "high": 3.0}


def test_the_exponent_of_a_known_law_is_found_turn_by_turn():
    sizes = np.array([1.0, 2.0, 5.0, 10.0])
    turns = np.stack([3 * sizes**1.5, 0.1 * sizes**1.7, 7 * sizes**1.6])
    assert timing.exponent(sizes, turns) == {"median": 1.6, "low": 1.5, "high": 1.7}


def test_the_memory_of_a_child_is_its_own():
    held = np.ones(50_000_000)  # 400 MB
    small = timing.peak_memory([sys.executable, "-c", "pass"])
    large = timing.peak_memory([sys.executable, "-c", "x = bytearray(b'1') * 100_000_000"])
    assert small < held.nbytes / 2
    assert 90e6 < large - small < 130e6


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ({"median": 2.0, "low": 0.123456, "high": 12.34}, "2.00 (0.12 to 12.3)"),
        (1234.5, "1234"),
        (0.0, "0.00"),
        (1.9e-6, "2e-06"),
        ("not installed here", "not installed here"),
    ],
)
def test_cells_as_text(cell, text):
    assert tables.cell_text(cell) == text


def check(found: dict) -> None:
    """Tables of rows of cells, which JSON can hold and `print_tables` can print."""
    assert found
    assert json.loads(json.dumps(found)) == found
    for table in found.values():
        for row in table.values():
            for cell in row.values():
                assert tables.cell_text(cell)
                if isinstance(cell, dict):
                    assert cell["low"] <= cell["median"] <= cell["high"]
    tables.print_tables(found)


@pytest.mark.parametrize("name", CHEAP)
def test_a_cheap_benchmark_runs(name):
    check(run.measure(name, quick=True))


def test_all_ways_of_reading_read_the_same(tmp_path):
    reading = import_module("reading")
    path = str(reading.write_film(tmp_path / "film.mp4", 3.0, 120, 120))
    frames, waveform, mel = reading.read_with_opencv(path, 3.0)
    ours, sound = reading.extract_frames(path), reading.extract_audio(path)
    assert frames.shape == ours.shape
    assert (frames - ours).abs().mean() < 0.03  # other ways of resizing
    assert waveform.shape == sound[0].shape
    assert mel.shape == sound[1].shape
    assert np.corrcoef(waveform, sound[0])[0, 1] > 0.99
    theirs = reading.read_with_snippet(path, str(tmp_path))
    assert [part.shape for part in theirs] == [frames.shape, waveform.shape, mel.shape]


@pytest.mark.parametrize("name", run.BENCHMARKS)
def test_every_benchmark_has_settings_to_try_it_with(name):
    benchmark = import_module(name)
    settings = benchmark.measure.__annotations__
    assert set(benchmark.QUICK) <= set(settings)


def test_what_is_stored_has_the_tables_of_the_page():
    page = (ROOT / "book" / "benchmarks.md").read_text()
    shown = re.findall(r"\{benchmark-table\} (\w+): (.+)", page)
    assert shown
    for name, title in shown:
        assert STORED["benchmarks"][name]["tables"][title]
    assert set(STORED["benchmarks"]) == set(run.BENCHMARKS) == {name for name, _ in shown} | {"cost"}
    for entry in STORED["benchmarks"].values():
        check(entry["tables"])


@pytest.mark.parametrize("shape", ["wide", "tall"])
def test_every_law_is_drawn(shape):
    cost = STORED["benchmarks"]["cost"]["tables"]
    drawing = laws.draw_laws("light", shape, cost, "Laws of cost.")
    for law, row in cost["exponents"].items():
        assert law in drawing
        assert drawing.count("<circle") == sum(len(cost[name]) for name in cost["exponents"])
        assert f">{row['exponent']['median']:.2f}<" in drawing


def test_a_run_stores_what_it_measures_and_a_failure_stops_no_other(tmp_path, monkeypatch, capsys):
    out = tmp_path / "benchmarks.json"
    monkeypatch.setattr(run, "BENCHMARKS", ("missing", "augment"))
    with mock.patch.dict(os.environ):
        assert run.main(quick=True, out=out) == 1
    assert "missing failed: ModuleNotFoundError" in capsys.readouterr().err
    stored = json.loads(out.read_text())
    assert stored["machine"] == run.machine()
    assert list(stored["benchmarks"]) == ["augment"]
    assert stored["benchmarks"]["augment"]["quick"]
    check(stored["benchmarks"]["augment"]["tables"])


def test_only_results_of_this_machine_are_kept(tmp_path):
    out, here, there = tmp_path / "benchmarks.json", {"cores": 2}, {"cores": 4}
    assert run.results_so_far(out, here) == {"machine": here, "benchmarks": {}}
    out.write_text(json.dumps({"machine": here, "benchmarks": {"cost": {}}}))
    assert run.results_so_far(out, here)["benchmarks"] == {"cost": {}}
    assert run.results_so_far(out, there) == {"machine": there, "benchmarks": {}}


def test_an_unknown_benchmark_is_named(capsys):
    assert run.main(("speed",)) == 2
    assert "there is no benchmark speed; expected some of: reading" in capsys.readouterr().out
