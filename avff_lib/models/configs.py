"""Configs of both models, all that is needed to rebuild them, and the tiny presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

import timm
from transformers import Wav2Vec2Config

from avff_lib.errors import AVFFError
from avff_lib.media.clip import to_samples
from avff_lib.models.calibration import Calibration
from avff_lib.nn.detail import FRAME_STRIDE
from avff_lib.nn.patches import ConvStemTubeletEmbed
from avff_lib.preprocess.spec import FbankSpec, MelSpec
from avff_lib.utils.schema import check_fields

# A config may come from a stranger: before anything is built, its fields are checked against these
# annotations. Their limits lie above every known model and below what would exhaust a machine.
Size = Annotated[int, (1, 8192)]  # channels, units, bands, the side of a patch
Count = Annotated[int, (1, 256)]  # layers, heads, frames, slices
Share = Annotated[float, (0, 1)]
Positive = Annotated[float, (1e-6, 1e6)]
Weight = Annotated[float, (0, 1e6)]  # of a loss
Color = tuple[Share, Share, Share]  # per RGB channel
Pixels = Annotated[int, (8, 2048)]
Seconds = Annotated[float, (0.1, 60)]
Hertz = Annotated[int, (8000, 192_000)]
Note = Annotated[str, (0, 1000)]
# Mean and twice the standard deviation of Kaldi's filterbank over AudioSet, in AudioMAE's released code.
AUDIOMAE_MEAN, AUDIOMAE_STD = -4.2677393, 2 * 4.5689974
MAX_PIXELS = 2**24  # of all frames of a window; a batch of 16 then takes 3 GB
MAX_TOKENS = 4096  # of one stream in one window; the time of attention grows with their square


class AudioSettings(TypedDict, total=False):
    """Fields of transformers' ``Wav2Vec2Config`` that its encoder depends on; by default wav2vec2-base's."""

    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Count
    intermediate_size: Annotated[int, (1, 65536)]
    hidden_act: Literal["gelu", "relu", "selu", "gelu_new"]
    feat_extract_activation: Literal["gelu", "relu", "selu", "gelu_new"]
    feat_extract_norm: Literal["group", "layer"]
    conv_dim: Annotated[list[Size], (1, 16)]
    conv_kernel: Annotated[list[Size], (1, 16)]
    conv_stride: Annotated[list[Size], (1, 16)]
    conv_bias: bool
    num_conv_pos_embeddings: Size
    num_conv_pos_embedding_groups: Size
    do_stable_layer_norm: bool
    layer_norm_eps: Share
    initializer_range: Share
    hidden_dropout: Share
    activation_dropout: Share
    attention_dropout: Share
    feat_proj_dropout: Share
    final_dropout: Share
    layerdrop: Share
    apply_spec_augment: bool
    mask_time_prob: Share
    mask_time_length: Size
    mask_time_min_masks: Annotated[int, (0, 8192)]
    mask_feature_prob: Share
    mask_feature_length: Size
    mask_feature_min_masks: Annotated[int, (0, 8192)]


class VisualSettings(TypedDict, total=False):
    """Arguments of ``timm.create_model``: the name of a timm model, and the sizes of a ViT.

    Arguments that name a file or a hub repository are left out.
    """

    model_name: Annotated[str, (1, 100)]
    img_size: Size
    patch_size: Size
    embed_dim: Size
    depth: Count
    num_heads: Count
    mlp_ratio: Positive
    qkv_bias: bool
    qk_norm: bool
    init_values: Share
    class_token: bool
    no_embed_class: bool
    reg_tokens: Annotated[int, (0, 256)]
    pre_norm: bool
    final_norm: bool
    fc_norm: bool
    global_pool: Literal["token", "avg", "max", "avgmax", "map"]
    pos_embed: Literal["learn", "none"]
    drop_rate: Share
    pos_drop_rate: Share
    proj_drop_rate: Share
    attn_drop_rate: Share
    drop_path_rate: Share


class MelSettings(TypedDict, total=False):
    """Fields of `avff_lib.preprocess.spec.MelSpec`."""

    n_fft: Annotated[int, (16, 65536)]
    hop_length: Annotated[int, (1, 65536)]
    n_mels: Size
    win_length: Annotated[int, (1, 65536)] | None


class FbankSettings(TypedDict, total=False):
    """Fields of `avff_lib.preprocess.spec.FbankSpec`."""

    num_mel_bins: Annotated[int, (4, 8192)]
    frame_length: Annotated[float, (1, 1000)]
    frame_shift: Annotated[float, (1, 1000)]


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
    # A ViT on a convolutional stem of stride 4, with patches of 4 x 4: lips and seams look the same anywhere
    # in the frame, and a small ViT on pixels needs far more clips to learn that.
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
        dropout: rate in fusion, decoder and classifier.
        detail: length of each stream's detail features (`avff_lib.nn.detail.DetailPath`); 0 leaves the path
            out, as the documented system does.
        duration, frame_count, image_size, mean, std, sample_rate: see `avff_lib.preprocess.spec.InputSpec`.
        threshold: probability at and above which a clip is labelled fake, chosen on validation data.
        calibration: see `avff_lib.models.calibration.Calibration`; fitted on validation data.
        trained_on: one sentence about the training data, for the reader of a prediction.
    """

    audio: AudioSettings = field(default_factory=AudioSettings)
    visual: VisualSettings = field(default_factory=lambda: VisualSettings(model_name="vit_base_patch16_224"))
    dim: Size = 512
    heads: Count = 8
    dropout: Share = 0.1
    detail: Annotated[int, (0, 8192)] = 0
    duration: Seconds = 1.0
    frame_count: Count = 16
    image_size: Pixels = 224
    mean: Color = (0.5, 0.5, 0.5)
    std: tuple[Positive, Positive, Positive] = (0.5, 0.5, 0.5)
    sample_rate: Hertz = 16_000
    threshold: Share = 0.5
    calibration: Calibration = field(default_factory=Calibration)
    trained_on: Note = "nothing yet: its weights are random"

    def __post_init__(self) -> None:
        _check_common(self)
        if self.dim % (2 * self.heads):
            raise AVFFError(f"dim is {self.dim}; expected a multiple of 2 x heads = {2 * self.heads}")
        _check_tokens("audio", self._audio_steps())
        side, patch = input_side(self.visual), self.visual.get("patch_size")
        if side not in (None, self.image_size):
            raise AVFFError(f"image_size is {self.image_size}, visual takes {side}; expected the same size")
        if patch and self.image_size % patch:
            raise AVFFError(f"image_size is {self.image_size}; expected a multiple of the patch_size {patch}")
        _check_tokens("video", (self.image_size // (patch or 16)) ** 2)

    def _audio_steps(self) -> int:
        """Number of vectors that Wav2Vec2's convolutions output for a window."""
        dims = self.audio.get("conv_dim", Wav2Vec2Config.conv_dim)
        kernels = self.audio.get("conv_kernel", Wav2Vec2Config.conv_kernel)
        strides = self.audio.get("conv_stride", Wav2Vec2Config.conv_stride)
        if not len(dims) == len(kernels) == len(strides):
            raise AVFFError(
                f"audio has {len(dims)} conv_dim, {len(kernels)} conv_kernel and {len(strides)} conv_stride; "
                "expected one of each for every layer"
            )
        steps = to_samples(self.duration, self.sample_rate)
        for kernel, stride in zip(kernels, strides, strict=True):
            steps = (steps - kernel) // stride + 1
        return steps


# The slice variant, ours, for a laptop and two thousand clips. It is not just a smaller copy of the paper's
# model: every difference beyond the sizes has a comment.
AVFFMAE_TINY: dict[str, Any] = {
    "dim": 144,
    "depth": 4,
    "heads": 3,
    "decoder_dim": 96,
    "decoder_depth": 2,
    "decoder_heads": 3,
    # Global attention, as in the video decoder: a window of 4 x 4 patches would be half of the spectrogram.
    "audio_decoder_dim": 96,
    "audio_decoder_depth": 2,
    "audio_decoder_heads": 3,
    "audio_decoder_window": 0,
    "critic_dim": 128,
    "reduced_dim": 64,
    "reduction": "slice",
    "agreement": True,
    "detail": 32,
    "class_token": False,
    "audio_patch": (8, 16),
    "video_patch": (2, 16, 16),
    "conv_stem": True,
    # 12.5 frames per second: the paper's 5 are too few to follow a syllable.
    "duration": 1.28,
    "image_size": 64,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "mel": {"n_fft": 512, "hop_length": 160, "n_mels": 64, "win_length": None},
    "fbank": None,
    # AudioMAE's statistics in dB: times 10 / ln 10, as the spectrogram here is a decimal logarithm.
    "audio_mean": -18.534,
    "audio_std": 39.686,
    # Whole clips differ mainly in their speakers; slices of one clip differ in what is said.
    "granularity": "slice",
    "temperature": 0.1,
    # The paper's recipe gives the contrast a hundredth of the weight, and hundreds of epochs.
    "contrast_weight": 1.0,
}


@dataclass(frozen=True)
class AVFFMAEConfig:
    """All that is needed to rebuild an `AVFFMAE`; the defaults are the paper's, as far as they are known.

    Chapter 11 of the book lists them beside the paper's values, and how certain each of these is.

    Attributes:
        dim, depth, heads: of both encoders; ViT-B by default.
        decoder_dim, decoder_depth, decoder_heads: of the video decoder; MARLIN's by default.
        audio_decoder_dim, audio_decoder_depth, audio_decoder_heads: of the audio decoder; AudioMAE's by
            default.
        audio_decoder_window: patches over time and frequency in a window of the audio decoder's attention.
            As in AudioMAE, every second block shifts the windows by half their length in time; 0 for
            attention to all patches.
        critic_dim: units inside a critic; MARLIN has as many as a tubelet of 2 x 16 x 16 has values.
        reduced_dim: units of the reductions and the classifier.
        reduction: how the features of a stream become one vector: ``"patch"``, by learned weights over all
            its patches, as in the paper; ``"slice"``, in each slice of time, by a layer applied to every
            patch and the mean over them.
        agreement: whether the classifier also gets the streams' agreement
            (`avff_lib.nn.cross_modal.agreement`), which stage one trains; the paper's gets features only.
        detail: length of each stream's detail features (`avff_lib.nn.detail.DetailPath`); 0 leaves the path
            out, as the paper does.
        class_token: whether the audio encoder has one, as AudioMAE does.
        slices: number of slices of time, which are masked and predicted; K in the paper.
        audio_patch: columns and mel bands in a patch.
        video_patch: frames, rows and columns in a tubelet.
        conv_stem: whether tubelets come from a small convolutional stem instead of from pixels; the paper's
            do not.
        duration: of a window in seconds. 16 frames at 5 per second last 3.2 s, the 768 columns of the
            spectrogram 3.093 s: here the window is as long as the columns, and frames are 0.193 s apart.
        frame_count, image_size, mean, std, sample_rate: see `avff_lib.preprocess.spec.InputSpec`. MARLIN
            takes pixels in [0, 1], so its mean is 0 and its deviation 1.
        mel: fields of `avff_lib.preprocess.spec.MelSpec`, for a spectrogram in dB; or None.
        fbank: fields of `avff_lib.preprocess.spec.FbankSpec`, for Kaldi's filterbank; or None. By default
            AudioMAE's own windows of 25 ms, every 4 ms, which gives 768 of them. (Re-implementations of
            the paper have windows of 16 ms; with these, 13 of the 128 filters would contain no frequency.)
        audio_mean, audio_std: the spectrogram minus the first is divided by the second; by default
            AudioMAE's, the mean and twice the standard deviation over AudioSet.
        temperature: of the contrastive loss; the initial value if it is learned.
        learn_temperature: whether the temperature is a parameter.
        granularity: what the contrastive loss compares: ``"clip"``, the mean of all features of a window with
            those of other windows; ``"slice"``, slices within and across windows, minus what they share.
        contrast_weight, reconstruction_weight, adversarial_weight: of the parts of stage one's loss.
        gradient_penalty: its weight in the critics' loss; WGAN-GP's by default, 0 in MARLIN's recipe.
        dropout: rate before the classifier.
        threshold: probability at and above which a clip is labelled fake, chosen on validation data.
        calibration: see `avff_lib.models.calibration.Calibration`; fitted on validation data.
        trained_on: one sentence about the training data, for the reader of a prediction.
    """

    dim: Size = 768
    depth: Count = 12
    heads: Count = 12
    decoder_dim: Size = 384
    decoder_depth: Count = 4
    decoder_heads: Count = 6
    audio_decoder_dim: Size = 512
    audio_decoder_depth: Count = 16
    audio_decoder_heads: Count = 16
    audio_decoder_window: Annotated[int, (0, 256)] = 4
    critic_dim: Size = 1536
    reduced_dim: Size = 256
    reduction: Literal["patch", "slice"] = "patch"
    agreement: bool = False
    detail: Annotated[int, (0, 8192)] = 0
    class_token: bool = True
    slices: Count = 8
    audio_patch: tuple[Size, Size] = (16, 16)
    video_patch: tuple[Size, Size, Size] = (2, 16, 16)
    conv_stem: bool = False
    duration: Seconds = 3.093
    frame_count: Count = 16
    image_size: Pixels = 224
    mean: Color = (0.0, 0.0, 0.0)
    std: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)
    sample_rate: Hertz = 16_000
    mel: MelSettings | None = None
    fbank: FbankSettings | None = field(
        default_factory=lambda: FbankSettings(num_mel_bins=128, frame_length=25.0, frame_shift=4.0)
    )
    audio_mean: Annotated[float, (-1e6, 1e6)] = AUDIOMAE_MEAN
    audio_std: Positive = AUDIOMAE_STD
    temperature: Annotated[float, (0, 1e6)] = 0.05
    learn_temperature: bool = False
    granularity: Literal["slice", "clip"] = "clip"
    contrast_weight: Weight = 0.01
    reconstruction_weight: Weight = 1.0
    # MARLIN's weight. At ten times this value, which is sometimes reported, the critics outweigh the
    # reconstruction within 100 steps.
    adversarial_weight: Weight = 0.01
    gradient_penalty: Weight = 10.0
    dropout: Share = 0.1
    threshold: Share = 0.5
    calibration: Calibration = field(default_factory=Calibration)
    trained_on: Note = "nothing yet: its weights are random"

    def __post_init__(self) -> None:
        _check_common(self)
        if self.slices % 2:
            raise AVFFError(f"slices is {self.slices}; expected an even number, as half of them are masked")
        if self.conv_stem and any(side % ConvStemTubeletEmbed.STRIDE for side in self.video_patch[1:]):
            raise AVFFError(
                f"video_patch is {self.video_patch}; with a conv_stem its rows and columns must be multiples "
                f"of {ConvStemTubeletEmbed.STRIDE}"
            )
        if self.temperature <= 0:
            raise AVFFError(f"temperature is {self.temperature}; expected a number above 0")
        for name, size, part in (
            ("bands", self._spectrogram_size()[1], self.audio_patch[1]),
            ("frame_count", self.frame_count, self.video_patch[0]),
            ("image_size", self.image_size, self.video_patch[1]),
            ("image_size", self.image_size, self.video_patch[2]),
        ):
            if size % part:
                raise AVFFError(f"{name} is {size}; expected a multiple of {part}, the side of a patch")
        for stream, grid in (("audio", self.audio_grid), ("video", self.video_grid)):
            _check_tokens(stream, math.prod(grid))
            if grid[0] % self.slices:
                raise AVFFError(
                    f"the {stream} has {grid[0]} patches over time, which cannot be shared among "
                    f"{self.slices} slices; choose another duration, patch or number of slices"
                )
        # Each axis of a position takes an even number of channels.
        for name, dim, heads, axes in (
            ("dim", self.dim, self.heads, 12),
            ("decoder_dim", self.decoder_dim, self.decoder_heads, 6),
            ("audio_decoder_dim", self.audio_decoder_dim, self.audio_decoder_heads, 4),
        ):
            if dim % axes or dim % heads:
                raise AVFFError(f"{name} is {dim}; expected a multiple of {axes} and of its {heads} heads")
        window = self.audio_decoder_window
        if window and any(length % window for length in self.audio_grid):
            raise AVFFError(
                f"audio_decoder_window is {window}; expected a part of the {self.audio_grid[0]} x "
                f"{self.audio_grid[1]} patches over time and frequency, or 0"
            )

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Number of patches over time and over frequency."""
        columns, bands = self._spectrogram_size()
        return columns // self.audio_patch[0], bands // self.audio_patch[1]

    def _spectrogram_size(self) -> tuple[int, int]:
        """Columns that are whole hops, and bands."""
        samples = to_samples(self.duration, self.sample_rate)
        if (self.mel is None) == (self.fbank is None):
            raise AVFFError("mel and fbank are both given, or neither; expected the settings of one of them")
        if self.mel is not None:
            mel = MelSpec(**self.mel)
            if mel.n_fft >= 2 * samples or (mel.win_length or 0) > mel.n_fft:
                raise AVFFError(
                    f"mel.n_fft is {mel.n_fft}; expected win_length or more, and less than twice the "
                    f"{samples} samples of a window"
                )
            return samples // mel.hop_length, mel.n_mels
        assert self.fbank is not None
        fbank = FbankSpec(**self.fbank)
        length, shift = (int(self.sample_rate * ms * 0.001) for ms in (fbank.frame_length, fbank.frame_shift))
        if length > samples:
            raise AVFFError(
                f"fbank.frame_length is {fbank.frame_length:g} ms; expected less than the window's "
                f"{1000 * self.duration:g} ms"
            )
        return 1 + (samples - length) // shift, fbank.num_mel_bins

    @property
    def video_grid(self) -> tuple[int, int, int]:
        """Number of tubelets over time, rows and columns."""
        frames, rows, columns = self.video_patch
        return self.frame_count // frames, self.image_size // rows, self.image_size // columns


@dataclass(frozen=True)
class SyncNetConfig:
    """All that is needed to rebuild a `SyncNet`.

    Attributes:
        dim: length of a feature.
        width: channels of the encoders' last layers.
        max_lag: frames that the search covers to either side.
        tolerance: frames to either side within which lips and voice count as in sync: genuine recordings
            carry constant offsets of one to three frames.
        temperature: of the contrastive loss, and of the logit.
        duration, frame_count, image_size, sample_rate: see `avff_lib.preprocess.spec.InputSpec`.
        mel: fields of `avff_lib.preprocess.spec.MelSpec`.
        threshold: probability at and above which a clip is labelled out of sync; chosen on validation data.
        calibration: see `avff_lib.models.calibration.Calibration`; fitted on validation data.
        trained_on: one sentence about the training data, for the reader of a prediction.
    """

    dim: Size = 64
    width: Size = 96
    max_lag: Count = 15
    tolerance: Count = 3
    temperature: Positive = 0.07
    duration: Seconds = 2.0
    frame_count: Count = 50
    image_size: Pixels = 48
    sample_rate: Hertz = 16_000
    mel: MelSettings = field(
        default_factory=lambda: MelSettings(n_fft=512, hop_length=160, n_mels=64, win_length=400)
    )
    threshold: Share = 0.5
    calibration: Calibration = field(default_factory=Calibration)
    trained_on: Note = "nothing yet: its weights are random"

    def __post_init__(self) -> None:
        _check_common(self)
        if not self.tolerance < self.max_lag < self.frame_count // 2:
            raise AVFFError(
                f"max_lag is {self.max_lag}; expected more than the tolerance of {self.tolerance} and less "
                f"than half of the {self.frame_count} frames of a window"
            )
        if self.width % 96:
            raise AVFFError(f"width is {self.width}; expected a multiple of 96")


def input_side(visual: VisualSettings) -> int | None:
    """Height and width in pixels of the frames that a timm model takes; None if it takes any size.

    Raises:
        AVFFError: a setting is not one of `VisualSettings`, or timm has no such model.
    """
    check_fields(visual, VisualSettings, "visual.")
    name = visual.get("model_name", "")
    try:
        card = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    except RuntimeError:  # the model is known, its variant is not
        card = None
    if card is None:
        raise AVFFError(f"visual.model_name is {name!r}; expected a name that timm.list_models returns")
    if "img_size" in visual:
        return visual["img_size"]
    return card.input_size[-1] if card.fixed_input_size else None


def _check_common(config: AVFFConfig | AVFFMAEConfig | SyncNetConfig) -> None:
    check_fields(vars(config), type(config))
    if not 0 < config.threshold < 1:
        raise AVFFError(f"threshold is {config.threshold}; expected a probability between 0 and 1")
    if config.frame_count * config.image_size**2 > MAX_PIXELS:
        raise AVFFError(
            f"{config.frame_count} frames of {config.image_size} x {config.image_size} are more than "
            f"{MAX_PIXELS} pixels; choose fewer or smaller ones"
        )
    if not isinstance(config, SyncNetConfig) and config.detail and config.frame_count <= FRAME_STRIDE // 2:
        raise AVFFError(f"frame_count is {config.frame_count}; the detail path needs {FRAME_STRIDE} or more")


def _check_tokens(stream: str, count: int) -> None:
    if not 1 <= count <= MAX_TOKENS:
        raise AVFFError(
            f"the {stream} of a window makes {count} tokens; expected 1 to {MAX_TOKENS}: choose another "
            "duration, patch or stride"
        )
