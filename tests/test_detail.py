"""What both families of models share: the path for fine detail, the convolutional stem, a contrast that
position codes alone cannot win."""

import math
from dataclasses import replace

import pytest
import torch

from avff_lib.errors import AVFFError
from avff_lib.models import AVFF, AVFFMAE, AVFFConfig, AVFFMAEConfig, Detector
from avff_lib.models.base import count_parameters
from avff_lib.models.configs import AVFF_TINY, AVFFMAE_TINY
from avff_lib.nn.detail import FRAME_STRIDE, DetailPath, high_pass
from avff_lib.nn.features import Features
from avff_lib.nn.losses import info_nce
from avff_lib.nn.patches import ConvStemTubeletEmbed, TubeletEmbed
from avff_lib.nn.positions import grid_positions
from avff_lib.nn.sequences import pool_to_steps, subtract_temporal_mean
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.training.objectives import classification_loss, pretraining_loss

FAMILIES = {"AVFF": AVFF, "AVFFMAE": AVFFMAE}
BATCH, CHANNELS, SEEN_FRAMES = 8, 32, 16 // FRAME_STRIDE
LABELS = torch.tensor([0, 1] * 4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=FAMILIES)
def model(request) -> Detector:
    return FAMILIES[request.param].tiny(seed=0)


