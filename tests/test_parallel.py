"""Work that processes share: in order, and with one sentence where it fails."""

import os
import signal
import subprocess
import sys

import pytest

from avff_lib.errors import AVFFError
from avff_lib.utils.parallel import parallel_map


def square(number: int) -> int:
    return number**2


def refuse(number: int) -> int:
    raise AVFFError(f"{number} cannot be used")


def crash(number: int) -> int:
    os._exit(9)


def be_killed(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_order():
    assert list(parallel_map(square, range(40), 2, description="squares")) == [n**2 for n in range(40)]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (refuse, "^[0-9] cannot be used$"),
        (crash, "^a worker process crashed; run the command again with one worker"),
        (be_killed, "^a worker process was killed, most likely for lack of memory"),
    ],
)
def test_a_failure_is_one_sentence(function, message):
    with pytest.raises(AVFFError, match=message):
        list(parallel_map(function, range(4), 2, description="failing"))


def test_ray_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(AVFFError, match=r"^--engine ray needs ray; install avff-lib\[ray\]$"):
        list(parallel_map(square, range(4), 2, description="squares", engine="ray"))


def test_a_script_needs_no_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from avff_lib.utils.parallel import parallel_map\n"
        "def double(number): return 2 * number\n"
        "print(sum(parallel_map(double, range(5), 2, description='doubles')))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.stdout == "20\n", done.stderr[-2000:]


def test_workers_follow_to_another_folder(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found = list(parallel_map(os.path.abspath, ["a", "b"], 2, description="looking"))
        assert found == [str(tmp_path / name / file) for file in ("a", "b")]
