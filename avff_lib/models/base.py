"""The interface of every detector, and its saving and loading."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from avff_lib.models import checkpoint
from avff_lib.models.ood import OODDetector
from avff_lib.nn.cross_modal import agreement
from avff_lib.nn.detail import DetailPath
from avff_lib.nn.features import Features
from avff_lib.preprocess.spec import InputSpec, ModelInputs

if TYPE_CHECKING:
    from avff_lib.inference.prediction import FilePrediction, Label


class Detector(nn.Module, ABC):
    """Audio and video of one window -> one logit; positive for fake.

    A subclass names its config dataclass in ``config_class`` and implements `spec`, `encode`, `spectrogram`,
    `fuse`, `forward_head` and `pretraining_loss`. It has two presets: `tiny`, made from the fields in
    ``tiny_config``, and ``base()``, of the documented size with pretrained encoders.

    Attributes:
        config: all that is needed to rebuild the model without the hub, and also ``threshold`` (the
            probability at and above which a clip is labelled fake), ``calibration`` (see
            `avff_lib.models.calibration.Calibration`) and ``trained_on`` (one sentence).
        labels: names of the classes 0 and 1.
        detail: the detail path, or None without one.
        ood: the out-of-distribution detector, fitted with the calibration; None before that.
    """

    config_class: ClassVar[type]
    tiny_config: ClassVar[dict[str, Any]]
    families: ClassVar[dict[str, type[Detector]]] = {}
    labels: ClassVar[tuple[Label, Label]] = ("real", "fake")

    def __init_subclass__(cls) -> None:
        Detector.families[cls.__name__] = cls

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        detail = getattr(config, "detail", 0)  # not every family has the path
        self.detail = DetailPath(detail) if detail else None
        self.ood: OODDetector | None = None

    @classmethod
    def tiny(cls, seed: int = 0) -> Self:
        """A model for a laptop's CPU and 64 x 64 pixels, with random weights drawn from ``seed``."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return cls(cls.config_class(**cls.tiny_config))

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return next(self.parameters()).device

    @property
    @abstractmethod
    def spec(self) -> InputSpec:
        """The inputs that this model expects."""

    @abstractmethod
    def encode(self, inputs: ModelInputs) -> Features:
        """Encode both streams; stage one trains these encoders, and the features stay sequences."""

    @abstractmethod
    def spectrogram(self, inputs: ModelInputs) -> Tensor:
        """The detail path's audio input: log spectrogram ``(B, bands, N)``."""

    def forward_features(self, inputs: ModelInputs) -> Features:
        """All features before fusion: those of `encode`, and those of the detail path if there is one."""
        features = self.encode(inputs)
        if self.detail is None:
            return features
        return replace(features, detail=self.detail(inputs.frames, self.spectrogram(inputs)))

    def agreement(self, features: Features) -> Tensor:
        """Agreement of lips and voice, ``(B, T)`` in [-1, 1]: cosine similarity of their changes over time.

        About 0 for unrelated streams; the usual value for matching streams depends on the model.
        """
        return agreement(features).mean(dim=-1)

    @property
    def lags(self) -> np.ndarray | None:
        """Lags of the voice behind the lips, in seconds, if the last axis of `fuse` is a search over them."""
        return None

    @abstractmethod
    def fuse(self, features: Features) -> Tensor:
        """Features -> fused sequence ``(B, T, D)``, with a D that depends on the model."""

    @abstractmethod
    def forward_head(self, fused: Tensor) -> Tensor:
        """Fused sequence -> logits ``(B,)``."""

    @abstractmethod
    def pretraining_loss(self, inputs: ModelInputs, generator: torch.Generator) -> dict[str, Tensor]:
        """Stage one's loss on real windows: contrast of the two streams, and prediction of masked parts.

        Args:
            inputs: real windows, ``(B, ...)``.
            generator: draws the masks.

        Returns:
            ``loss`` and its parts, and the values that `avff_lib.models.contrast.contrastive_loss` logs. A
            model with critics also returns ``critic_loss``, whose gradient reaches only the critics.

        Raises:
            AVFFError: the features have collapsed to a point.
        """

    def forward(self, inputs: ModelInputs) -> Tensor:
        """Prepared batch -> logits ``(B,)``; the probability of fake, uncalibrated, is their sigmoid."""
        return self.forward_head(self.fuse(self.forward_features(inputs)))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switch gradient checkpointing of all transformer blocks on or off, as timm's models do.

        Loss and gradients stay the same. Training stores only the input of each block and recomputes the rest
        in the backward pass: less memory for about a third more time. Source: Chen et al. 2016, section 3.
        """
        for module in self.modules():
            if isinstance(module, PreTrainedModel):  # transformers
                if enable:
                    module.activation_checkpointing_enable()
                else:
                    module.activation_checkpointing_disable()
            elif module is not self:  # timm's models, and `avff_lib.nn.blocks.Block`
                switch = getattr(module, "set_grad_checkpointing", None)
                if switch is not None:
                    switch(enable)

    def predict(self, path: Path | str, *, progress: Callable[[float], None] | None = None) -> FilePrediction:
        """Score a whole media file; see `avff_lib.inference.predictor.predict`."""
        from avff_lib.inference.predictor import predict  # the only import against the order of modules

        return predict(path, self, progress=progress)

    def save_pretrained(self, folder: Path | str, *, half: bool = False) -> None:
        """Write config, weights and out-of-distribution detector into ``folder``.

        The layout, ``config.json`` and ``model.safetensors`` at the top, is that of a model repository on
        the Hugging Face hub: ``huggingface_hub.upload_folder`` publishes it as it is. The files of an older
        checkpoint are replaced together: an interrupted save leaves either the old checkpoint or the new one.

        Args:
            folder: created if it does not exist.
            half: store the weights as float16, in half the space; `from_pretrained` returns float32.
        """
        checkpoint.save(self, Path(folder), half=half)

    @classmethod
    def from_pretrained(cls, name_or_path: Path | str, *, device: torch.device | str = "cpu") -> Self:
        """Load a detector; when called on `Detector`, the config decides the family.

        Loading is strict: no key of the config or of the weights may be missing or left over, and every shape
        must match.

        Args:
            name_or_path: a shipped detector (``"avff-people"``, which scores synchrony only, or
                ``"avff-tiny"`` or ``"avffmae-tiny"``, both trained on drawn faces), the folder of a saved
                one, or a repository on the Hugging Face hub (``"owner/name"``).
            device: that the weights are loaded to.

        Returns:
            The detector, in evaluation mode.

        Raises:
            AVFFError: the detector does not exist, or a part of it is missing, unknown or of another shape.
        """
        return checkpoint.load(cls, name_or_path).to(device).eval()


def count_parameters(module: nn.Module) -> int:
    """Number of parameters of a module, trainable or not."""
    return sum(parameter.numel() for parameter in module.parameters())
