"""The paper's model: a masked autoencoder of both streams with complementary masks.

Source: Oorloff et al., AVFF: Audio-Visual Feature Fusion for Video Deepfake Detection, CVPR 2024
(arXiv 2406.02951). The order of operations is that of its figure 1: encode all tokens, hide half of the
*features* of each stream, guess them from the other stream, decode. Sizes are those that are commonly
reported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from avff_lib.clip import AVFFError, Features, InputSpec, MelSpec, ModelInputs
from avff_lib.models import published
from avff_lib.models.base import Detector
from avff_lib.nn.blocks import init_weights
from avff_lib.nn.cross_modal import agreement
from avff_lib.nn.decoder import Critic, PatchDecoder
from avff_lib.nn.masking import put_slices, take_slices
from avff_lib.nn.patches import (
    AudioPatches,
    StemmedTubelets,
    TokenEncoder,
    VideoTubelets,
    cut_audio,
    cut_video,
)
from avff_lib.nn.sequences import Centre, to_steps
from avff_lib.nn.translation import SliceTranslator
from avff_lib.verdict import Calibration

TINY = {
    "dim": 144,
    "depth": 4,
    "heads": 3,
    "decoder_dim": 96,
    "decoder_depth": 2,
    "decoder_heads": 3,
    "critic_dim": 128,
    "reduced_dim": 64,
    "agreement": True,
    "detail": 32,
    "class_token": False,
    "audio_patch": (8, 16),
    "video_patch": (2, 16, 16),
    "conv_stem": True,
    # 12.5 frames a second: the paper's 5 are too few to follow a syllable.
    "duration": 1.28,
    "image_size": 64,
    "mel": {"n_fft": 512, "hop_length": 160, "n_mels": 64, "win_length": None},
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    # The paper's recipe gives the contrast a hundredth of the weight, and hundreds of epochs.
    "contrast_weight": 1.0,
    # MARLIN's weight. With ten times as much, the critic drowned the reconstruction within 100 steps.
    "adversarial_weight": 0.01,
    "gradient_penalty": 10.0,
}


@dataclass(frozen=True)
class AVFFMAEConfig:
    """Everything that is needed to rebuild an `AVFFMAE`; the defaults are the paper's size.

    Attributes:
        dim, depth, heads: of both encoders; ViT-B by default.
        decoder_dim, decoder_depth, decoder_heads: of both decoders; MARLIN's by default.
        critic_dim: units inside a critic; MARLIN has as many as a tubelet of 2 x 16 x 16 has values.
        reduced_dim: length of a fused vector of each stream.
        agreement: whether the classifier is told how far both streams change alike, which the contrast of
            stage one has taught them; the paper's has to find out from their features.
        detail: length of what the path for fine detail says of each stream; 0 leaves it out, as the paper
            does.
        class_token: whether the audio encoder has one, as AudioMAE does.
        slices: parts of time that are hidden and translated, K in the paper.
        audio_patch: columns and mel bands in a patch.
        video_patch: frames, rows and columns in a tubelet.
        conv_stem: whether tubelets are cut from a small convolutional network instead of from pixels; the
            paper's are not.
        duration: of a window in seconds. 16 frames at 5 a second last 3.2 s, 768 columns of 4 ms last
            3.072 s: here the window lasts as long as the spectrogram, and frames are 0.192 s apart.
        frame_count, image_size, mean, std, sample_rate: see `avff_lib.clip.InputSpec`.
        mel: fields of `avff_lib.clip.MelSpec`; a window of 16 ms every 4 ms, in a transform of 64 ms so
            that no mel filter falls between two frequencies.
        audio_mean, audio_std: in dB, taken off the spectrogram and divided by. AudioMAE's statistics
            are (-4.2677, 2 x 4.5690) for the natural logarithm; times 10 / ln 10 they are these.
        temperature: of the contrast, where it starts if it is learned.
        learn_temperature: whether it is.
        granularity: what the contrast tells apart: slices, within and across clips, or whole clips.
        contrast_weight, reconstruction_weight, adversarial_weight: of the loss of stage one.
        gradient_penalty: weight of it in the critic's loss; 0 in MARLIN's released recipe.
        dropout: before the classifier.
        threshold: probability from which a clip is called fake, chosen on validation data.
        calibration: see `avff_lib.verdict.Calibration`; likewise.
        trained_on: one sentence for the reader of a verdict.
    """

    dim: int = 768
    depth: int = 12
    heads: int = 12
    decoder_dim: int = 384
    decoder_depth: int = 4
    decoder_heads: int = 6
    critic_dim: int = 1536
    reduced_dim: int = 256
    agreement: bool = False
    detail: int = 0
    class_token: bool = True
    slices: int = 8
    audio_patch: tuple[int, int] = (16, 16)
    video_patch: tuple[int, int, int] = (2, 16, 16)
    conv_stem: bool = False
    duration: float = 3.072
    frame_count: int = 16
    image_size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    sample_rate: int = 16_000
    mel: dict[str, int | None] = field(
        default_factory=lambda: {"n_fft": 1024, "hop_length": 64, "n_mels": 128, "win_length": 256}
    )
    audio_mean: float = -18.534
    audio_std: float = 39.686
    temperature: float = 0.1
    learn_temperature: bool = False
    granularity: Literal["slice", "clip"] = "slice"
    contrast_weight: float = 0.01
    reconstruction_weight: float = 1.0
    adversarial_weight: float = 0.1
    gradient_penalty: float = 0.0
    dropout: float = 0.1
    threshold: float = 0.5
    calibration: Calibration = field(default_factory=Calibration)
    trained_on: str = "nothing yet: its weights are random"

    def __post_init__(self) -> None:
        if self.slices < 2 or self.slices % 2:
            raise AVFFError(f"slices is {self.slices}; expected an even number, as half of them are hidden")
        if self.granularity not in ("slice", "clip"):
            raise AVFFError(f"granularity is {self.granularity!r}; expected 'slice' or 'clip'")
        if self.conv_stem and any(side % StemmedTubelets.STRIDE for side in self.video_patch[1:]):
            raise AVFFError(
                f"video_patch is {self.video_patch}; with a conv_stem its rows and columns must be multiples "
                f"of {StemmedTubelets.STRIDE}"
            )
        if self.temperature <= 0:
            raise AVFFError(f"temperature is {self.temperature}; expected a number above 0")
        for name, size, part in (
            ("n_mels", self.mel["n_mels"], self.audio_patch[1]),
            ("frame_count", self.frame_count, self.video_patch[0]),
            ("image_size", self.image_size, self.video_patch[1]),
            ("image_size", self.image_size, self.video_patch[2]),
        ):
            if size % part:
                raise AVFFError(f"{name} is {size}; expected a multiple of {part}, the side of a patch")
        for stream, grid in (("audio", self.audio_grid), ("video", self.video_grid)):
            if grid[0] % self.slices:
                raise AVFFError(
                    f"the {stream} has {grid[0]} patches over time, which cannot be shared among "
                    f"{self.slices} slices; choose another duration, patch or number of slices"
                )
        for name, dim, heads in (
            ("dim", self.dim, self.heads),
            ("decoder_dim", self.decoder_dim, self.decoder_heads),
        ):
            if dim % 12 or dim % heads:
                raise AVFFError(f"{name} is {dim}; expected a multiple of 12 and of its {heads} heads")
        if not 0 < self.threshold < 1:
            raise AVFFError(f"threshold is {self.threshold}; expected a probability between 0 and 1")

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Patches over time and over frequency."""
        columns = round(self.duration * self.sample_rate) // self.mel["hop_length"]
        return columns // self.audio_patch[0], self.mel["n_mels"] // self.audio_patch[1]

    @property
    def video_grid(self) -> tuple[int, int, int]:
        """Tubelets over time, rows and columns."""
        frames, rows, columns = self.video_patch
        return self.frame_count // frames, self.image_size // rows, self.image_size // columns


