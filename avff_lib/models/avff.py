"""The documented system: Wav2Vec2, ViT, cross-attention, decoder, classifier."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import timm
import torch
from torch import Tensor, nn

from avff_lib.clip import AVFFError, Features, InputSpec, ModelInputs
from avff_lib.models import encoders
from avff_lib.models.base import Detector
from avff_lib.nn.cross_modal import CrossModalFusion, agreement
from avff_lib.nn.sequences import to_steps
from avff_lib.verdict import Calibration

TINY_AUDIO = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "conv_dim": [96] * 7,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 15,
    "num_conv_pos_embedding_groups": 8,
    **encoders.NO_SPEC_AUGMENT,
}
TINY_VISUAL = {
    # A ViT behind one convolution: lips and seams look alike wherever they are, and a small ViT on
    # bare patches needs far more clips to learn that. Patches of 4 x 4 after a stem of stride 4.
    "model_name": "vit_tiny_r_s16_p8_224",
    "img_size": 64,
    "patch_size": 4,
    "embed_dim": 128,
    "depth": 2,
    "num_heads": 4,
}
TINY = {"dim": 128, "image_size": 64, "detail": 32, "audio": TINY_AUDIO, "visual": TINY_VISUAL}


@dataclass(frozen=True)
class AVFFConfig:
    """Everything that is needed to rebuild an `AVFF` without a hub.

    Attributes:
        audio: fields of transformers' ``Wav2Vec2Config``.
        visual: arguments of ``timm.create_model``, ``model_name`` among them.
        dim: length of a feature; the documented system projects 768 to 512.
        heads: of the cross-attention; must divide ``dim``.
        dropout: in fusion, decoder and classifier.
        detail: length of what the path for fine detail says of each stream; 0 leaves it out, as the
            documented system does.
        duration, frame_count, image_size, mean, std, sample_rate: see `avff_lib.clip.InputSpec`.
        threshold: probability from which a clip is called fake, chosen on validation data.
        calibration: see `avff_lib.verdict.Calibration`; likewise.
        trained_on: one sentence for the reader of a verdict.
    """

    audio: dict[str, Any] = field(default_factory=dict)
    visual: dict[str, Any] = field(default_factory=lambda: {"model_name": "vit_base_patch16_224"})
    dim: int = 512
    heads: int = 8
    dropout: float = 0.1
    detail: int = 0
    duration: float = 1.0
    frame_count: int = 16
    image_size: int = 224
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    sample_rate: int = 16_000
    threshold: float = 0.5
    calibration: Calibration = field(default_factory=Calibration)
    trained_on: str = "nothing yet: its weights are random"

    def __post_init__(self) -> None:
        if self.dim % (2 * self.heads):
            raise AVFFError(f"dim is {self.dim}; expected a multiple of 2 x heads = {2 * self.heads}")
        if not 0 < self.threshold < 1:
            raise AVFFError(f"threshold is {self.threshold}; expected a probability between 0 and 1")


class Decoder(nn.Module):
    """Fused vector of a frame -> the features of both streams at that moment."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, 2 * dim)
        )

    def forward(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T, D)`` -> audio and visual features, each ``(B, T, D)``."""
        audio, visual = self.mlp(fused).chunk(2, dim=-1)
        return audio, visual


class Classifier(nn.Module):
    """Fused sequence -> one logit. Time is pooled here and nowhere before."""

    def __init__(self, dim: int, detail: int, dropout: float) -> None:
        super().__init__()
        self.dim = dim
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Dropout(dropout),
            *(nn.Linear(2 * dim + 2 * detail, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, 1)),
        )

    def forward(self, fused: Tensor) -> Tensor:
        """``(B, T, 2 D)`` or longer, as `AVFF.fuse` returns it -> ``(B,)``."""
        together, rest = fused[..., : self.dim], fused[..., self.dim :]
        # The norm comes before the mean: a mean over normalised channels would be 0 for every clip.
        pooled = torch.cat([self.norm(together), rest], dim=-1).mean(dim=1)
        return self.mlp(pooled).squeeze(-1)


class AVFF(Detector):
    """The documented system, both presets made of the same classes.

    ``AVFF.tiny()`` has random weights and trains on a laptop's CPU; ``AVFF.base()`` starts from
    wav2vec2-base and vit_base_patch16_224, from a hub or from local folders.
    """

    config_class = AVFFConfig
    tiny_config = TINY

    def __init__(
        self,
        config: AVFFConfig,
        audio_backbone: nn.Module | None = None,
        visual_backbone: nn.Module | None = None,
    ) -> None:
        """Build from ``config``; a backbone that is given is used instead of a random one."""
        super().__init__(config)
        self.audio_encoder = encoders.AudioEncoder(
            audio_backbone or encoders.build_audio_backbone(config.audio), config.dim
        )
        self.visual_encoder = encoders.VisualEncoder(
            visual_backbone or encoders.build_visual_backbone(config.visual), config.dim
        )
        self.fusion = CrossModalFusion(config.dim, config.heads, config.duration, config.dropout)
        self.decoder = Decoder(config.dim, config.dropout)
        self.classifier = Classifier(config.dim, config.detail, config.dropout)

    @classmethod
    def base(cls, audio: str = "facebook/wav2vec2-base", visual: str = "vit_base_patch16_224") -> AVFF:
        """Pretrained encoders; the other parts are random until trained.

        Args:
            audio: hub id or local folder of a wav2vec2 model.
            visual: timm name, or local folder of a timm model.

        Raises:
            AVFFError: an encoder is neither here nor to be had.
        """
        audio_backbone = encoders.load_audio_backbone(audio)
        visual_backbone, visual_config = encoders.load_visual_backbone(visual)
        # The checkpoint knows how its pictures were normalised; ImageNet's statistics are a guess.
        data = timm.data.resolve_model_data_config(visual_backbone)
        config = AVFFConfig(
            audio=audio_backbone.config.to_diff_dict(),
            visual=visual_config,
            image_size=data["input_size"][-1],
            mean=tuple(data["mean"]),
            std=tuple(data["std"]),
        )
        return cls(config, audio_backbone, visual_backbone)

    @property
    def spec(self) -> InputSpec:
        config = asdict(self.config)
        names = ("duration", "frame_count", "image_size", "mean", "std", "sample_rate")
        return InputSpec(**{name: config[name] for name in names}, audio="waveform")

    def encode(self, inputs: ModelInputs) -> Features:
        """Audio ``(B, Na, D)``, a step every 20 ms; visual ``(B, T, D)``, a step a frame."""
        return Features(audio=self.audio_encoder(inputs.audio), visual=self.visual_encoder(inputs.frames))

    def spectrogram(self, inputs: ModelInputs) -> Tensor:
        """``(B, 257, N)``: log power of 32 ms every 10 ms."""
        window = torch.hann_window(512, device=inputs.audio.device)
        spectrum = torch.stft(inputs.audio.float(), 512, 160, window=window, return_complex=True)
        return (spectrum.abs().square() + 1e-3).log()  # what is weaker is silence

    def fuse(self, features: Features) -> Tensor:
        """``(B, T, 2 D)``: what a frame and its sound say together, and how far the two change alike.

        With a path for fine detail, what that says of both streams stands behind: ``(B, T, 2 D + 2 C)``.
        """
        parts = [self.fusion(features), agreement(features)]
        if features.detail is not None:
            parts.append(to_steps(features.detail, parts[0].shape[1]))
        return torch.cat(parts, dim=-1)

    def head(self, fused: Tensor) -> Tensor:
        return self.classifier(fused)
