"""The same work by Ray: on a cluster of two workers that is started here."""

import os
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from avff_lib import cli
from avff_lib.data.manifest import read_manifest
from avff_lib.data.shards import checksums
from avff_lib.errors import AVFFError
from avff_lib.evaluation.evaluate import evaluate_scores, score_readable
from avff_lib.inference import store
from avff_lib.models import Detector
from avff_lib.synth import write_corpus
from avff_lib.utils import cluster as engine
from avff_lib.utils.parallel import parallel_map

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster():
    """Two workers for all tests here, since starting them takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        # Ray sets the last two itself, in this process and in its workers.
        for name in ("RAY_ADDRESS", "RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE", "OMP_NUM_THREADS"):
            patch.delenv(name, raising=False)
        patch.setenv("RAY_AUTH_TOKEN", "of-these-tests-alone")  # else Ray leaves one in the home folder
        with engine._cluster(2):
            assert ray.cluster_resources()["CPU"] == 2
            yield
        assert not ray.is_initialized()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder, clips=4, identities=6, seed=2, methods=("revoiced",), workers=1)
    return folder


def run(function, items) -> list:
    return list(parallel_map(function, items, 2, description="working", engine="ray", bar=False))


def test_nothing_to_do_needs_no_cluster():
    assert run(str, []) == []


def test_workers_are_where_this_process_is_with_one_thread_each_and_silent(
    cluster, capfd, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)

    def function(number: int) -> tuple[int, str, str | None]:
        print("talk")
        return number, os.getcwd(), os.environ.get("OMP_NUM_THREADS")

    assert run(function, range(2)) == [(number, str(tmp_path), "1") for number in range(2)]
    assert capfd.readouterr() == ("", "")
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_results_come_in_order_and_as_they_are(cluster):
    def function(number: int) -> dict:
        time.sleep(1 if number == 0 else 0)
        return {"number": number, "path": Path("a"), "pairs": [(number, [number])], "nothing": None}

    results = run(function, range(5))
    assert results == [
        {"number": n, "path": Path("a"), "pairs": [(n, [n])], "nothing": None} for n in range(5)
    ]


def test_a_worker_that_is_killed_is_replaced_and_loses_nothing(cluster, tmp_path, capsys):
    def function(number: int) -> int:
        mark = tmp_path / "killed"
        if number == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number**2

    assert run(function, range(6)) == [0, 1, 4, 9, 16, 25]
    assert (tmp_path / "killed").exists()
    assert capsys.readouterr().out == ""


def test_what_kills_every_worker_ends_in_a_sentence(cluster, monkeypatch):
    monkeypatch.setattr(engine, "MAX_RETRIES", 1)
    with pytest.raises(AVFFError, match=r"^workers died 2 times over the same item; run the command again"):
        run(lambda number: os.kill(os.getpid(), signal.SIGKILL), [0])


def test_errors_for_users_arrive_as_they_are_and_others_with_their_traceback(cluster):
    def refuse(number: int) -> int:
        raise AVFFError(f"{number} is too small")

    def fail(number: int) -> float:
        return 1 / number

    with pytest.raises(AVFFError, match=r"^0 is too small$"):
        run(refuse, [0])
    with pytest.raises(ray.exceptions.RayTaskError, match=r"(?s)return 1 / number.*ZeroDivisionError"):
        run(fail, [0])


def test_shards_are_the_same_as_on_one_machine(cluster, data, tmp_path):
    for name in ("local", "ray"):
        out = str(tmp_path / name)
        assert cli.main(["prepare", str(data), "--out", out, "--engine", name, "--workers", "1"]) == 0
    assert checksums(tmp_path / "ray") == checksums(tmp_path / "local")


def test_predictions_are_the_same_and_a_file_that_kills_its_worker_costs_no_other(
    cluster, data, tmp_path, monkeypatch, capsys
):
    shutil.copytree(data, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    command = ["predict", "data", "--workers", "1"]
    assert cli.main([*command, "--parquet", "local"]) == 0
    shutil.copy(next(Path("data").rglob("*.mp4")), "data/deadly.mp4")
    analyze = store.analyze_file

    def deadly(path, *args, **kwargs):
        if path.name == "deadly.mp4":
            os.kill(os.getpid(), signal.SIGKILL)
        return analyze(path, *args, **kwargs)

    monkeypatch.setattr(store, "analyze_file", deadly)
    monkeypatch.setattr(store, "MAX_DEATHS", 1)
    ray.cloudpickle.register_pickle_by_value(store)  # or the workers would import it as it is
    try:
        assert cli.main([*command, "--parquet", "ray", "--engine", "ray"]) == 2
    finally:
        ray.cloudpickle.unregister_pickle_by_value(store)
    assert "5 files: 1 error" in capsys.readouterr().out
    local, by_ray = (pd.read_parquet(name).set_index("path").sort_index() for name in ("local", "ray"))
    assert "1 processes ended over it" in by_ray.loc["data/deadly.mp4"]["error"]
    columns = [name for name in local if name not in ("segments", "gaps")]
    pd.testing.assert_frame_equal(by_ray.loc[local.index, columns], local[columns], check_dtype=False)
    assert not list(Path("ray").glob(".*"))


def test_scores_are_the_same_as_on_one_machine(cluster, data, tmp_path):
    model, rows = Detector.from_pretrained("avff-tiny"), read_manifest(data / "manifest.csv")
    local, _ = score_readable(model, rows, workers=1)
    by_ray, _ = score_readable(model, rows, engine="ray", folder=tmp_path)
    assert evaluate_scores(model, by_ray) == evaluate_scores(model, local)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.jsonl"]
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 1 + len(rows)


def test_evaluate_asks_for_a_folder_that_workers_see(data, capsys):
    assert cli.main(["evaluate", "--data", str(data), "--engine", "ray"]) == 2
    assert "--engine ray needs --out" in capsys.readouterr().err