class AVFFMAE(Detector):
    """Two encoders, two translators (A2V, V2A), two decoders, two critics, two reductions, and a head.

    Stage one trains all but the reductions and the head, stage two these with the encoders and
    translators; a checkpoint always holds everything, so nothing can be lost on the way between them.
    """

    config_class = AVFFMAEConfig
    tiny_config = TINY

    def __init__(self, config: AVFFMAEConfig) -> None:
        super().__init__(config)
        c = config
        audio_values = c.audio_patch[0] * c.audio_patch[1]
        video_values = 3 * c.video_patch[0] * c.video_patch[1] * c.video_patch[2]
        audio_tokens, visual_tokens = self.slice_tokens
        self.audio_encoder = TokenEncoder(
            *(AudioPatches(c.dim, c.audio_patch), c.audio_grid, c.dim, c.depth, c.heads),
            class_token=c.class_token,
        )
        tubelets = StemmedTubelets if c.conv_stem else VideoTubelets
        self.visual_encoder = TokenEncoder(
            *(tubelets(c.dim, c.video_patch), c.video_grid, c.dim, c.depth, c.heads),
            class_token=False,
        )
        self.audio_to_visual = SliceTranslator(audio_tokens, visual_tokens, c.dim, c.heads)
        self.visual_to_audio = SliceTranslator(visual_tokens, audio_tokens, c.dim, c.heads)
        sizes = (c.dim, c.decoder_dim, c.decoder_depth, c.decoder_heads)
        self.audio_decoder = PatchDecoder(c.audio_grid, *sizes, audio_values)
        self.visual_decoder = PatchDecoder(c.video_grid, *sizes, video_values)
        self.critic = nn.ModuleDict(
            {"audio": Critic(audio_values, c.critic_dim), "visual": Critic(video_values, c.critic_dim)}
        )
        log_temperature = torch.tensor(c.temperature).log()
        if c.learn_temperature:
            self.log_temperature = nn.Parameter(log_temperature)
        else:
            self.register_buffer("log_temperature", log_temperature)
        self.audio_centre, self.visual_centre = Centre(c.slices, c.dim), Centre(c.slices, c.dim)
        self.audio_reduction = _reduction(2 * c.dim, c.reduced_dim)
        self.visual_reduction = _reduction(2 * c.dim, c.reduced_dim)
        self.classifier = nn.Sequential(
            nn.Dropout(c.dropout),
            nn.Linear(2 * c.reduced_dim + c.dim * c.agreement + 2 * c.detail, c.reduced_dim),
            nn.GELU(),
            nn.Linear(c.reduced_dim, 1),
        )
        self.apply(init_weights)

    @classmethod
    def base(
        cls,
        audio: str = "gaunernst/vit_base_patch16_1024_128.audiomae_as2m",
        visual: str = "MCG-NJU/videomae-base",
    ) -> AVFFMAE:
        """The paper's size with published encoders; the other parts are random until trained.

        Args:
            audio: hub id, folder or file of AudioMAE weights.
            visual: hub id, folder or file of VideoMAE or MARLIN weights.

        Raises:
            AVFFError: an encoder is neither here nor to be had, or does not fit.
        """
        audio_weights = published.read_audio(audio)
        visual_weights, statistics = published.read_visual(visual)
        model = cls(AVFFMAEConfig(mean=statistics.mean, std=statistics.std))
        published.load_encoder(model.audio_encoder, audio_weights, audio)
        published.load_encoder(model.visual_encoder, visual_weights, visual)
        return model

    @property
    def spec(self) -> InputSpec:
        c = self.config
        return InputSpec(
            **{"duration": c.duration, "frame_count": c.frame_count, "image_size": c.image_size},
            **{"mean": c.mean, "std": c.std, "sample_rate": c.sample_rate},
            audio="mel",
            mel=MelSpec(**c.mel),
        )

    @property
    def slice_tokens(self) -> tuple[int, int]:
        """Tokens of the sound and of the picture in one slice."""
        audio, video, slices = self.config.audio_grid, self.config.video_grid, self.config.slices
        return audio[0] // slices * audio[1], video[0] // slices * video[1] * video[2]

    @property
    def temperature(self) -> Tensor:
        """Of the contrast, a scalar above 0; kept as a logarithm so that no step can make it negative."""
        return self.log_temperature.exp()

    def spectrogram(self, inputs: ModelInputs) -> Tensor:
        """The sound as the encoder sees it, ``(B, n_mels, N)``: normalised, cut to whole patches.

        A spectrogram with centred windows has one column more than the window has hops.
        """
        columns = self.config.audio_grid[0] * self.config.audio_patch[0]
        return (inputs.audio[..., :columns] - self.config.audio_mean) / self.config.audio_std

    def encode(self, inputs: ModelInputs) -> Features:
        """One vector a patch of the sound ``(B, Na, D)`` and a tubelet of the picture ``(B, Nv, D)``."""
        return Features(
            audio=self.audio_encoder(self.spectrogram(inputs)), visual=self.visual_encoder(inputs.frames)
        )

    def in_slices(self, tokens: Tensor) -> Tensor:
        """``(B, N, ...)``, time-major -> ``(B, K, N / K, ...)``."""
        return rearrange(tokens, "b (k n) ... -> b k n ...", k=self.config.slices)

    def complete(
        self, features: Features, visible_visual: Tensor, visible_audio: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Hide the slices that are not visible and put there what the other stream says of them.

        Args:
            features: of all tokens.
            visible_visual, visible_audio: ``(B, K / 2)``, as `complementary_slices` draws them.

        Returns:
            Sound ``(B, K, Na / K, D)`` and picture ``(B, K, Nv / K, D)``: half seen, half guessed.
        """
        audio, visual = self.in_slices(features.audio), self.in_slices(features.visual)
        heard = self.audio_to_visual(take_slices(audio, visible_audio))  # (B, K / 2, Nv / K, D)
        shown = self.visual_to_audio(take_slices(visual, visible_visual))  # (B, K / 2, Na / K, D)
        return put_slices(audio, visible_visual, shown), put_slices(visual, visible_audio, heard)

    def reconstruct(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Completed features, as `complete` returns them -> the values of all patches, in slices.

        Returns:
            Sound ``(B, K, Na / K, values)`` and picture ``(B, K, Nv / K, values)``, per patch normalised.
        """
        return (
            self.in_slices(self.audio_decoder(audio.flatten(1, 2))),
            self.in_slices(self.visual_decoder(visual.flatten(1, 2))),
        )

    def patches(self, inputs: ModelInputs) -> tuple[Tensor, Tensor]:
        """What is to be reconstructed: the values of all patches of both streams, in slices."""
        return (
            self.in_slices(cut_audio(self.spectrogram(inputs), self.config.audio_patch)),
            self.in_slices(cut_video(inputs.frames, self.config.video_patch)),
        )

    def fuse(self, features: Features) -> Tensor:
        """``(B, K, 2 R)``: each stream beside what the other one says of it, reduced, one vector a slice.

        Behind stand, where the config has them, how far both change alike (D more values), and what the
        path for fine detail says of both (2 C more).
        """
        audio, visual = self.in_slices(features.audio), self.in_slices(features.visual)
        audio_pair = torch.cat([audio, self.visual_to_audio(visual)], dim=-1)  # (B, K, Na / K, 2 D)
        visual_pair = torch.cat([visual, self.audio_to_visual(audio)], dim=-1)  # (B, K, Nv / K, 2 D)
        parts = [self.audio_reduction(audio_pair).mean(dim=2), self.visual_reduction(visual_pair).mean(dim=2)]
        if self.config.agreement:
            parts.append(agreement(self._slice_means(features)))
        if features.detail is not None:
            parts.append(to_steps(features.detail, self.config.slices))
        return torch.cat(parts, dim=-1)

    def agreement(self, features: Features) -> Tensor:
        """``(B, K)``, one value a slice; see `Detector.agreement`."""
        return super().agreement(self._slice_means(features))

    def _slice_means(self, features: Features) -> Features:
        """Both streams as one vector a slice ``(B, K, D)``, less what all windows have in common there."""
        return Features(
            audio=self.audio_centre(to_steps(features.audio, self.config.slices)),
            visual=self.visual_centre(to_steps(features.visual, self.config.slices)),
        )

    def head(self, fused: Tensor) -> Tensor:
        """``(B, K, 2 R)`` or longer, as `fuse` returns it -> logits ``(B,)``."""
        return self.classifier(fused.mean(dim=1)).squeeze(-1)


def _reduction(dim: int, reduced: int) -> nn.Module:
    # Its last step is no norm: the mean over normalised channels would be 0 for every clip.
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, reduced), nn.GELU())
