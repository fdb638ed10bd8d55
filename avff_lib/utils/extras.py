"""Packages that only some parts of the library need: pip's extras, and one sentence where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from avff_lib.errors import AVFFError

# Module that is imported: name of its package, and an extra in pyproject.toml that brings it.
EXTRAS = {
    "IPython": ("ipython", "book"),
    "gradio": ("gradio", "demo"),
    "jinja2": ("jinja2", "report"),
    "lightning_fabric": ("lightning-fabric", "train"),
    "matplotlib": ("matplotlib", "report"),
    "pyarrow": ("pyarrow", "parquet"),
    "ray": ("ray", "ray"),
    "sklearn": ("scikit-learn", "report"),
    "tensorboard": ("tensorboard", "train"),
}


@contextmanager
def explain_missing_extra(user: str) -> Iterator[None]:
    """Turn the failed import of an optional package into one sentence.

    Args:
        user: the part that needs the package, which begins the sentence, such as ``"avff demo"``.

    Raises:
        AVFFError: a package of `EXTRAS` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS:
            raise
        raise _missing(user, module) from None


def require_extra(user: str, module: str) -> None:
    """Check that an optional package is installed, before work that would fail without it.

    Args:
        user: as in `explain_missing_extra`.
        module: a key of `EXTRAS`.

    Raises:
        AVFFError: it is not installed.
    """
    if find_spec(module) is None:
        raise _missing(user, module)


def _missing(user: str, module: str) -> AVFFError:
    package, extra = EXTRAS[module]
    return AVFFError(f"{user} needs {package}; install avff-lib[{extra}]")
