"""Configs of both models, all that is needed to rebuild them, and the tiny presets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from avff_lib.errors import AVFFError
from avff_lib.models.calibration import Calibration
from avff_lib.nn.patches import ConvStemTubeletEmbed
from avff_lib.preprocess.spec import MelSpec

# transformers applies SpecAugment and LayerDrop in training mode by default. Both are off here: random masks
# would mask parts of the audio that the losses compare.
NO_SPEC_AUGMENT: dict[str, Any] = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "layerdrop": 0.0}
TINY_AUDIO: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "conv_dim": [96] * 7,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 15,
    "num_conv_pos_embedding_groups": 8,
    **NO_SPEC_AUGMENT,
}
TINY_VISUAL: dict[str, Any] = {
    # A ViT on a convolutional stem of stride 4, with patches of 4 x 4: lips and seams look alike wherever
    # they are, and a small ViT on pixels needs far more clips to learn that.
    "model_name": "vit_tiny_r_s16_p8_224",
    "img_size": 64,
    "patch_size": 4,
    "embed_dim": 128,
    "depth": 2,
    "num_heads": 4,
}
AVFF_TINY: dict[str, Any] = {
    "dim": 128,
    "image_size": 64,
    "detail": 32,
    "audio": TINY_AUDIO,
    "visual": TINY_VISUAL,
}


@dataclass(frozen=True)
class AVFFConfig:
    """All that is needed to rebuild an `AVFF` without the hub.

    Attributes:
        audio: fields of transformers' ``Wav2Vec2Config``.
        visual: arguments of ``timm.create_model``, ``model_name`` among them.
        dim: length of a feature; the documented system projects 768 to 512.
        heads: of the cross-attention; must divide ``dim``.
        dropout: in fusion, decoder and classifier.
        detail: length of each stream's detail features (`avff_lib.nn.detail.DetailPath`); 0 leaves the path
            out, as the documented system does.
        duration, frame_count, image_size, mean, std, sample_rate: see `avff_lib.preprocess.spec.InputSpec`.
        threshold: probability from which on a clip is labelled fake, chosen on validation data.
        calibration: see `avff_lib.models.calibration.Calibration`; fitted on validation data.
        trained_on: one sentence about the training data, for the reader of a prediction.
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


AVFFMAE_TINY: dict[str, Any] = {
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
    """All that is needed to rebuild an `AVFFMAE`; the defaults are the paper's size.

    Attributes:
        dim, depth, heads: of both encoders; ViT-B by default.
        decoder_dim, decoder_depth, decoder_heads: of both decoders; MARLIN's by default.
        critic_dim: units inside a critic; MARLIN has as many as a tubelet of 2 x 16 x 16 has values.
        reduced_dim: length of a fused vector of each stream.
        agreement: whether the classifier also gets the streams' agreement
            (`avff_lib.nn.cross_modal.agreement`), which stage one trains; the paper's gets features only.
        detail: length of each stream's detail features (`avff_lib.nn.detail.DetailPath`); 0 leaves the path
            out, as the paper does.
        class_token: whether the audio encoder has one, as AudioMAE does.
        slices: parts of time that are masked and predicted, K in the paper.
        audio_patch: columns and mel bands in a patch.
        video_patch: frames, rows and columns in a tubelet.
        conv_stem: whether tubelets come from a small convolutional stem instead of from pixels; the paper's
            do not.
        duration: of a window in seconds. 16 frames at 5 a second last 3.2 s, 768 columns of 4 ms last
            3.072 s: here the window lasts as long as the spectrogram, and frames are 0.192 s apart.
        frame_count, image_size, mean, std, sample_rate: see `avff_lib.preprocess.spec.InputSpec`.
        mel: fields of `avff_lib.preprocess.spec.MelSpec`; windows of 16 ms every 4 ms, in a transform of 64
            ms so that no mel filter falls between two frequencies.
        audio_mean, audio_std: in dB, subtracted from the spectrogram and divided by. AudioMAE's statistics
            are (-4.2677, 2 x 4.5690) for the natural logarithm; times 10 / ln 10 they are these.
        temperature: of the contrastive loss; the initial value if it is learned.
        learn_temperature: whether the temperature is a parameter.
        granularity: whether the contrastive loss compares slices, within and across clips, or whole clips.
        contrast_weight, reconstruction_weight, adversarial_weight: of the loss of stage one.
        gradient_penalty: its weight in the critic's loss; 0 in MARLIN's released recipe.
        dropout: before the classifier.
        threshold: probability from which on a clip is labelled fake, chosen on validation data.
        calibration: see `avff_lib.models.calibration.Calibration`; fitted on validation data.
        trained_on: one sentence about the training data, for the reader of a prediction.
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
    mel: dict[str, Any] = field(
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
            raise AVFFError(f"slices is {self.slices}; expected an even number, as half of them are masked")
        if self.granularity not in ("slice", "clip"):
            raise AVFFError(f"granularity is {self.granularity!r}; expected 'slice' or 'clip'")
        if self.conv_stem and any(side % ConvStemTubeletEmbed.STRIDE for side in self.video_patch[1:]):
            raise AVFFError(
                f"video_patch is {self.video_patch}; with a conv_stem its rows and columns must be multiples "
                f"of {ConvStemTubeletEmbed.STRIDE}"
            )
        if self.temperature <= 0:
            raise AVFFError(f"temperature is {self.temperature}; expected a number above 0")
        for name, size, part in (
            ("n_mels", self.mel_spec.n_mels, self.audio_patch[1]),
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
    def mel_spec(self) -> MelSpec:
        """``mel`` as a `MelSpec`."""
        return MelSpec(**self.mel)

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Number of patches over time and over frequency."""
        mel = self.mel_spec
        columns = round(self.duration * self.sample_rate) // mel.hop_length
        return columns // self.audio_patch[0], mel.n_mels // self.audio_patch[1]

    @property
    def video_grid(self) -> tuple[int, int, int]:
        """Number of tubelets over time, rows and columns."""
        frames, rows, columns = self.video_patch
        return self.frame_count // frames, self.image_size // rows, self.image_size // columns
