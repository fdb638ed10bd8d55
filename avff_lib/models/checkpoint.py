"""A detector's files: finding, writing and strictly reading them."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Collection
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avff_lib.errors import AVFFError
from avff_lib.models.calibration import Calibration
from avff_lib.models.hub import from_hub
from avff_lib.models.ood import OODDetector
from avff_lib.utils.atomic import atomic_write, flush, locked, temporary_name
from avff_lib.utils.schema import SHORTEN, check_fields

if TYPE_CHECKING:
    from avff_lib.models.base import Detector

    AnyDetector = TypeVar("AnyDetector", bound=Detector)

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
OOD_NAME = "ood.safetensors"
FILES = (WEIGHTS_NAME, OOD_NAME, CONFIG_NAME)
NEW_NAME = ".new"  # folder in a checkpoint's folder; while it exists, its contents are the checkpoint
MAX_CONFIG_BYTES = 1_000_000
MAX_WEIGHTS = 4_000_000_000  # 16 GB as float32; no audio-visual detector has that many
FLOATS, INTEGERS = ("F64", "F32", "F16", "BF16"), ("I64", "I32")
# Missing in older checkpoints; their defaults change nothing.
OPTIONAL_FIELDS = {"calibration", "window_temperature", "window_bias", "window_threshold", "pooling"}
SHIPPED_DIR = Path(__file__).parents[1] / "checkpoints"
DEFAULT_CHECKPOINT = "avff-people"  # the only shipped one for recordings of people


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
        patterns = [CONFIG_NAME, WEIGHTS_NAME, OOD_NAME]  # skip everything else in the repository
        return Path(from_hub(name, functools.partial(snapshot_download, name, allow_patterns=patterns)))
    raise AVFFError(
        f"there is no detector {name}; expected {' or '.join(shipped)}, the folder of a saved one, or a hub "
        "id such as owner/name"
    )


def save(model: Detector, folder: Path, *, half: bool) -> None:
    """Write config, weights and out-of-distribution detector; see `Detector.save_pretrained`.

    The three files replace the old ones together. They are first written in full to a folder of their own.
    Renaming it to `NEW_NAME`, in one step, makes them the checkpoint; only then are the old files replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / temporary_name()
    staged.mkdir()
    try:
        _write(model, staged, half=half)
        with locked(folder):
            _put_in_place(folder)  # finish an interrupted save
            staged.rename(folder / NEW_NAME)
            flush(folder)
            _put_in_place(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def load(cls: type[AnyDetector], name_or_path: Path | str) -> AnyDetector:
    """Build the detector of a checkpoint, on the CPU; see `Detector.from_pretrained`.

    The files may come from a stranger, so nothing is taken on trust: only known settings are passed on,
    memory is allocated only once the sizes in both files agree, and nothing is executed or looked up
    elsewhere.
    """
    folder = find_checkpoint(name_or_path)
    with locked(folder, shared=True):
        new = folder / NEW_NAME
        return _read(cls, new if new.is_dir() else folder)


def weights_digest(model: Detector) -> str:
    """Hash of a detector's weights, sixteen hexadecimal digits, to be stored beside its scores."""
    weights = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        weights.update(name.encode())
        weights.update(tensor.cpu().contiguous().numpy())
    return weights.hexdigest()[:16]


def calibration_digest(model: Detector) -> str:
    """The same for the parts that turn output into labels: threshold, calibration, and OOD detector."""
    settings = [model.config.threshold, asdict(model.config.calibration)]
    digest = hashlib.sha256(json.dumps(settings).encode())
    if model.ood is not None:
        digest.update(repr(model.ood.joint_limit).encode())
        for name, part in sorted(model.ood.detectors.items()):
            digest.update(f"{name} {part.limit}".encode())
            digest.update(part.mean.tobytes() + part.precision.tobytes())
    return digest.hexdigest()[:16]


def _write(model: Detector, folder: Path, *, half: bool) -> None:
    """Write the files of a checkpoint into an empty folder."""
    config = {"family": type(model).__name__, **asdict(model.config)}
    with atomic_write(folder / CONFIG_NAME) as path:
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    with atomic_write(folder / WEIGHTS_NAME) as path:
        save_file(weights, path)
    if model.ood is not None:
        model.ood.save(folder / OOD_NAME)


def _put_in_place(folder: Path) -> None:
    """Replace the old files by those in `NEW_NAME`, if it exists; safe to repeat after any interruption."""
    new = folder / NEW_NAME
    if not new.is_dir():
        return
    for name in FILES:
        if (new / name).exists():
            with atomic_write(folder / name) as path:
                _link(new / name, path)
        else:
            (folder / name).unlink(missing_ok=True)
    # Up to here `NEW_NAME` is complete and is the checkpoint; from here on the folder itself is.
    old = new.rename(folder / temporary_name())
    flush(folder)
    shutil.rmtree(old, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    target.unlink()
    try:
        os.link(source, target)
    except OSError:  # not every file system has links
        shutil.copyfile(source, target)


def _read(cls: type[AnyDetector], folder: Path) -> AnyDetector:
    family, config = _read_config(cls, folder / CONFIG_NAME)
    ood = OODDetector.load(folder / OOD_NAME) if (folder / OOD_NAME).exists() else None
    try:
        with torch.device("meta"):  # names and shapes of all weights, which take no memory
            expected = family(config).state_dict()
    except Exception as error:  # timm, transformers and torch raise exceptions of many types
        reason = str(error).strip().split("\n")[0]
        raise AVFFError(
            f"the model of {folder / CONFIG_NAME} cannot be built ({reason}); take another checkpoint"
        ) from None
    weights = _read_weights(folder / WEIGHTS_NAME, expected)
    model = family(config)
    model.load_state_dict(weights)
    model.ood = ood
    return model


def _read_config(cls: type[AnyDetector], path: Path) -> tuple[type[AnyDetector], Any]:
    """The family that a config names, and its config object."""
    if not path.is_file():
        raise AVFFError(
            f"{path.parent} holds no {CONFIG_NAME}; expected the folder of a saved model "
            f"({CONFIG_NAME} and {WEIGHTS_NAME})"
        )
    try:
        values = json.loads(path.read_bytes()) if path.stat().st_size <= MAX_CONFIG_BYTES else None
    except OSError as error:
        raise AVFFError(f"{path} cannot be read ({error.strerror}); copy the checkpoint again") from None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise AVFFError(f"{path} is not a JSON object; copy the checkpoint again")
    families = {name: family for name, family in cls.families.items() if issubclass(family, cls)}
    name = values.pop("family", None)
    if not isinstance(name, str) or name not in families:
        raise AVFFError(f"{path} names no known model family; expected one of {', '.join(families)}")
    family = families[name]
    try:
        check_fields(values, family.config_class)
        _check_complete(values, family.config_class)
        # JSON has no tuples; restore them, so that the config equals the one that was saved.
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        if "calibration" in values:
            values["calibration"] = _calibration(values["calibration"])
        return family, family.config_class(**values)
    except AVFFError as error:
        raise AVFFError(f"{path}: {error}") from None


def _calibration(values: dict[str, Any]) -> Calibration:
    _check_complete(values, Calibration, "calibration.")
    unsure = values["unsure"]
    return Calibration(**{**values, "unsure": None if unsure is None else tuple(unsure)})


def _check_complete(values: dict[str, Any], kind: type, prefix: str = "") -> None:
    missing = {field.name for field in fields(kind)} - values.keys() - OPTIONAL_FIELDS
    if missing:
        raise AVFFError(f"{prefix}{min(missing)} is missing; save the model again with this version")


def _is_repo_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _read_weights(path: Path, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as float32, with exactly the names and shapes of ``expected``."""
    size = sum(tensor.numel() for tensor in expected.values())
    if size > MAX_WEIGHTS:
        raise AVFFError(f"the model of {path} has {size} weights; expected {MAX_WEIGHTS} or fewer")
    try:
        with safe_open(path, framework="pt") as file:  # reads only the header
            found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            if found.keys() != expected.keys():
                raise AVFFError(
                    f"{path} does not fit its config: {_difference(found.keys(), expected.keys())}; take "
                    "both files from one checkpoint"
                )
            for name, entry in found.items():
                shape, dtype = tuple(entry.get_shape()), entry.get_dtype()
                if shape != expected[name].shape:
                    raise AVFFError(
                        f"{path}: {name} has shape {shape}, the config asks for "
                        f"{tuple(expected[name].shape)}; take both files from one checkpoint"
                    )
                if dtype not in (FLOATS if expected[name].is_floating_point() else INTEGERS):
                    raise AVFFError(f"{path}: {name} has the type {dtype}; copy the checkpoint again")
            weights = {name: file.get_tensor(name).float() for name in found}
    except (OSError, SafetensorError) as error:
        raise AVFFError(f"{path} cannot be read ({error}); copy the checkpoint again") from None
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise AVFFError(f"{path}: {name} holds NaN or infinite values; train the model again")
    return weights


def _difference(actual: Collection[str], expected: Collection[str]) -> str:
    missing, unknown = sorted(set(expected) - set(actual)), sorted(set(actual) - set(expected))
    parts = [
        f"{len(names)} {what} (first: {SHORTEN.repr(names[0])})"
        for what, names in (("missing", missing), ("unknown", unknown))
        if names
    ]
    return " and ".join(parts)
