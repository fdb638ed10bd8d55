"""The documented system: Wav2Vec2, ViT, cross-attention, decoder, classifier."""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from avff_lib.models import encoders
from avff_lib.models.base import Detector
from avff_lib.models.configs import AVFF_TINY, AVFFConfig
from avff_lib.models.contrast import contrastive_loss
from avff_lib.nn.cross_modal import CrossModalFusion, agreement
from avff_lib.nn.features import Features
from avff_lib.nn.losses import masked_mse
from avff_lib.nn.sequences import pool_to_steps, standardize
from avff_lib.preprocess.spec import InputSpec, ModelInputs
from avff_lib.utils import distributed

CONTRAST_TEMPERATURE = 0.1  # re-implementations use 0.05 to 0.1; the paper's value is not known
CONTRAST_SLICES = 8  # slices of a window to tell apart; the means of whole windows teach nothing


class Decoder(nn.Module):
    """Fused vector of a frame -> predicted features of both streams at that moment."""

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
    """Fused sequence -> one logit. Time is pooled only here."""

    def __init__(self, dim: int, detail: int, dropout: float) -> None:
        super().__init__()
        self.dim = dim
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(2 * dim + 2 * detail, dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(dim, 1),
        )

    def forward(self, fused: Tensor) -> Tensor:
        """``(B, T, 2 D)`` or longer, as `AVFF.fuse` returns it -> ``(B,)``."""
        attended, rest = fused[..., : self.dim], fused[..., self.dim :]
        # The norm comes before the mean: normalised channels have mean 0 for every clip.
        pooled = torch.cat([self.norm(attended), rest], dim=-1).mean(dim=1)
        return self.mlp(pooled).squeeze(-1)


class AVFF(Detector):
    """The documented system.

    Both presets use the same classes: ``AVFF.tiny()`` has random weights and trains on a laptop's CPU;
    ``AVFF.base()`` starts from wav2vec2-base and vit_base_patch16_224, from the hub or from local folders.
    """

    config: AVFFConfig
    config_class = AVFFConfig
    tiny_config = AVFF_TINY

    def __init__(
        self,
        config: AVFFConfig,
        audio_backbone: PreTrainedModel | None = None,
        visual_backbone: nn.Module | None = None,
    ) -> None:
        """Build from ``config``, with the given backbones or with randomly initialised ones."""
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
        """Pretrained encoders; all other weights are random until trained.

        Args:
            audio: hub id or local folder of a Wav2Vec2 model.
            visual: timm name, or local folder of a timm model.

        Raises:
            AVFFError: an encoder is not on this machine and cannot be downloaded.
        """
        # Each encoder gets the inputs that it was trained on, as its checkpoint states them: Wav2Vec2's
        # feature extractor gives the sample rate, and zero mean and unit variance; timm's card gives the
        # images' normalisation. For vit_base_patch16_224 that is 0.5; ImageNet's statistics would be a guess.
        audio_backbone, sample_rate = encoders.load_audio_backbone(audio)
        visual_backbone, visual_config = encoders.load_visual_backbone(visual)
        data = timm.data.resolve_model_data_config(visual_backbone)
        config = AVFFConfig(
            audio=encoders.audio_settings(audio_backbone.config),
            visual=visual_config,
            image_size=data["input_size"][-1],
            mean=tuple(data["mean"]),
            std=tuple(data["std"]),
            sample_rate=sample_rate,
        )
        return cls(config, audio_backbone, visual_backbone)

    @property
    def spec(self) -> InputSpec:
        config = self.config
        return InputSpec(
            duration=config.duration,
            frame_count=config.frame_count,
            image_size=config.image_size,
            mean=config.mean,
            std=config.std,
            sample_rate=config.sample_rate,
            audio="waveform",
        )

    def encode(self, inputs: ModelInputs) -> Features:
        """Audio ``(B, Na, D)``, one step every 20 ms; visual ``(B, T, D)``, one step per frame."""
        return Features(audio=self.audio_encoder(inputs.audio), visual=self.visual_encoder(inputs.frames))

    def spectrogram(self, inputs: ModelInputs) -> Tensor:
        """Log power spectrogram ``(B, 257, N)``, windows of 32 ms every 10 ms."""
        window = torch.hann_window(512, device=inputs.audio.device)
        spectrum = torch.stft(inputs.audio.float(), 512, 160, window=window, return_complex=True)
        return (spectrum.abs().square() + 1e-3).log()  # weaker bins are treated as silence

    def fuse(self, features: Features) -> Tensor:
        """``(B, T, 2 D)``: cross-modal fusion of each frame, then the streams' `agreement`.

        With a detail path, its features of both streams are appended: ``(B, T, 2 D + 2 C)``.
        """
        parts = [self.fusion(features), agreement(features)]
        if features.detail is not None:
            parts.append(pool_to_steps(features.detail, parts[0].shape[1]))
        return torch.cat(parts, dim=-1)

    def forward_head(self, fused: Tensor) -> Tensor:
        return self.classifier(fused)

    def pretraining_loss(self, inputs: ModelInputs, generator: torch.Generator) -> dict[str, Tensor]:
        """Half of the frames are masked before fusion and predicted from the audio.

        The targets are the encoders' own features, detached and standardised over the batch: predicting their
        mean then costs 1 in each stream, and small or equal features make the prediction no easier.
        """
        features = self.encode(inputs)
        audio = pool_to_steps(features.audio, features.visual.shape[1])  # (B, T, D)
        contrast, logged = contrastive_loss(features, CONTRAST_SLICES, CONTRAST_TEMPERATURE)

        masked = distributed.rand(features.visual.shape[:2], generator).to(features.visual.device) < 0.5
        visible = features.visual.masked_fill(masked[..., None], 0.0)  # (B, T, D)
        predicted_audio, predicted_visual = self.decoder(self.fusion(Features(features.audio, visible)))
        # Processes may mask different numbers of steps; the mean is over all masked steps.
        share = masked.float().mean() / distributed.mean(masked.float().mean())
        visual_error = masked_mse(predicted_visual, standardize(features.visual), masked) * share
        # No audio was masked, so its reconstruction is scored everywhere.
        reconstruction = visual_error + F.mse_loss(predicted_audio, standardize(audio))
        return {"loss": contrast + reconstruction, "reconstruction": reconstruction.detach(), **logged}
