"""Files appear whole or not at all: with several writers at once, after a failure, after a loss of power."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from avff_lib.utils.atomic import atomic_write, locked

WRITER = """
import sys
from pathlib import Path
from avff_lib.utils.atomic import atomic_write
for round in range(100):
    with atomic_write(Path(sys.argv[1])) as partial, partial.open("w") as file:
        for line in range(20):  # in pieces, so that two writers of one file would mix
            print(sys.argv[2], file=file, flush=True)
"""


def test_a_name_as_long_as_names_can_be_is_written(tmp_path):
    path = tmp_path / ("x" * 251 + ".csv")
    with atomic_write(path) as partial:
        partial.write_text("a,b")
    assert path.read_text() == "a,b"


def test_writers_of_one_path_neither_mix_nor_fail(tmp_path):
    path = tmp_path / "history.json"
    command = [sys.executable, "-c", WRITER, str(path)]
    processes = [subprocess.Popen([*command, word], stderr=subprocess.PIPE) for word in ("one", "two")]

    def write(word: str) -> None:
        for _ in range(100):
            with atomic_write(path) as partial, partial.open("w") as file:
                for _ in range(20):
                    print(word, file=file, flush=True)

    threads = [threading.Thread(target=write, args=(word,)) for word in ("three", "four")]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads) or any(p.poll() is None for p in processes):
        if path.exists():
            words = path.read_text().split()
            assert len(words) == 20
            assert len(set(words)) == 1
            seen |= set(words)
    assert [(process.wait(), process.stderr.read()) for process in processes] == [(0, b"")] * 2
    assert seen & {"three", "four"}
    assert list(tmp_path.iterdir()) == [path]


def test_the_contents_are_on_the_disk_before_the_name_and_the_name_before_it_returns(tmp_path, monkeypatch):
    happened = []

    def fsync(descriptor: int) -> None:
        happened.append(f"flush {Path(os.readlink(f'/proc/self/fd/{descriptor}')).suffix or 'folder'}")

    def replace(source: Path, target: Path) -> None:
        happened.append("replace")
        os.rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    folder = tmp_path / "folder"
    folder.mkdir()
    with atomic_write(folder / "a.json") as partial:
        partial.write_text("{}")
    assert happened == ["flush .partial", "replace", "flush folder"]


@pytest.mark.parametrize("writer", ["python", "safetensors"])  # the latter puts a file of its own in place
def test_files_get_the_permissions_that_new_files_get(tmp_path, writer):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "file") as partial:
            if writer == "python":
                partial.write_text("new")
            else:
                save_file({"a": np.zeros(2)}, partial)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def free(folder: Path, how: int) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_a_folder_is_held_by_one_writer_or_by_many_readers(tmp_path):
    with locked(tmp_path):
        assert not free(tmp_path, fcntl.LOCK_SH)
    with locked(tmp_path, shared=True), locked(tmp_path, shared=True):
        assert free(tmp_path, fcntl.LOCK_SH)
        assert not free(tmp_path, fcntl.LOCK_EX)
    assert free(tmp_path, fcntl.LOCK_EX)


def test_a_process_that_is_forked_meanwhile_does_not_go_on_holding_it(tmp_path):
    waiting, release = os.pipe()
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            os.close(release)
            os.read(waiting, 1)  # until the parent closes its end
            os._exit(0)
    try:
        assert free(tmp_path, fcntl.LOCK_EX)
    finally:
        os.close(release)
        os.waitpid(child, 0)
        os.close(waiting)


def test_without_locks_work_goes_on(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("no locks on this drive")

    monkeypatch.setattr(fcntl, "flock", fail)
    with locked(tmp_path):
        pass
