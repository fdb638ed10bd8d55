"""The same work by Ray: on a cluster of two workers that is started here."""

import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from avff_lib import cli
from avff_lib.data.shards import checksums
from avff_lib.errors import AVFFError
from avff_lib.inference.store import predict_to_parquet
from avff_lib.synth import write_corpus
from avff_lib.utils.parallel import parallel_map

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster():
    """Two workers for all tests here, since starting them takes seconds."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def run(function, items) -> list:
    return list(parallel_map(function, items, 2, description="working", engine="ray"))


def test_results_come_in_order_and_as_they_are(cluster):
    def function(number: int) -> dict:
        return {"number": number, "path": Path("a"), "pairs": [(number, [number])], "nothing": None}

    assert run(function, range(5)) == [function(number) for number in range(5)]


def test_a_worker_that_is_killed_is_replaced_and_loses_nothing(cluster, tmp_path):
    def function(number: int) -> int:
        mark = tmp_path / "killed"
        if number == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number**2

    assert run(function, range(6)) == [0, 1, 4, 9, 16, 25]
    assert (tmp_path / "killed").exists()


def test_a_sentence_of_the_function_arrives_as_it_is(cluster):
    def function(number: int) -> int:
        raise AVFFError(f"{number} is too small")

    with pytest.raises(AVFFError, match="0 is too small"):
        run(function, [0])


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder, clips=4, identities=6, seed=2, methods=("revoiced",), workers=1)
    return folder


def test_shards_are_the_same_as_on_one_machine(cluster, data, tmp_path):
    for engine in ("local", "ray"):
        command = [
            "prepare",
            str(data),
            "--out",
            str(tmp_path / engine),
            "--engine",
            engine,
            "--workers",
            "1",
        ]
        assert cli.main(command) == 0
    assert checksums(tmp_path / "ray") == checksums(tmp_path / "local")


def test_scores_are_the_same_as_on_one_machine(cluster, data, tmp_path):
    paths = sorted(data.rglob("*.mp4"))
    for engine in ("local", "ray"):
        predict_to_parquet(paths, tmp_path / engine, "avff-tiny", workers=1, engine=engine)
    tables = [pd.read_parquet(tmp_path / engine).drop(columns="segments") for engine in ("local", "ray")]
    pd.testing.assert_frame_equal(*tables)


def test_evaluate_runs_on_it(cluster, data, tmp_path, capsys):
    command = ["evaluate", "--data", str(data), "--split", "all", "--engine", "ray"]
    assert cli.main(command) == 2
    assert "--engine ray needs --out" in capsys.readouterr().err
    assert cli.main([*command, "--out", str(tmp_path)]) == 0
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 1 + 4
    assert not list(tmp_path.glob(".detector-*"))
