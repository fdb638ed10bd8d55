"""Imports point one way: from the verdict back towards the media file, never the other way round."""

import ast
from pathlib import Path

import pytest

from avff_lib.atomic import atomic_write

LIBRARY = Path(__file__).parents[1] / "avff_lib"
# A module may import from floors below its own.
FLOORS = (
    ("clip", "atomic", "ranks"),
    ("losses", "nn", "media", "data.manifest", "workers", "verdict", "domain"),
    ("preprocess", "models", "synth", "sync", "timeline"),
    ("data", "objectives", "plots", "notebook", "explain"),
    ("training", "judge"),
    ("examine",),
    ("predict",),
    ("evaluation", "report"),
    ("demo",),
    ("commands",),
    ("cli",),
)


def floor_of(module: str) -> int:
    """Height of the longest name in `FLOORS` that ``module`` (without ``avff_lib.``) begins with."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        for height, names in enumerate(FLOORS):
            if ".".join(parts[:length]) in names:
                return height
    raise AssertionError(f"{module} has no place in the house; give it one in FLOORS")


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return {name.removeprefix("avff_lib.") for name in names if name.startswith("avff_lib.")}


@pytest.mark.parametrize(
    "path",
    [path for path in LIBRARY.rglob("*.py") if path.parent != LIBRARY or path.name != "__init__.py"],
    ids=lambda path: str(path.relative_to(LIBRARY)),
)
def test_imports_point_towards_the_media_file(path):
    module = ".".join(path.relative_to(LIBRARY).with_suffix("").parts)
    room = module.split(".")[0]
    for imported in imports_of(path):
        same_room = imported.split(".")[0] == room and "manifest" not in module
        assert same_room or floor_of(imported) < floor_of(module), f"{module} imports {imported}"


def test_a_write_that_fails_leaves_what_stood_there(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("old")

    def interrupted() -> None:
        with atomic_write(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]
    with atomic_write(path) as partial:
        partial.write_text("new")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["new"]
