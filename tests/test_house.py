"""The house: imports point one way, from the report back towards the media file; the front door is light."""

import ast
from pathlib import Path

import pytest

from avff_lib.utils.atomic import atomic_write

LIBRARY = Path(__file__).parents[1] / "avff_lib"
# A folder may import from itself and from those before it. `book/architecture.md` says the same to readers.
ORDER = (
    *("errors", "exercises", "utils", "plots", "media", "faces", "preprocess", "nn", "models"),
    *("data.manifest", "synth", "data", "forge", "training", "inference", "evaluation"),
    *("explain", "notebook", "report", "demo", "cli", "__main__"),
)
# `Detector.predict` is where readers look for it; it finds the predictor when it is called.
AGAINST_THE_ORDER = {("models.base", "inference.predictor"), ("models.base", "inference.prediction")}


def place_of(module: str) -> int:
    """Index in `ORDER` of the longest name that ``module`` (without ``avff_lib.``) begins with."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in ORDER:
            return ORDER.index(".".join(parts[:length]))
    raise AssertionError(f"{module} has no place in the house; give it one in ORDER")


def imports_of(path: Path) -> set[str]:
    """Modules of the library that a file imports, also inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # ``from avff_lib.nn import losses`` imports a module, ``from avff_lib.nn.losses import x`` not.
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if _is_module(name) else node.module for name in inside}
    return {name.removeprefix("avff_lib.") for name in found if name.startswith("avff_lib.")}


def _is_module(name: str) -> bool:
    path = LIBRARY.parent / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


@pytest.mark.parametrize(
    "path",
    [path for path in LIBRARY.rglob("*.py") if path != LIBRARY / "__init__.py"],
    ids=lambda path: str(path.relative_to(LIBRARY)),
)
def test_imports_point_towards_the_media_file(path):
    module = ".".join(path.relative_to(LIBRARY).with_suffix("").parts).removesuffix(".__init__")
    for imported in imports_of(path) - {other for one, other in AGAINST_THE_ORDER if one == module}:
        same_folder = place_of(imported) == place_of(module)
        assert same_folder or place_of(imported) < place_of(module), f"{module} imports {imported}"


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
