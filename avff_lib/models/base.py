"""The interface that every detector has, and how it is saved and loaded."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from avff_lib.atomic import atomic_write
from avff_lib.clip import AVFFError, Features, InputSpec, ModelInputs
from avff_lib.domain import Domain
from avff_lib.nn.blocks import Block
from avff_lib.nn.cross_modal import agreement
from avff_lib.nn.detail import DetailPath
from avff_lib.verdict import Calibration

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
DOMAIN_NAME = "domain.safetensors"
LATER_FIELDS = {"calibration"}  # checkpoints may be older than these, and their defaults change nothing


class Detector(nn.Module, ABC):
    """Audio and video of one window in, one logit out; a positive logit says fake.

    A subclass names its config dataclass in ``config_class`` and implements `encode`, `spectrogram`,
    `fuse`, `head`. The config holds everything that is needed to rebuild the model without a hub, and also
    ``threshold`` (probability from which a clip is called fake), ``calibration`` (see
    `avff_lib.verdict.Calibration`) and ``trained_on`` (one sentence).
    Its ``detail`` is 0, or the length of what a path for fine detail says of each stream.
    ``domain`` is what the clips looked like that it was calibrated on, None before that.
    There are two presets: `tiny`, made from the fields in ``tiny_config``, and ``base()``, of the
    documented size with pretrained encoders.
    """

    config_class: ClassVar[type]
    tiny_config: ClassVar[dict[str, Any]]
    families: ClassVar[dict[str, type[Detector]]] = {}

    def __init_subclass__(cls) -> None:
        Detector.families[cls.__name__] = cls

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.detail = DetailPath(config.detail) if config.detail else None
        self.domain: Domain | None = None

    @classmethod
    def tiny(cls, seed: int = 0) -> Self:
        """Small enough for a laptop's CPU, 64 x 64 pixels, with random weights drawn from ``seed``."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return cls(cls.config_class(**cls.tiny_config))

    @property
    @abstractmethod
    def spec(self) -> InputSpec:
        """The input that this model needs."""

    @abstractmethod
    def encode(self, inputs: ModelInputs) -> Features:
        """Both streams through their encoders; they stay sequences. What stage one trains."""

    @abstractmethod
    def spectrogram(self, inputs: ModelInputs) -> Tensor:
        """The sound as the path for fine detail sees it: ``(B, bands, N)``, logarithmic."""

    def features(self, inputs: ModelInputs) -> Features:
        """All that is known of a window before the streams meet: `encode`, and fine detail if looked for."""
        features = self.encode(inputs)
        if self.detail is None:
            return features
        return replace(features, detail=self.detail(inputs.frames, self.spectrogram(inputs)))

    def agreement(self, features: Features) -> Tensor:
        """How far lips and voice change alike, ``(B, T)`` in [-1, 1]: the cosine of their changes.

        About 0 for streams that have nothing to do with each other; what is usual for streams that belong
        together depends on the model.
        """
        return agreement(features).mean(dim=-1)

    @abstractmethod
    def fuse(self, features: Features) -> Tensor:
        """Features -> fused sequence ``(B, T, D)``, D as the model pleases."""

    @abstractmethod
    def head(self, fused: Tensor) -> Tensor:
        """Fused sequence -> logits ``(B,)``."""

    def forward(self, inputs: ModelInputs) -> Tensor:
        """Prepared batch -> logits ``(B,)``; the probability of fake, uncalibrated, is their sigmoid."""
        return self.head(self.fuse(self.features(inputs)))

    def set_checkpointing(self, on: bool) -> None:
        """Whether training computes the blocks of a transformer twice rather than remember them.

        Loss and gradients are the same; memory falls from all that happens in the blocks to what goes
        into each, for about a third more time. Source: Chen et al. 2016, section 3.
        """
        for module in self.modules():
            if isinstance(module, PreTrainedModel):  # transformers
                (module.activation_checkpointing_enable if on else module.activation_checkpointing_disable)()
            elif isinstance(module, Block):
                module.checkpointing = on
            elif hasattr(module, "set_grad_checkpointing"):  # timm
                module.set_grad_checkpointing(on)

    def save_pretrained(self, folder: Path | str, *, half: bool = False) -> None:
        """Write config, weights and domain into ``folder``, each in one atomic step.

        With ``half`` weights are stored as float16, in half the space; `from_pretrained` gives float32 back.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"family": type(self).__name__, **asdict(self.config)}
        with atomic_write(folder / CONFIG_NAME) as path:
            path.write_text(json.dumps(config, indent=2) + "\n")
        weights = {
            name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous()
            for name, tensor in self.state_dict().items()
        }
        with atomic_write(folder / WEIGHTS_NAME) as path:
            save_file(weights, path)
        if self.domain is None:
            (folder / DOMAIN_NAME).unlink(missing_ok=True)
        else:
            self.domain.save(folder / DOMAIN_NAME)

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> Self:
        """Load what `save_pretrained` wrote; called on `Detector`, the config names the family.

        Strict in both directions: no key of the config or of the weights may be missing or left
        over, and every shape must agree.

        Raises:
            AVFFError: something is missing, unknown or of another shape.
        """
        folder = Path(folder)
        config = _read_config(folder)
        family = Detector.families.get(config.pop("family", None))
        if family is None or not issubclass(family, cls):
            known = ", ".join(name for name, member in Detector.families.items() if issubclass(member, cls))
            raise AVFFError(f"{folder / CONFIG_NAME} names no known model family; expected one of {known}")
        expected = {field.name for field in fields(family.config_class)}
        if config.keys() | LATER_FIELDS != expected:
            raise AVFFError(
                f"{folder / CONFIG_NAME} does not fit {family.__name__}: "
                f"{_difference(config.keys() | LATER_FIELDS, expected)}; "
                "save the model anew with this version"
            )
        if "calibration" in config:
            config["calibration"] = _calibration(config["calibration"], folder)
        model = family(family.config_class(**config))
        try:
            weights = load_file(folder / WEIGHTS_NAME)
        except (OSError, SafetensorError) as error:
            raise AVFFError(
                f"{folder / WEIGHTS_NAME} cannot be read ({error}); copy the checkpoint anew"
            ) from None
        wanted = model.state_dict()
        if weights.keys() != wanted.keys():
            raise AVFFError(
                f"{folder / WEIGHTS_NAME} does not fit its config: "
                f"{_difference(weights.keys(), wanted.keys())}; take both files from one checkpoint"
            )
        for name, tensor in weights.items():
            if tensor.shape != wanted[name].shape:
                raise AVFFError(
                    f"{folder / WEIGHTS_NAME}: {name} has shape {tuple(tensor.shape)}, the config asks "
                    f"for {tuple(wanted[name].shape)}; take both files from one checkpoint"
                )
        model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        if (folder / DOMAIN_NAME).exists():
            model.domain = Domain.load(folder / DOMAIN_NAME)
        return model.eval()


def count_parameters(module: nn.Module) -> int:
    """Number of weights that a module holds."""
    return sum(parameter.numel() for parameter in module.parameters())


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
    # JSON has no tuples; a config compares equal to the one that was saved only with them.
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}


def _calibration(found: Any, folder: Path) -> Calibration:
    try:
        return Calibration(**{**found, "unsure": found["unsure"] and tuple(found["unsure"])})
    except (TypeError, KeyError, IndexError, AVFFError):
        raise AVFFError(
            f"the calibration in {folder / CONFIG_NAME} is {found!r}; expected an object with "
            f"{', '.join(field.name for field in fields(Calibration))}; copy the checkpoint anew"
        ) from None


def _difference(found: Any, expected: Any) -> str:
    missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    parts = [
        f"{len(names)} {what} (first: {names[0]})"
        for what, names in (("missing", missing), ("unknown", unknown))
        if names
    ]
    return " and ".join(parts)
