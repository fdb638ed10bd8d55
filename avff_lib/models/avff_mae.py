"""The paper's model: a masked autoencoder of both streams with complementary masks.

Source: Oorloff et al., AVFF: Audio-Visual Feature Fusion for Video Deepfake Detection, CVPR 2024
(arXiv 2406.02951). The order of operations follows its figure 1: encode all tokens, mask half of the
*features* of each stream, predict them from the other stream, decode. Sizes are those of its
re-implementations.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.func import functional_call

from avff_lib.models import published
from avff_lib.models.base import Detector
from avff_lib.models.configs import AVFFMAE_TINY, AVFFMAEConfig
from avff_lib.models.contrast import contrastive_loss
from avff_lib.nn.blocks import init_weights
from avff_lib.nn.cross_modal import agreement
from avff_lib.nn.decoder import Critic, PatchDecoder
from avff_lib.nn.features import Features
from avff_lib.nn.losses import (
    gradient_penalty,
    normalize_patches,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from avff_lib.nn.masking import complementary_slices, gather_slices, scatter_slices
from avff_lib.nn.patches import (
    AudioPatchEmbed,
    ConvStemTubeletEmbed,
    TokenEncoder,
    TubeletEmbed,
    patchify_audio,
    patchify_video,
)
from avff_lib.nn.reduction import PatchReduction, SliceReduction
from avff_lib.nn.sequences import RunningMeanCentering, pool_to_steps
from avff_lib.nn.translation import SliceTranslator
from avff_lib.preprocess.spec import FbankSpec, InputSpec, MelSpec, ModelInputs


class AVFFMAE(Detector):
    """Two encoders, two translators (A2V, V2A), two decoders, two critics, two reductions, one classifier.

    Stage one trains all but the reductions and the classifier, stage two trains these with the encoders and
    translators. A checkpoint always holds every weight, so none is lost between the stages.
    """

    config: AVFFMAEConfig
    log_temperature: Tensor

    config_class = AVFFMAEConfig
    tiny_config = AVFFMAE_TINY

    def __init__(self, config: AVFFMAEConfig) -> None:
        super().__init__(config)
        c = config
        audio_values = c.audio_patch[0] * c.audio_patch[1]
        video_values = 3 * c.video_patch[0] * c.video_patch[1] * c.video_patch[2]
        audio_tokens, visual_tokens = self.tokens_per_slice
        self.audio_encoder = TokenEncoder(
            AudioPatchEmbed(c.dim, c.audio_patch),
            c.audio_grid,
            c.dim,
            c.depth,
            c.heads,
            class_token=c.class_token,
        )
        tubelet_embed = ConvStemTubeletEmbed if c.conv_stem else TubeletEmbed
        self.visual_encoder = TokenEncoder(
            tubelet_embed(c.dim, c.video_patch), c.video_grid, c.dim, c.depth, c.heads, class_token=False
        )
        self.audio_to_visual = SliceTranslator(audio_tokens, visual_tokens, c.dim, c.heads)
        self.visual_to_audio = SliceTranslator(visual_tokens, audio_tokens, c.dim, c.heads)
        self.audio_decoder = PatchDecoder(
            c.audio_grid,
            c.dim,
            c.audio_decoder_dim,
            c.audio_decoder_depth,
            c.audio_decoder_heads,
            audio_values,
            c.audio_decoder_window,
        )
        self.visual_decoder = PatchDecoder(
            c.video_grid, c.dim, c.decoder_dim, c.decoder_depth, c.decoder_heads, video_values
        )
        self.critic = nn.ModuleDict(
            {"audio": Critic(audio_values, c.critic_dim), "visual": Critic(video_values, c.critic_dim)}
        )
        log_temperature = torch.tensor(c.temperature).log()
        if c.learn_temperature:
            self.log_temperature = nn.Parameter(log_temperature)
        else:
            self.register_buffer("log_temperature", log_temperature)
        self.audio_centering = RunningMeanCentering(c.slices, c.dim)
        self.visual_centering = RunningMeanCentering(c.slices, c.dim)
        if c.reduction == "patch":
            length = 2 * c.dim
            self.audio_reduction: nn.Module = PatchReduction(math.prod(c.audio_grid), c.reduced_dim)
            self.visual_reduction: nn.Module = PatchReduction(math.prod(c.video_grid), c.reduced_dim)
        else:
            length = c.reduced_dim
            self.audio_reduction = SliceReduction(2 * c.dim, length)
            self.visual_reduction = SliceReduction(2 * c.dim, length)
        self.classifier = nn.Sequential(
            nn.Dropout(c.dropout),
            nn.Linear(2 * length + c.dim * c.agreement + 2 * c.detail, c.reduced_dim),
            nn.GELU(),
            nn.Linear(c.reduced_dim, 1),
        )
        self.apply(init_weights)

    @classmethod
    def base(
        cls,
        audio: str = "gaunernst/vit_base_patch16_1024_128.audiomae_as2m",
        visual: str = "ControlNet/marlin_vit_base_ytf",
    ) -> AVFFMAE:
        """The paper's model, started from the published weights that the paper names; the rest is random.

        The hub has only the encoders of AudioMAE and MARLIN. With their decoders, as in the paper, they are
        files to download: ``pretrained.pth``, linked from AudioMAE's README, and
        ``marlin_vit_base_ytf.full.pt``, from MARLIN's releases. VideoMAE (``MCG-NJU/videomae-base``), which
        has its own normalisation and decoder, can replace MARLIN.

        Args:
            audio: hub id, folder or file of AudioMAE weights.
            visual: hub id, folder or file of MARLIN or VideoMAE weights.

        Raises:
            AVFFError: weights are not on this machine and cannot be downloaded, or do not fit.
        """
        audio_weights, visual_weights = published.read_audiomae(audio), published.read_video_mae(visual)
        model = cls(AVFFMAEConfig(**audio_weights.settings, **visual_weights.settings))
        published.load_encoder(model.audio_encoder, audio_weights)
        published.load_encoder(model.visual_encoder, visual_weights)
        published.load_decoder(model.audio_decoder, audio_weights)
        published.load_decoder(model.visual_decoder, visual_weights)
        return model

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
            audio="fbank" if config.mel is None else "mel",
            mel=MelSpec(**(config.mel or {})),
            fbank=FbankSpec(**(config.fbank or {})),
        )

    @property
    def tokens_per_slice(self) -> tuple[int, int]:
        """Audio tokens and video tokens in one slice."""
        audio, video, slices = self.config.audio_grid, self.config.video_grid, self.config.slices
        return audio[0] // slices * audio[1], video[0] // slices * video[1] * video[2]

    @property
    def temperature(self) -> Tensor:
        """Temperature of the contrastive loss, a scalar; stored as a logarithm, so that it stays above 0."""
        return self.log_temperature.exp()

    def spectrogram(self, inputs: ModelInputs) -> Tensor:
        """The audio encoder's input ``(B, bands, N)``: normalised, cropped to whole patches.

        A mel spectrogram has centred windows, so it has one column more than the waveform has hops.
        """
        columns = self.config.audio_grid[0] * self.config.audio_patch[0]
        return (inputs.audio[..., :columns] - self.config.audio_mean) / self.config.audio_std

    def encode(self, inputs: ModelInputs) -> Features:
        """Audio ``(B, Na, D)``, one vector per patch; visual ``(B, Nv, D)``, one vector per tubelet."""
        return Features(
            audio=self.audio_encoder(self.spectrogram(inputs)), visual=self.visual_encoder(inputs.frames)
        )

    def split_slices(self, tokens: Tensor) -> Tensor:
        """Tokens ``(B, N, ...)``, time-major -> slices ``(B, K, N / K, ...)``."""
        return rearrange(tokens, "b (k n) ... -> b k n ...", k=self.config.slices)

    def fill_masked(
        self, features: Features, visible_visual: Tensor, visible_audio: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Replace the masked slices of each stream by their prediction from the other stream.

        Args:
            features: those of all tokens.
            visible_visual, visible_audio: ``(B, K / 2)``, as `complementary_slices` draws them.

        Returns:
            Audio ``(B, K, Na / K, D)`` and visual ``(B, K, Nv / K, D)``: half visible, half predicted.
        """
        audio, visual = self.split_slices(features.audio), self.split_slices(features.visual)
        predicted_visual = self.audio_to_visual(gather_slices(audio, visible_audio))  # (B, K / 2, Nv / K, D)
        predicted_audio = self.visual_to_audio(gather_slices(visual, visible_visual))  # (B, K / 2, Na / K, D)
        # The slices visible in one stream are those masked in the other.
        return (
            scatter_slices(audio, visible_visual, predicted_audio),
            scatter_slices(visual, visible_audio, predicted_visual),
        )

    def reconstruct(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Features of all slices, as `fill_masked` returns them -> the values of all patches, in slices.

        Returns:
            Audio ``(B, K, Na / K, values)`` and video ``(B, K, Nv / K, values)``, each patch standardised.
        """
        return (
            self.split_slices(self.audio_decoder(audio.flatten(1, 2))),
            self.split_slices(self.visual_decoder(visual.flatten(1, 2))),
        )

    def patchify(self, inputs: ModelInputs) -> tuple[Tensor, Tensor]:
        """Values of all patches of both streams, in slices, as the model gets them."""
        return (
            self.split_slices(patchify_audio(self.spectrogram(inputs), self.config.audio_patch)),
            self.split_slices(patchify_video(inputs.frames, self.config.video_patch)),
        )

    def fuse(self, features: Features) -> Tensor:
        """Each stream with its prediction from the other, reduced: ``(B, 1, 4 D)``, or ``(B, K, 2 R)``.

        The reduction over patches gives the first shape, with one vector for each stream; the reduction over
        slices gives the second. If the config asks for them, the streams' `agreement` (D values) and the
        detail features of both (2 C values) are appended.
        """
        audio, visual = self.split_slices(features.audio), self.split_slices(features.visual)
        audio_pair = torch.cat([audio, self.visual_to_audio(visual)], dim=-1)  # (B, K, Na / K, 2 D)
        visual_pair = torch.cat([visual, self.audio_to_visual(audio)], dim=-1)  # (B, K, Nv / K, 2 D)
        parts = [self.audio_reduction(audio_pair), self.visual_reduction(visual_pair)]
        steps = parts[0].shape[1]
        if self.config.agreement:
            parts.append(pool_to_steps(agreement(self._slice_means(features)), steps))
        if features.detail is not None:
            parts.append(pool_to_steps(features.detail, steps))
        return torch.cat(parts, dim=-1)

    def agreement(self, features: Features) -> Tensor:
        """``(B, K)``, one value per slice; see `Detector.agreement`."""
        return super().agreement(self._slice_means(features))

    def _slice_means(self, features: Features) -> Features:
        """Both streams as one vector per slice ``(B, K, D)``, minus the mean of all windows at that slice."""
        return Features(
            audio=self.audio_centering(pool_to_steps(features.audio, self.config.slices)),
            visual=self.visual_centering(pool_to_steps(features.visual, self.config.slices)),
        )

    def forward_head(self, fused: Tensor) -> Tensor:
        """A fused sequence, as `fuse` returns it -> logits ``(B,)``."""
        return self.classifier(fused.mean(dim=1)).squeeze(-1)

    def pretraining_loss(self, inputs: ModelInputs, generator: torch.Generator) -> dict[str, Tensor]:
        """Half of the slices of each stream are masked after encoding and predicted from the other stream.

        Losses: contrast of the encoded windows or slices; squared error on the masked patches; the critics'
        scores of them. Source: Oorloff et al. 2024 (AVFF), section 3.
        """
        config = self.config
        features = self.encode(inputs)
        slices = config.slices if config.granularity == "slice" else 1
        contrast, logged = contrastive_loss(features, slices, self.temperature)

        visible_visual, visible_audio = complementary_slices(len(features.audio), config.slices, generator)
        # The slices visible in one stream are those masked in the other.
        masked = {"audio": visible_visual, "visual": visible_audio}
        predicted = self.reconstruct(*self.fill_masked(features, visible_visual, visible_audio))
        fake = _gather_masked(predicted, masked)
        target = _gather_masked(self.patchify(inputs), masked)
        # MARLIN does not standardise pixels. Their error falls to 0.03, and the critics would outweigh it.
        real = {name: normalize_patches(patches) for name, patches in target.items()}
        errors = [F.mse_loss(fake[name].float(), real[name]) for name in masked]
        reconstruction = torch.stack(errors).sum()
        adversarial, critic_loss = self._adversarial_losses(fake, real, generator)
        loss = (
            config.contrast_weight * contrast
            + config.reconstruction_weight * reconstruction
            + config.adversarial_weight * adversarial
        )
        return {
            "loss": loss,
            "critic_loss": critic_loss,
            "reconstruction": reconstruction.detach(),
            "adversarial": adversarial.detach(),
            **logged,
        }

    def _adversarial_losses(
        self, fake: dict[str, Tensor], real: dict[str, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The decoders' loss, through frozen critics, and the critics' loss, on detached reconstructions."""
        adversarial, critic_loss = [], []
        for name, critic in self.critic.items():
            frozen = {key: weight.detach() for key, weight in critic.named_parameters()}
            adversarial.append(wasserstein_generator_loss(functional_call(critic, frozen, (fake[name],))))
            detached = fake[name].detach().to(real[name])
            critic_loss.append(wasserstein_critic_loss(critic(real[name]), critic(detached)))
            if self.config.gradient_penalty:
                with torch.autocast(detached.device.type, enabled=False):
                    penalty = gradient_penalty(critic, real[name], detached, generator)
                critic_loss.append(self.config.gradient_penalty * penalty)
        return torch.stack(adversarial).sum(), torch.stack(critic_loss).sum()


def _gather_masked(streams: tuple[Tensor, Tensor], masked: dict[str, Tensor]) -> dict[str, Tensor]:
    """The masked slices of audio and video patches, each ``(B, K / 2, tokens of a slice, values)``."""
    return {
        "audio": gather_slices(streams[0], masked["audio"]),
        "visual": gather_slices(streams[1], masked["visual"]),
    }