@pytest.fixture
def inputs(model) -> ModelInputs:
    """Eight windows, as `prepare` would make them for this model."""
    spec, generator = model.spec, seeded(1)
    samples = round(spec.duration * spec.sample_rate)
    audio = (BATCH, samples)
    if spec.audio == "mel":
        audio = (BATCH, spec.mel.n_mels, 1 + samples // spec.mel.hop_length)
    size = spec.image_size
    return ModelInputs(
        frames=torch.randn(BATCH, spec.frame_count, 3, size, size, generator=generator),
        audio=torch.randn(audio, generator=generator) * (20 if spec.audio == "mel" else 1),
    )


# --- the high-pass filter ---


def test_what_is_smooth_is_filtered_out():
    constant = torch.rand(2, 3, 1, 1, generator=seeded()).expand(-1, -1, 20, 24)
    torch.testing.assert_close(high_pass(constant), torch.zeros(2, 3, 20, 24), atol=1e-5, rtol=0)
    slope = torch.linspace(-1, 1, 64)  # from black to white over the whole picture
    gradient = (0.5 * slope[:, None] + 0.5 * slope).expand(1, 3, 64, 64)
    left = high_pass(gradient)
    assert left[..., 2:-2, 2:-2].abs().max() < 1e-5
    assert left.abs().max() < 0.1  # where the picture ends


def test_the_high_pass_keeps_an_edge_and_drops_the_light():
    picture = torch.zeros(1, 3, 16, 16)
    picture[..., 8:] = 1.0
    left = high_pass(picture)
    assert left.shape == picture.shape
    torch.testing.assert_close(left, high_pass(picture + 0.7), atol=1e-5, rtol=0)
    # Just right of the edge two of five columns are still dark: 4 x (1 - 3 / 5).
    torch.testing.assert_close(left[0, 0, 4, 8], torch.tensor(1.6))
    assert left[..., :5].abs().max() < 1e-5
    blurred = torch.nn.functional.avg_pool2d(picture, 5, stride=1, padding=2, count_include_pad=False)
    assert high_pass(blurred)[..., 4:-4, 4:-4].abs().max() < 0.5 * left[..., 4:-4, 4:-4].abs().max()


# --- the path in both families ---


@torch.no_grad()
def test_detail_stands_behind_what_is_fused(model, inputs):
    model.eval()
    features = model.forward_features(inputs)
    assert features.detail.shape == (BATCH, SEEN_FRAMES, 2 * CHANNELS)
    encoded = model.encode(inputs)
    assert encoded.detail is None
    assert torch.equal(encoded.audio, features.audio)
    assert torch.equal(encoded.visual, features.visual)

    fused, without = model.fuse(features), model.fuse(encoded)
    assert fused.shape == (*without.shape[:2], without.shape[2] + 2 * CHANNELS)
    assert torch.equal(fused[..., : without.shape[2]], without)
    # One step of the fused sequence gets what is said of its own quarter of the window.
    quarter = fused.shape[1] // SEEN_FRAMES
    for step in range(fused.shape[1]):
        assert torch.equal(fused[:, step, without.shape[2] :], features.detail[:, step // quarter])
    assert model.forward_head(fused).shape == (BATCH,)
    torch.testing.assert_close(model(inputs), model.forward_head(fused))


@torch.no_grad()
def test_a_window_alone_is_the_same_window_in_a_batch(model, inputs):
    model.eval()
    together, logits = model.forward_features(inputs).detail, model(inputs)
    assert torch.pdist(together.flatten(1)).min() > 1e-3  # and windows differ
    for i in range(BATCH):
        one = ModelInputs(inputs.frames[i : i + 1], inputs.audio[i : i + 1])
        torch.testing.assert_close(model.forward_features(one).detail[0], together[i], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model(one)[0], logits[i], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_each_half_hears_or_sees_its_own_moment():
    torch.manual_seed(0)
    path = DetailPath(CHANNELS).eval()
    frames, sound = torch.randn(2, 16, 3, 24, 24), torch.randn(2, 40, 64)
    before = path(frames, sound)
    for k in range(SEEN_FRAMES):
        changed = frames.clone()
        changed[:, FRAME_STRIDE * k : FRAME_STRIDE * (k + 1)] += torch.randn(2, FRAME_STRIDE, 3, 24, 24)
        moved = (path(changed, sound) - before).abs() > 1e-6
        assert moved.any(dim=2).all(dim=0).nonzero().flatten().tolist() == [k]
        assert not moved[..., :CHANNELS].any()  # what is heard does not depend on what is seen
    assert torch.equal(path(frames, torch.randn(2, 40, 64))[..., CHANNELS:], before[..., CHANNELS:])


def test_the_path_learns_in_stage_two_and_only_there(model, inputs):
    generator = seeded()
    pretraining_loss(model, inputs, LABELS, generator)["loss"].backward()
    assert all(parameter.grad is None for parameter in model.detail.parameters())
    classification_loss(model, inputs, LABELS, generator)["loss"].backward()
    without = [name for name, p in model.detail.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_without_detail_a_model_has_no_such_weights(model, inputs):
    plain = type(model)(replace(model.config, detail=0))
    assert not [name for name in plain.state_dict() if name.startswith("detail")]
    assert plain.forward_features(inputs).detail is None
    assert plain(inputs).shape == (BATCH,)
    # Gone are the path and, in the head's first layer, what read it; nothing else.
    hidden = {"AVFF": 128, "AVFFMAE": 64}[type(model).__name__]
    path = count_parameters(DetailPath(CHANNELS)) + 2 * CHANNELS * hidden
    assert count_parameters(model) - count_parameters(plain) == path


def test_the_documented_size_is_without():
    assert AVFFConfig().detail == AVFFMAEConfig().detail == 0
    with torch.device("meta"):
        avff, mae = AVFF(AVFFConfig()), AVFFMAE(AVFFMAEConfig())
    assert avff.detail is None
    assert mae.detail is None
    assert avff.classifier.mlp[1].in_features == 2 * 512
    assert mae.classifier[1].in_features == 4 * 768
    assert type(mae.visual_encoder.patch_embed) is TubeletEmbed
    assert AVFF_TINY["detail"] == AVFFMAE_TINY["detail"] == CHANNELS


def test_a_model_with_detail_is_saved_and_loaded(model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = Detector.from_pretrained(tmp_path)
    assert loaded.config == model.config
    torch.testing.assert_close(loaded(inputs), model.eval()(inputs), atol=0, rtol=0)
    edited = (tmp_path / "config.json").read_text().replace('"detail": 32', '"detail": 0')
    (tmp_path / "config.json").write_text(edited)
    with pytest.raises(AVFFError, match=r"unknown .*detail"):
        Detector.from_pretrained(tmp_path)


# --- the convolutional stem ---


@pytest.mark.parametrize("patch", [(2, 16, 16), (2, 8, 8), (4, 8, 16)], ids=str)
@torch.no_grad()
def test_stemmed_tubelets_are_ordered_as_tubelets_are(patch):
    torch.manual_seed(0)
    stemmed, plain = ConvStemTubeletEmbed(24, patch), TubeletEmbed(24, patch)
    frames = torch.randn(2, 8, 3, 32, 32)
    tokens = stemmed(frames)
    assert tokens.shape == plain(frames).shape
    moments = 8 // patch[0]
    for k in range(moments):  # time-major: what happens at a moment is in that moment's tokens
        changed = frames.clone()
        changed[:, patch[0] * k : patch[0] * (k + 1)] += torch.randn(2, patch[0], 3, 32, 32)
        change = (stemmed(changed) - tokens).abs().unflatten(1, (moments, -1))  # (2, moments, places, 24)
        assert (change.amax(dim=3) > 1e-5).all(dim=(0, 2)).nonzero().flatten().tolist() == [k]
        assert change[:, torch.arange(moments) != k].max() == 0


@torch.no_grad()
def test_a_stemmed_token_sees_its_own_place_most():
    """The stem looks a little over the edge of a patch, but rows stay rows and columns stay columns."""
    torch.manual_seed(0)
    stemmed = ConvStemTubeletEmbed(24, (2, 16, 16))
    frames = torch.randn(1, 2, 3, 64, 64)
    for row, column in ((0, 0), (1, 3), (3, 2)):
        changed = frames.clone()
        patch = slice(16 * row + 4, 16 * row + 12), slice(16 * column + 4, 16 * column + 12)
        changed[..., patch[0], patch[1]] += 3 * torch.randn(1, 2, 3, 8, 8)
        change = (stemmed(changed) - stemmed(frames)).norm(dim=-1).view(4, 4)
        assert divmod(int(change.argmax()), 4) == (row, column)


@pytest.mark.parametrize("patch", [(2, 12, 16), (2, 16, 4)], ids=str)
def test_patches_that_do_not_fit_the_stem_are_refused(patch):
    config = AVFFMAEConfig(**{**AVFFMAE_TINY, "image_size": 48})
    with pytest.raises(AVFFError, match="multiples of 8") as caught:
        replace(config, video_patch=patch)
    assert "\n" not in str(caught.value)
    assert replace(config, video_patch=(2, 12, 12), conv_stem=False).video_grid == (8, 4, 4)


# --- the contrast ---


def contrast_of(model: Detector, inputs: ModelInputs, audio: torch.Tensor, visual: torch.Tensor) -> dict:
    """What stage one says of these features, ``(8, 16, D)``; of all else it may think what it likes."""
    given = Features(audio=audio.repeat_interleave(3, dim=1), visual=visual)
    if isinstance(model, AVFFMAE):  # its reconstruction needs as many features as it has tokens
        encoded, complete = model.encode(inputs), model.fill_masked
        model.fill_masked = lambda _, *visible: complete(encoded, *visible)
    model.encode = lambda _: given
    return pretraining_loss(model, inputs, LABELS, seeded())


def test_position_codes_alone_do_not_lower_the_contrast(model, inputs):
    """Features that hold the position, the same in all windows, and nothing that is said."""
    codes = grid_positions((16,), 144)[:, : model.config.dim]
    audio, visual = codes + 0.05 * torch.randn(2, BATCH, *codes.shape, generator=seeded(3))
    rows = [subtract_temporal_mean(pool_to_steps(stream, 8)).flatten(0, 1) for stream in (audio, visual)]
    assert info_nce(*rows, 0.1) < math.log(BATCH) + 0.5  # not centred: the position is known
    logged = contrast_of(model, inputs, audio, visual)
    assert logged["contrast"] > math.log(BATCH * 8) - 0.1
    assert logged["retrieval"] < 0.1  # by chance 1 in 64


def test_what_windows_do_not_share_lowers_the_contrast(model, inputs):
    """The centring takes nothing from streams that belong together, whatever codes they carry."""
    codes = grid_positions((16,), 144)[:, : model.config.dim]
    said = codes + torch.randn(BATCH, *codes.shape, generator=seeded(3))
    logged = contrast_of(model, inputs, said, said)
    assert logged["contrast"] < 0.1
    assert logged["retrieval"] == 1
