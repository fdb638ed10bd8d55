"""Measure everything, and write results/benchmarks.json: ``make bench``.

    python benchmarks/run.py                # all
    python benchmarks/run.py cost export    # some; the others keep their numbers

Each benchmark runs in a process of its own, on one thread unless stated otherwise, and is written when it is
done. Measurements on another machine, or with other versions, are then removed from the file, since their
numbers are not comparable.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from importlib import import_module
from importlib.metadata import Distribution, distribution
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import tyro
from tables import print_tables
from tyro.conf import Positional

from avff_lib.utils.atomic import atomic_write

ROOT = Path(__file__).parents[1]
OUT = ROOT / "results" / "benchmarks.json"
EXTRA = ROOT / "build" / "bench"  # where `make bench` installs packages for benchmarks only
BENCHMARKS = ("reading", "augment", "predict", "memory", "loader", "cost", "base", "export")
PACKAGES = ("torch", "numpy", "av", "opencv-python-headless", "onnxruntime", "openvino", "torchcodec")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}


def main(
    names: Positional[tuple[str, ...]] = (),
    quick: Annotated[bool, tyro.conf.arg(help="with tiny settings, to see whether all of it runs")] = False,
    out: Path = OUT,
) -> int:
    """Run benchmarks one after the other, print their tables, and write them to a file.

    Args:
        names: of benchmarks; by default all.
        quick: see its annotation.
        out: JSON file.
    """
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(f"there is no benchmark {min(unknown)}; expected some of: {', '.join(BENCHMARKS)}")
        return 2
    results = results_so_far(out, machine())
    failed = []
    with TemporaryDirectory() as folder:
        os.environ.update(ENVIRONMENT, LD_LIBRARY_PATH=library_path(Path(folder)))
        for name in names or BENCHMARKS:
            print(f"{name} ...", flush=True)
            start = time.perf_counter()
            # Spawned, so that it reads the environment again and inherits no memory of earlier benchmarks.
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                try:
                    tables = pool.submit(measure_apart, name, quick).result()
                except Exception as error:  # continue with the others
                    print(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr)
                    failed.append(name)
                    continue
            seconds = round(time.perf_counter() - start)
            print_tables(tables)
            results["benchmarks"][name] = {
                "date": date.today().isoformat(),
                "seconds": seconds,
                "quick": quick,
                "tables": tables,
            }
            write(results, out)
            print(f"{name}: {seconds} s\n", flush=True)
    return 1 if failed else 0


def results_so_far(out: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The contents of the file, if measured on this machine."""
    if out.exists():
        before = json.loads(out.read_text(encoding="utf-8"))
        if before["machine"] == about:
            return before
    return {"machine": about, "benchmarks": {}}


def measure_apart(name: str, quick: bool) -> dict[str, Any]:
    """`measure` in its own process, which finds the packages of the benchmarks."""
    sys.path.append(str(EXTRA))
    return measure(name, quick)


def measure(name: str, quick: bool) -> dict[str, Any]:
    """The tables of one benchmark."""
    benchmark = import_module(name)
    return benchmark.measure(**(benchmark.QUICK if quick else {}))


def write(results: dict[str, Any], out: Path) -> None:
    ordered = {name: results["benchmarks"][name] for name in BENCHMARKS if name in results["benchmarks"]}
    with atomic_write(out) as partial:
        content = {"command": "make bench", **results, "benchmarks": ordered}
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Processor, cores, and versions."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := installed(name))},
    }


def processor() -> str:
    """The processor's name, with the vector instructions that matter for matrix products."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    text = info.read_text()
    name = re.search(r"model name\s*: (.*)", text)
    flags = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile") if flag in text]
    return f"{name[1] if name else platform.machine()} ({', '.join(flags)})"


def installed(package: str) -> str | None:
    found = Distribution.discover(name=package, path=[*sys.path, str(EXTRA)])
    return next((each.version for each in found), None)


def library_path(folder: Path) -> str:
    """Where a child process finds the libraries of FFmpeg, which torchcodec needs.

    PyAV's wheel holds them under names with a checksum; links give them their usual names. So torchcodec
    needs no FFmpeg on the system, and all sides decode with the same FFmpeg.

    Args:
        folder: for the links.
    """
    for file in distribution("av").files or []:
        name = re.fullmatch(r"(lib(?:av|sw)\w+)-\w+\.so\.(\d+)[\d.]*", file.name)
        if name:
            (folder / f"{name[1]}.so.{name[2]}").symlink_to(Path(file.locate()))
    return os.pathsep.join([*filter(None, [os.environ.get("LD_LIBRARY_PATH")]), str(folder)])


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
