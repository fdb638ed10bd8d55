"""A detector's files: finding, writing and strictly reading them."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Collection
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from avff_lib.errors import AVFFError
from avff_lib.models.calibration import Calibration
from avff_lib.models.hub import from_hub
from avff_lib.models.ood import OODDetector
from avff_lib.utils.atomic import atomic_write

if TYPE_CHECKING:
    from avff_lib.models.base import Detector

    AnyDetector = TypeVar("AnyDetector", bound=Detector)

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
OOD_NAME = "ood.safetensors"
OPTIONAL_FIELDS = {"calibration"}  # missing in older checkpoints; their defaults change nothing
SHIPPED_DIR = Path(__file__).parents[1] / "checkpoints"
DEFAULT_CHECKPOINT = "avff-tiny"


def shipped_checkpoints() -> dict[str, Path]:
    """Folders of the detectors that come with the library, by name, in alphabetical order."""
    return {folder.name: folder for folder in sorted(SHIPPED_DIR.iterdir())}


def find_checkpoint(name_or_path: Path | str) -> Path:
    """The folder of a detector: a shipped one by name, a local folder, or a downloaded hub repository.

    Raises:
        AVFFError: it is none of these, or cannot be downloaded.
    """
    name = str(name_or_path)
    shipped = shipped_checkpoints()
    if name in shipped:
        return shipped[name]
    if os.path.exists(name):
        return Path(name)
    if isinstance(name_or_path, str) and name.count("/") == 1 and _is_repo_id(name):
        patterns = [CONFIG_NAME, WEIGHTS_NAME, OOD_NAME]  # nothing else, whatever the repository holds
        return Path(from_hub(name, functools.partial(snapshot_download, name, allow_patterns=patterns)))
    raise AVFFError(
        f"there is no detector {name}; expected {' or '.join(shipped)}, the folder of a saved one, or a hub "
        "id such as owner/name"
    )


def save(model: Detector, folder: Path, *, half: bool) -> None:
    """Write config, weights and out-of-distribution detector; see `Detector.save_pretrained`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"family": type(model).__name__, **asdict(model.config)}
    with atomic_write(folder / CONFIG_NAME) as path:
        path.write_text(json.dumps(config, indent=2) + "\n")
    weights = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    with atomic_write(folder / WEIGHTS_NAME) as path:
        save_file(weights, path)
    if model.ood is None:
        (folder / OOD_NAME).unlink(missing_ok=True)
    else:
        model.ood.save(folder / OOD_NAME)


def load(cls: type[AnyDetector], name_or_path: Path | str) -> AnyDetector:
    """Build the detector of a checkpoint, on the CPU; see `Detector.from_pretrained`."""
    folder = find_checkpoint(name_or_path)
    config = _read_config(folder)
    families = {name: family for name, family in cls.families.items() if issubclass(family, cls)}
    family = families.get(config.pop("family", None))
    if family is None:
        raise AVFFError(
            f"{folder / CONFIG_NAME} names no known model family; expected one of {', '.join(families)}"
        )
    expected = {field.name for field in fields(family.config_class)}
    if config.keys() | OPTIONAL_FIELDS != expected:
        raise AVFFError(
            f"{folder / CONFIG_NAME} does not fit {family.__name__}: "
            f"{_difference(config.keys() | OPTIONAL_FIELDS, expected)}; save the model anew with this version"
        )
    if "calibration" in config:
        config["calibration"] = _calibration(config["calibration"], folder)
    model = family(family.config_class(**config))
    model.load_state_dict(_read_weights(folder, model.state_dict()))
    if (folder / OOD_NAME).exists():
        model.ood = OODDetector.load(folder / OOD_NAME)
    return model


def _is_repo_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    try:
        config = json.loads(path.read_text())
    except OSError:
        raise AVFFError(
            f"{folder} holds no {CONFIG_NAME}; expected the folder of a saved model "
            f"({CONFIG_NAME} and {WEIGHTS_NAME})"
        ) from None
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise AVFFError(f"{path} is not a JSON object; copy the checkpoint anew")
    # JSON has no tuples; with them the config compares equal to the one that was saved.
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}


def _read_weights(folder: Path, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as float32, with exactly the names and shapes of ``expected``."""
    path = folder / WEIGHTS_NAME
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise AVFFError(f"{path} cannot be read ({error}); copy the checkpoint anew") from None
    if weights.keys() != expected.keys():
        raise AVFFError(
            f"{path} does not fit its config: {_difference(weights.keys(), expected.keys())}; "
            "take both files from one checkpoint"
        )
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise AVFFError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, the config asks for "
                f"{tuple(expected[name].shape)}; take both files from one checkpoint"
            )
    return {name: tensor.float() for name, tensor in weights.items()}


def _calibration(values: Any, folder: Path) -> Calibration:
    try:
        unsure = values["unsure"]
        return Calibration(**{**values, "unsure": None if unsure is None else tuple(unsure)})
    except (TypeError, KeyError, IndexError, AVFFError):
        raise AVFFError(
            f"the calibration in {folder / CONFIG_NAME} is {values!r}; expected an object with "
            f"{', '.join(field.name for field in fields(Calibration))}; copy the checkpoint anew"
        ) from None


def _difference(actual: Collection[str], expected: Collection[str]) -> str:
    missing, unknown = sorted(set(expected) - set(actual)), sorted(set(actual) - set(expected))
    parts = [
        f"{len(names)} {what} (first: {names[0]})"
        for what, names in (("missing", missing), ("unknown", unknown))
        if names
    ]
    return " and ".join(parts)
