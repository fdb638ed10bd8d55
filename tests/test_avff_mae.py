"""The paper's model: slices are slices of time, masked slices stay masked, each loss reaches its own part."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.functional import melscale_fbanks

from avff_lib.data.dataset import WindowSample
from avff_lib.errors import AVFFError
from avff_lib.media.clip import Clip, to_samples
from avff_lib.models import AVFFMAE, AVFFMAEConfig, Detector
from avff_lib.models.base import count_parameters
from avff_lib.models.checkpoint import CONFIG_NAME
from avff_lib.models.configs import AVFFMAE_TINY
from avff_lib.nn.blocks import Block, attention_weights
from avff_lib.nn.features import Features
from avff_lib.nn.losses import (
    gradient_penalty,
    info_nce,
    normalize_patches,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from avff_lib.nn.masking import complementary_slices, gather_slices, scatter_slices
from avff_lib.nn.patches import patchify_audio, patchify_video, unpatchify_audio, unpatchify_video
from avff_lib.nn.positions import grid_positions
from avff_lib.nn.sequences import RunningMeanCentering, subtract_temporal_mean
from avff_lib.preprocess.audio import fbank
from avff_lib.preprocess.prepare import prepare
from avff_lib.preprocess.spec import FbankSpec, InputSpec, ModelInputs
from avff_lib.training.config import TrainConfig
from avff_lib.training.loop import fit
from avff_lib.training.objectives import classification_loss, pretraining_loss
from avff_lib.training.optim import parameter_groups

# The same classes as the tiny preset, smaller still. A slice holds 2 x 3 patches of the sound (8 columns of
# the spectrogram) and 1 x 2 x 2 tubelets of the picture (2 frames): no number stands for two things.
MINI = AVFFMAEConfig(
    **{
        **AVFFMAE_TINY,
        **{"dim": 24, "depth": 1, "heads": 2, "decoder_dim": 12, "decoder_depth": 1, "decoder_heads": 2},
        **{"reduced_dim": 8, "critic_dim": 32, "image_size": 16, "video_patch": (2, 8, 8)},
        **{"audio_patch": (4, 16), "duration": 0.64},
        **{"audio_decoder_dim": 12, "audio_decoder_depth": 1, "audio_decoder_heads": 2},
        "mel": {**AVFFMAE_TINY["mel"], "n_mels": 48},
    }
)
SLICES, COLUMNS, FRAMES = 8, 8, 2  # of time; of the spectrogram and of the video in one slice
LABELS = torch.tensor([0, 1] * 4)
LEFT_TO_STAGE_TWO = (
    *("audio_reduction", "visual_reduction", "audio_centering", "visual_centering", "classifier", "detail"),
)


def build(**changed) -> AVFFMAE:
    torch.manual_seed(0)
    return AVFFMAE(replace(MINI, **changed))


@pytest.fixture
def mae() -> AVFFMAE:
    return build()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def clips() -> ModelInputs:
    """Eight windows; the spectrogram is in dB and has one column more than whole patches."""
    return ModelInputs(
        frames=torch.randn(8, 16, 3, 16, 16, generator=seeded(1)),
        audio=20 * torch.randn(8, 48, 65, generator=seeded(2)) - 20,
    )


def some(clips: ModelInputs, which: slice) -> ModelInputs:
    return ModelInputs(clips.frames[which], clips.audio[which])


def moved(before: torch.Tensor, after: torch.Tensor) -> list[tuple[int, int]]:
    """(sample, slice) of all slices ``(B, K, N, D)`` in which every token moved; the rest stood still."""
    change = (before - after).abs().amax(dim=-1)  # (B, K, N)
    assert ((change > 1e-4) | (change == 0)).all()
    whole, any_of_them = (change > 0).all(dim=-1), (change > 0).any(dim=-1)
    assert torch.equal(whole, any_of_them)
    return [tuple(place) for place in whole.nonzero().tolist()]


def test_shapes_from_window_to_logit(mae, clips):
    mae.eval()
    features = mae.forward_features(clips)
    assert features.audio.shape == (8, 16 * 3, 24)
    assert features.visual.shape == (8, 8 * 2 * 2, 24)
    assert mae.tokens_per_slice == (6, 4)
    fused = mae.fuse(features)
    assert fused.shape == (8, SLICES, 8 + 8 + 24 + 64)  # sound, picture, agreement, detail of both
    assert mae.forward_head(fused).shape == (8,)
    torch.testing.assert_close(mae(clips), mae.forward_head(fused))
    torch.testing.assert_close(mae.spectrogram(clips), (clips.audio[..., :64] + 18.534) / 39.686)


def test_prepare_gives_what_the_model_asks_for(mae):
    rng = np.random.default_rng(0)
    clip = Clip(
        frames=rng.integers(0, 255, (25, 20, 20, 3), dtype=np.uint8),
        times=np.arange(25) / 25,
        waveform=rng.standard_normal(16_000).astype(np.float32) / 10,
        sample_rate=16_000,
        start=0.0,
        duration=1.0,
    )
    inputs = prepare(clip, mae.spec)
    assert inputs.frames.shape == (1, 16, 3, 16, 16)
    assert inputs.audio.shape == (1, 48, 65)
    assert mae.eval()(inputs).isfinite()


# --- time: a slice of tokens is a slice of the window ---


@pytest.mark.parametrize("stream", ["audio", "visual"])
def test_one_slice_of_the_input_is_one_slice_of_the_tokens(mae, clips, stream):
    def tokens(clips):
        if stream == "audio":
            return mae.split_slices(mae.audio_encoder.patch_embed(mae.spectrogram(clips)))
        return mae.split_slices(mae.visual_encoder.patch_embed(clips.frames))

    for k in range(SLICES):
        frames, audio = clips.frames.clone(), clips.audio.clone()
        frames[:, FRAMES * k : FRAMES * (k + 1)] += torch.randn(8, FRAMES, 3, 16, 16, generator=seeded())
        audio[:, :, COLUMNS * k : COLUMNS * (k + 1)] += 20 * torch.randn(8, 48, COLUMNS, generator=seeded())
        changed = ModelInputs(frames, audio)
        assert moved(tokens(clips), tokens(changed)) == [(sample, k) for sample in range(8)]


@pytest.mark.parametrize("direction", ["audio_to_visual", "visual_to_audio"])
def test_a_translator_takes_each_slice_of_each_sample_by_itself(mae, direction):
    tokens_in, tokens_out = (
        mae.tokens_per_slice if direction == "audio_to_visual" else mae.tokens_per_slice[::-1]
    )
    slices = torch.randn(2, 4, tokens_in, 24, generator=seeded())
    translate = getattr(mae, direction)
    assert translate(slices).shape == (2, 4, tokens_out, 24)
    for sample in range(2):
        for k in range(4):
            changed = slices.clone()
            changed[sample, k] += torch.randn(tokens_in, 24, generator=seeded(1))
            assert moved(translate(slices), translate(changed)) == [(sample, k)]


@pytest.mark.parametrize("stream", ["audio", "visual"])
def test_a_visible_slice_affects_its_own_moment_and_a_masked_one_nothing(mae, stream):
    features = Features(
        torch.randn(2, 48, 24, generator=seeded(1)), torch.randn(2, 32, 24, generator=seeded(2))
    )
    visible_visual, visible_audio = complementary_slices(2, SLICES, seeded(3))
    before = mae.fill_masked(features, visible_visual, visible_audio)
    visible = visible_audio if stream == "audio" else visible_visual
    tokens = mae.tokens_per_slice[0 if stream == "audio" else 1]
    for sample in range(2):
        for k in range(SLICES):
            changed = getattr(features, stream).clone()
            changed[sample, k * tokens : (k + 1) * tokens] += torch.randn(tokens, 24, generator=seeded(4))
            after = mae.fill_masked(replace(features, **{stream: changed}), visible_visual, visible_audio)
            expected = [(sample, k)] if k in visible[sample] else []
            # A visible slice stays as it is in its stream, and predicts the other stream at its moment.
            assert [moved(*streams) for streams in zip(before, after, strict=True)] == [expected, expected]


def test_filled_features_are_half_visible_and_half_predicted(mae):
    features = Features(
        torch.randn(2, 48, 24, generator=seeded(1)), torch.randn(2, 32, 24, generator=seeded(2))
    )
    visible_visual, visible_audio = complementary_slices(2, SLICES, seeded(3))
    completed = mae.fill_masked(features, visible_visual, visible_audio)
    audio, visual = features.audio.view(2, SLICES, 6, 24), features.visual.view(2, SLICES, 4, 24)
    for b in range(2):
        for k in range(SLICES):
            heard = k in visible_audio[b]
            sound = audio[b, k] if heard else mae.visual_to_audio(visual[b : b + 1, k : k + 1])[0, 0]
            picture = mae.audio_to_visual(audio[b : b + 1, k : k + 1])[0, 0] if heard else visual[b, k]
            torch.testing.assert_close(completed[0][b, k], sound)
            torch.testing.assert_close(completed[1][b, k], picture)


@pytest.mark.parametrize("stream", ["audio", "visual"])
def test_a_fused_slice_holds_its_own_moment_of_both_streams(mae, stream):
    features = Features(
        torch.randn(2, 48, 24, generator=seeded(1)), torch.randn(2, 32, 24, generator=seeded(2))
    )
    tokens = mae.tokens_per_slice[0 if stream == "audio" else 1]
    for k in range(SLICES):
        changed = getattr(features, stream).clone()
        changed[:, k * tokens : (k + 1) * tokens] += torch.randn(2, tokens, 24, generator=seeded(4))
        halves = zip(
            mae.fuse(features)[..., :16].chunk(2, dim=-1),
            mae.fuse(replace(features, **{stream: changed}))[..., :16].chunk(2, dim=-1),
            strict=True,
        )
        for before, after in halves:  # what the sound's reduction says, and what the picture's says
            assert moved(before[:, :, None], after[:, :, None]) == [(0, k), (1, k)]


# --- samples: each is scored alone, and no two are scored alike ---


def test_a_sample_does_not_depend_on_its_batch_mates(mae, clips):
    mae.eval()
    alone = [some(clips, slice(i, i + 1)) for i in range(8)]
    torch.testing.assert_close(mae(clips), torch.cat([mae(one) for one in alone]), atol=1e-5, rtol=1e-5)
    completed = mae.fill_masked(mae.encode(clips), *complementary_slices(8, SLICES, seeded()))
    visible = complementary_slices(8, SLICES, seeded())
    for i, one in enumerate(alone):
        by_itself = mae.fill_masked(mae.encode(one), *(index[i : i + 1] for index in visible))
        for together, apart in zip(completed, by_itself, strict=True):
            torch.testing.assert_close(together[i], apart[0], atol=1e-5, rtol=1e-5)


def test_different_clips_give_the_classifier_different_inputs_at_the_start(mae, clips):
    seen = []
    mae.classifier.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    logits = mae.eval()(clips)
    for part in seen[0].split([8, 8, 24, 64], dim=-1):  # sound, picture, agreement, detail of both
        assert torch.pdist(part).min() > 1e-2
    assert torch.pdist(logits[:, None]).min() > 1e-5


@torch.no_grad()
def test_attention_equals_its_slow_twin_and_depends_on_the_query():
    torch.manual_seed(0)
    attention = Block(8, 2).attn
    torch.nn.init.normal_(attention.qkv.weight)
    tokens = torch.randn(1, 5, 8)
    queries, keys, values = (F.linear(tokens[0], *part) for part in zip(
        attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True
    ))  # fmt: skip
    rows, slow_weights = [], torch.zeros(1, 2, 5, 5)
    for i in range(5):
        heads = []
        for head, part in enumerate((slice(0, 4), slice(4, 8))):
            weights = [math.exp(float(queries[i, part] @ keys[j, part]) / math.sqrt(4)) for j in range(5)]
            slow_weights[0, head, i] = torch.tensor(weights) / sum(weights)
            heads.append(sum(w / sum(weights) * values[j, part] for j, w in enumerate(weights)))
        rows.append(torch.cat(heads))
    expected = attention.proj(torch.stack(rows))
    torch.testing.assert_close(attention(tokens)[0], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(attention_weights(attention, tokens), slow_weights, atol=1e-5, rtol=1e-5)
    assert torch.pdist(expected).min() > 0.1  # five queries over the same keys find five things


# --- masks ---


@given(batch=st.integers(1, 6), half=st.integers(1, 8), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_masks_are_complementary_exact_and_sorted(batch, half, seed):
    visual, audio = complementary_slices(batch, 2 * half, seeded(seed))
    assert visual.shape == audio.shape == (batch, half)
    for seen, heard in zip(visual.tolist(), audio.tolist(), strict=True):
        assert sorted(seen + heard) == list(range(2 * half))
        assert seen == sorted(seen)
        assert heard == sorted(heard)
    again = complementary_slices(batch, 2 * half, seeded(seed))
    assert torch.equal(visual, again[0])
    assert torch.equal(audio, again[1])


def test_masks_differ_between_samples_and_mask_every_slice_alike():
    visual, _ = complementary_slices(512, SLICES, seeded())
    assert len(visual.unique(dim=0)) > 60  # of 70 that there are
    shares = visual.flatten().bincount(minlength=SLICES) / 512
    assert (shares - 0.5).abs().max() < 0.1
    assert not torch.equal(visual, complementary_slices(512, SLICES, seeded(1))[0])


def test_what_is_put_into_a_sequence_is_what_is_taken_out():
    sequence = torch.randn(3, SLICES, 2, 5)
    untouched = sequence.clone()
    index, rest = complementary_slices(3, SLICES, seeded())
    values = torch.randn(3, SLICES // 2, 2, 5)
    changed = scatter_slices(sequence, index, values)
    assert torch.equal(gather_slices(changed, index), values)
    assert torch.equal(gather_slices(changed, rest), gather_slices(sequence, rest))
    assert torch.equal(sequence, untouched)
    assert torch.equal(gather_slices(sequence, index)[2, 1], sequence[2, index[2, 1]])


# --- patches ---

SIDES = st.integers(1, 3)


@given(batch=SIDES, grid=st.tuples(SIDES, SIDES), patch=st.tuples(SIDES, SIDES))
@settings(max_examples=25, deadline=None)
def test_a_spectrogram_that_is_cut_can_be_joined(batch, grid, patch):
    (steps, bands), (columns, height) = grid, patch
    log_mel = torch.randn(batch, bands * height, steps * columns)
    patches = patchify_audio(log_mel, patch)
    assert patches.shape == (batch, steps * bands, columns * height)
    assert torch.equal(unpatchify_audio(patches, patch, bands * height), log_mel)
    assert patches[0, -1].sum() == pytest.approx(float(log_mel[0, -height:, -columns:].sum()), abs=1e-5)


@given(batch=SIDES, grid=st.tuples(SIDES, SIDES), patch=st.tuples(SIDES, SIDES, SIDES))
@settings(max_examples=25, deadline=None)
def test_a_video_that_is_cut_can_be_joined(batch, grid, patch):
    (steps, side), (depth, rows, columns) = grid, patch
    size = side * rows * columns  # square, and whole patches either way
    frames = torch.randn(batch, steps * depth, 3, size, size)
    patches = patchify_video(frames, patch)
    assert patches.shape == (batch, steps * (size // rows) * (size // columns), 3 * depth * rows * columns)
    assert torch.equal(unpatchify_video(patches, patch, size), frames)
    corner = frames[0, -depth:, :, -rows:, -columns:]
    assert patches[0, -1].sum() == pytest.approx(float(corner.sum()), abs=1e-4)


def test_patches_are_cut_in_the_order_of_the_tokens(clips):
    """A projection is a matrix on the values of a patch: token n must come from patch n."""
    mae = build(conv_stem=False)
    audio, visual = mae.audio_encoder.patch_embed, mae.visual_encoder.patch_embed
    values = patchify_audio(mae.spectrogram(clips), (4, 16))
    matrix = audio.proj.weight.flatten(1)
    torch.testing.assert_close(audio(mae.spectrogram(clips)), values @ matrix.T + audio.proj.bias)
    values = patchify_video(clips.frames, (2, 8, 8))
    matrix = rearrange(visual.proj.weight, "d c u p q -> d (u p q c)")
    torch.testing.assert_close(
        visual(clips.frames), values @ matrix.T + visual.proj.bias, atol=1e-5, rtol=1e-5
    )


def test_position_codes_equal_the_formula_and_equal_places_have_equal_codes():
    codes = grid_positions((50,), 12)
    for place in (0, 1, 7, 49):
        for i in range(6):
            angle = place / 10_000 ** (2 * i / 12)
            assert codes[place, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert codes[place, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    grid = grid_positions((3, 2, 4), 12).view(3, 2, 4, 12)
    for axis, share in enumerate((slice(0, 4), slice(4, 8), slice(8, 12))):
        along = grid.movedim(axis, 0)[..., share]  # (places on this axis, ..., its channels)
        assert torch.equal(along, along[:, :1, :1].expand_as(along))
        torch.testing.assert_close(along[:, 0, 0], grid_positions((len(along),), 4))
    assert torch.pdist(grid.flatten(0, 2)).min() > 0.1  # and other places have other codes
    assert torch.equal(grid_positions((2, 2, 4), 12), grid[:2].flatten(0, 2))  # a longer window goes on


def test_a_decoder_knows_where_a_patch_belongs(mae):
    alike = torch.ones(1, SLICES, 1, 24)
    for patches in mae.reconstruct(alike.expand(-1, -1, 6, -1), alike.expand(-1, -1, 4, -1)):
        assert torch.pdist(patches[0].flatten(0, 1)).min() > 1e-3


# --- losses ---


def test_a_normalised_patch_keeps_its_pattern_only():
    patches = torch.randn(4, 3, 64, generator=seeded())
    normal = normalize_patches(patches)
    torch.testing.assert_close(normal.mean(dim=-1), torch.zeros(4, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.std(dim=-1), torch.ones(4, 3), atol=1e-5, rtol=0)
    louder = patches * torch.rand(4, 3, 1).add(0.5) + torch.randn(4, 3, 1)
    torch.testing.assert_close(normalize_patches(louder), normal, atol=1e-4, rtol=1e-4)
    assert torch.equal(normalize_patches(torch.full((1, 1, 64), 3.0)), torch.zeros(1, 1, 64))


def random_predictions(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """In the shapes that `AVFFMAE.reconstruct` returns."""
    return (
        torch.randn(batch, SLICES, 6, 64, generator=seeded(5)),
        torch.randn(batch, SLICES, 4, 384, generator=seeded(6)),
    )


def reconstruction(mae: AVFFMAE, clips: ModelInputs, predictions) -> float:
    mae.reconstruct = lambda *completed: predictions
    return pretraining_loss(mae, clips, LABELS, seeded(3))["reconstruction"].item()


def test_reconstruction_equals_its_slow_twin(mae, clips):
    clips = some(clips, slice(0, 2))
    predictions = random_predictions(2)
    visible_visual, visible_audio = complementary_slices(2, SLICES, seeded(3))
    log_mel = mae.spectrogram(clips)
    errors = {"audio": [], "visual": []}

    def compare(stream, prediction, values):
        mean = sum(values) / len(values)
        deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) + 1e-6)
        errors[stream] += [(g - (v - mean) / deviation) ** 2 for g, v in zip(prediction, values, strict=True)]

    for b in range(2):
        for k in range(SLICES):
            if k not in visible_audio[b]:
                for t in range(2):
                    for band in range(3):
                        start = (2 * k + t) * 4
                        patch = log_mel[b, 16 * band : 16 * (band + 1), start : start + 4]
                        compare(
                            "audio", predictions[0][b, k, 3 * t + band].tolist(), patch.T.flatten().tolist()
                        )
            if k not in visible_visual[b]:
                for row in range(2):
                    for column in range(2):
                        tubelet = clips.frames[
                            b, 2 * k : 2 * k + 2, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8
                        ]
                        values = tubelet.permute(0, 2, 3, 1).flatten().tolist()
                        compare("visual", predictions[1][b, k, 2 * row + column].tolist(), values)
    expected = sum(sum(found) / len(found) for found in errors.values())
    assert len(errors["audio"]) == 2 * 4 * 6 * 64
    assert reconstruction(mae, clips, predictions) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stream", [0, 1], ids=["audio", "visual"])
def test_only_masked_patches_are_compared(mae, clips, stream):
    predictions = random_predictions(8)
    before = reconstruction(mae, clips, predictions)
    visible_visual, visible_audio = complementary_slices(8, SLICES, seeded(3))
    visible, masked = (visible_audio, visible_visual) if stream == 0 else (visible_visual, visible_audio)
    rows = torch.arange(8)[:, None]
    predictions[stream][rows, visible] += 100
    assert reconstruction(mae, clips, predictions) == before
    predictions[stream][0, masked[0, 0], 0, 0] += 100
    assert reconstruction(mae, clips, predictions) > before + 0.1


def test_wasserstein_losses_pull_apart():
    real, fake = torch.tensor([[1.0, 2.0], [3.0, 6.0]]), torch.tensor([[-1.0, 0.0], [2.0, 5.0]])
    assert wasserstein_generator_loss(fake).item() == -1.5
    assert wasserstein_critic_loss(real, fake).item() == 1.5 - 3.0


@pytest.mark.parametrize(("slope", "penalty"), [(0.0, 1.0), (1.0, 0.0), (3.0, 4.0)])
def test_gradient_penalty_of_a_linear_critic_is_known(slope, penalty):
    weight = torch.tensor([0.6, 0.0, -0.8]).mul(slope).requires_grad_()
    real, fake = torch.randn(2, 4, 5, 3, generator=seeded())
    found = gradient_penalty(lambda patches: patches @ weight, real, fake, seeded(1))
    assert found.item() == pytest.approx(penalty, abs=1e-5)
    if slope:  # and the critic is told about it: d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w|
        found.backward()
        expected = 2 * (slope - 1) * torch.tensor([0.6, 0.0, -0.8])
        torch.testing.assert_close(weight.grad, expected, atol=1e-5, rtol=1e-5)


def test_gradient_penalty_looks_between_real_and_reconstructed_patches():
    """A critic |x|^2 / 2 has slope |x|; between 0 and a vector of length 2 that is twice the share."""
    real, fake = torch.zeros(6, 3, 4), torch.tensor([2.0, 0.0, 0.0, 0.0]).expand(6, 3, 4)
    found = gradient_penalty(lambda x: x.square().sum(-1) / 2, real, fake, seeded(1))
    shares = torch.rand(6, 3, generator=seeded(1))
    assert found.item() == pytest.approx((2 * shares - 1).square().mean().item(), rel=1e-5)


def test_a_learned_temperature_gets_the_slope_of_the_contrast():
    audio, visual = torch.randn(2, 6, 8, generator=seeded())
    log_temperature = torch.tensor(0.3).log().requires_grad_()
    info_nce(audio, visual, log_temperature.exp()).backward()
    up, down = (info_nce(audio, visual, 0.3 * math.exp(step)).item() for step in (0.01, -0.01))
    assert log_temperature.grad.item() == pytest.approx((up - down) / 0.02, rel=1e-2)


def test_contrast_of_slices_compares_them_less_what_they_share(mae, clips):
    features = mae.encode(clips)
    rows = [
        subtract_temporal_mean(stream.view(8, SLICES, -1, 24).mean(dim=2))
        for stream in (features.audio, features.visual)
    ]  # (8, 8, 24)
    rows = [row - sum(row) / len(row) for row in rows]  # less what all windows have at a place
    expected = info_nce(*(row.flatten(0, 1) for row in rows), mae.config.temperature)
    found = pretraining_loss(mae, clips, LABELS, seeded())["contrast"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_contrast_of_windows_written_out(clips):
    """One mean of each stream, compared in both directions and with nothing subtracted."""
    mae = build(granularity="clip", temperature=0.05)
    with torch.no_grad():
        features = mae.encode(clips)
    audio = [row.mean(dim=0) for row in features.audio]
    visual = [row.mean(dim=0) for row in features.visual]
    cosine = [[float(torch.cosine_similarity(a, v, dim=0)) / 0.05 for v in visual] for a in audio]
    losses = []
    for i in range(8):
        to_visual, to_audio = cosine[i], [row[i] for row in cosine]
        losses += [math.log(sum(math.exp(c - cosine[i][i]) for c in way)) for way in (to_visual, to_audio)]
    found = pretraining_loss(mae, clips, LABELS, seeded())["contrast"]
    assert float(found) == pytest.approx(sum(losses) / 16, abs=1e-4)


def test_the_loss_is_the_weighted_sum_of_its_parts(clips):
    mae = build(contrast_weight=0.5, reconstruction_weight=2.0, adversarial_weight=0.25)
    logged = pretraining_loss(mae, clips, LABELS, seeded())
    parts = 0.5 * logged["contrast"] + 2.0 * logged["reconstruction"] + 0.25 * logged["adversarial"]
    torch.testing.assert_close(logged["loss"], parts)


def test_stage_one_stops_when_features_collapse(mae, clips):
    torch.nn.init.zeros_(mae.audio_encoder.norm.weight)
    with pytest.raises(AVFFError, match="collapsed"):
        pretraining_loss(mae, clips, LABELS, seeded())


# --- gradients ---

ENCODING = {"audio_encoder", "visual_encoder", "audio_to_visual", "visual_to_audio"}
TRAINED = {
    "loss of stage one": ENCODING | {"audio_decoder", "visual_decoder", "log_temperature"},
    "critics of stage one": {"critic"},
    "loss of stage two": ENCODING | {"audio_reduction", "visual_reduction", "classifier", "detail"},
}


@pytest.mark.parametrize("loss", TRAINED)
def test_every_weight_of_a_stage_gets_a_gradient_and_no_other_does(clips, loss):
    mae = build(learn_temperature=True, class_token=True)
    objective, name = (
        (classification_loss if "two" in loss else pretraining_loss),
        "critic_loss" if "crit" in loss else "loss",
    )
    objective(mae, clips, LABELS, seeded())[name].backward()
    named = dict(mae.named_parameters())
    assert {key.split(".")[0] for key in named} == set().union(*TRAINED.values())
    assert {key.split(".")[0] for key, p in named.items() if p.grad is not None} == TRAINED[loss]
    without = {
        key for key, p in named.items()
        if key.split(".")[0] in TRAINED[loss] and (p.grad is None or not p.grad.any())
    }  # fmt: skip
    # Scores matter by their differences, so the last bias of a critic has no slope.
    assert without == ({f"critic.{s}.mlp.2.bias" for s in ("audio", "visual")} if "crit" in loss else set())


def test_the_critics_push_the_reconstruction_towards_what_they_score_higher(clips):
    """With the adversarial loss alone, a gradient step raises the critics' scores."""
    mae = build(contrast_weight=0.0, reconstruction_weight=0.0, adversarial_weight=1.0)
    optimiser = torch.optim.SGD([p for n, p in mae.named_parameters() if "decoder" in n], lr=0.1)
    critics = {name: p.clone() for name, p in mae.critic.named_parameters()}
    scores = []
    for _ in range(3):
        logged = pretraining_loss(mae, clips, LABELS, seeded())
        optimiser.zero_grad()
        logged["loss"].backward()
        optimiser.step()
        scores.append(logged["adversarial"].item())
    assert scores[0] > scores[1] > scores[2]
    assert all(torch.equal(p, critics[name]) for name, p in mae.critic.named_parameters())


def test_groups_leave_the_critics_out_and_freeze_encoders(clips):
    mae = build(learn_temperature=True)
    for encoder_lr in (0.0, 1e-3):
        groups = parameter_groups(mae, TrainConfig(encoder_lr=encoder_lr))
        trained = {id(p) for group in groups for p in group["params"]}
        for name, p in mae.named_parameters():
            left_out = name.startswith("critic.") or ("_encoder." in name and not encoder_lr)
            assert (id(p) in trained) != left_out, name


# --- training ---

RUN = TrainConfig(steps=6, batch_size=8, lr=3e-3, encoder_lr=3e-3, save_every=2)


class EveryStep(torch.utils.data.Dataset):
    """The same eight windows in every step of a run, with `LABELS`."""

    def __init__(self, clips: ModelInputs) -> None:
        self.clips = clips

    def __getitem__(self, key: tuple[int, int]) -> WindowSample:
        _, row = key
        return WindowSample(self.clips.frames[row], self.clips.audio[row], int(LABELS[row]))


def speaking_clips() -> ModelInputs:
    """One picture and one sound, both as they are or both turned round, drawn anew in every slice."""
    side = torch.randint(0, 2, (8, SLICES), generator=seeded(1)) * 2.0 - 1
    image, voice = torch.randn(3, 16, 16, generator=seeded(2)), torch.randn(48, 1, generator=seeded(3))
    frames = side.repeat_interleave(FRAMES, dim=1)[:, :, None, None, None] * image
    audio = F.pad(side.repeat_interleave(COLUMNS, dim=1)[:, None] * voice, (0, 1))
    return ModelInputs(
        frames + 0.3 * torch.randn(frames.shape, generator=seeded(4)),
        20 * (audio + 0.3 * torch.randn(audio.shape, generator=seeded(5))) - 20,
    )


def test_stage_one_learns_to_tell_one_stream_from_the_other(mae, tmp_path):
    """Without the side of a masked slice no prediction is better than 1 for each stream."""
    clips, longer = speaking_clips(), replace(RUN, steps=40, lr=6e-3, encoder_lr=6e-3)
    history = fit(mae, pretraining_loss, EveryStep(clips), longer, tmp_path)
    first, last = (
        {name: np.mean([record[name] for record in part]) for name in part[0]}
        for part in (history[:3], history[-3:])
    )
    assert first["reconstruction"] > 2
    assert last["reconstruction"] < 1.4
    assert last["contrast"] < math.log(8 * SLICES) / 2
    assert last["loss"] < 0.5 * first["loss"]
    assert all(math.isfinite(record["critic_loss"]) for record in history)


def test_the_adversary_of_the_defaults_does_not_drown_the_reconstruction(tmp_path):
    clips, last = speaking_clips(), {}
    base = AVFFMAEConfig()
    for weight in (0.0, base.adversarial_weight, 0.1):
        mae = build(adversarial_weight=weight, gradient_penalty=base.gradient_penalty, contrast_weight=0.01)
        longer = replace(RUN, steps=50, save_every=50)
        history = fit(mae, pretraining_loss, EveryStep(clips), longer, tmp_path / str(weight))
        last[weight] = np.mean([record["reconstruction"] for record in history[-5:]])
        assert history[0]["reconstruction"] > 2
    assert last[base.adversarial_weight] < 1.1
    assert last[base.adversarial_weight] < 1.03 * last[0.0]
    assert last[0.1] > 1.1 * last[0.0]  # ten times the weight costs part of the reconstruction


def test_the_critics_warm_up_with_the_model(mae, clips, tmp_path):
    """The first step of a warm-up has a learning rate of 0, the second one has not."""
    start = {name: tensor.clone() for name, tensor in mae.critic.state_dict().items()}
    changed = []

    def compare(step, record):
        changed.append(any(not torch.equal(t, start[name]) for name, t in mae.critic.state_dict().items()))

    fit(mae, pretraining_loss, EveryStep(clips), replace(RUN, steps=4, warmup=0.5), tmp_path, compare)
    assert changed == [False, True, True, True]


def test_mixed_precision_rounds_neither_input_nor_target(mae, clips, tmp_path):
    """In bfloat16 -80.3 dB is -80.5 dB, and what is to be reconstructed would be rounded as well."""
    seen = []
    mae.patchify = lambda inputs: seen.append(inputs) or AVFFMAE.patchify(mae, inputs)
    mixed = replace(RUN, steps=2, precision="bf16-mixed")
    history = fit(mae, pretraining_loss, EveryStep(clips), mixed, tmp_path)
    assert all(math.isfinite(record["critic_loss"]) for record in history)
    assert torch.equal(seen[0].audio, clips.audio)
    assert torch.equal(seen[0].frames, clips.frames)


def test_a_killed_run_resumes_to_the_same_weights(mae, clips, tmp_path):
    start = {name: tensor.clone() for name, tensor in mae.state_dict().items()}

    def run(folder, on_step=None):
        mae.load_state_dict(start)
        return fit(mae, pretraining_loss, EveryStep(clips), RUN, folder, on_step)

    whole = run(tmp_path / "whole")
    expected = {name: tensor.clone() for name, tensor in mae.state_dict().items()}
    for critic in ("critic.audio.mlp.0.weight", "critic.visual.mlp.0.weight"):
        assert not torch.equal(expected[critic], start[critic])

    def kill(step, record):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", kill)
    assert run(tmp_path / "killed") == whole
    for name, tensor in mae.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_stage_two_starts_from_every_weight_of_stage_one(mae, clips, tmp_path):
    start = {name: tensor.clone() for name, tensor in mae.state_dict().items()}
    fit(mae, pretraining_loss, EveryStep(clips), replace(RUN, steps=2), tmp_path / "one")
    mae.save_pretrained(tmp_path / "model")
    learned = mae.state_dict()
    handed = Detector.from_pretrained(tmp_path / "model")
    assert handed.state_dict().keys() == learned.keys()
    for name, tensor in handed.state_dict().items():
        assert torch.equal(tensor, learned[name]), name
        fixed = name.endswith("positions") or name == "log_temperature"
        in_stage_two = name.startswith(LEFT_TO_STAGE_TWO)
        # A critic's last bias has no slope. All else was learned, A2V and V2A with it.
        if not name.endswith("mlp.2.bias"):
            assert torch.equal(tensor, start[name]) == (fixed or in_stage_two), name

    fit(handed, classification_loss, EveryStep(clips), replace(RUN, steps=2), tmp_path / "two")
    kept = {name for name, tensor in handed.state_dict().items() if torch.equal(tensor, learned[name])}
    out_of_stage_two = ("audio_decoder", "visual_decoder", "critic", "log_temperature")
    assert kept == {
        name for name in learned if name.startswith(out_of_stage_two) or name.endswith("positions")
    }


# --- configs and checkpoints ---


def test_save_and_load_give_the_same_model(mae, clips, tmp_path):
    mae.save_pretrained(tmp_path)
    loaded = Detector.from_pretrained(tmp_path)
    assert type(loaded) is AVFFMAE
    assert loaded.config == mae.config
    assert loaded.spec == mae.spec
    torch.testing.assert_close(loaded(clips), mae.eval()(clips), atol=0, rtol=0)
    assert json.loads((tmp_path / CONFIG_NAME).read_text())["family"] == "AVFFMAE"


@pytest.mark.parametrize(
    "wrong",
    [
        {"slices": 7},
        {"slices": 0},
        {"slices": 6},
        {"duration": 0.6},
        {"dim": 20},
        {"dim": 36, "heads": 5},
        {"decoder_dim": 8},
        {"threshold": 1.0},
        {"temperature": 0.0},
        {"granularity": "slices"},
        {"image_size": 20},
        {"frame_count": 17},
        {"audio_patch": (4, 20)},
        {"audio_decoder_dim": 10},
        {"audio_decoder_window": 5},
        {"mel": None},
        {"fbank": {"num_mel_bins": 48}},
        {"mel": None, "fbank": {"frame_length": 900.0}},
    ],
    ids=str,
)
def test_a_config_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(AVFFError, match=r"; (expected|choose)") as caught:
        replace(MINI, **wrong)
    assert "\n" not in str(caught.value)


def test_base_has_the_papers_size():
    with torch.device("meta"):
        model = AVFFMAE(AVFFMAEConfig())
        frames, audio = torch.empty(1, 16, 3, 224, 224), torch.empty(1, 128, 768)
    features = model.forward_features(ModelInputs(frames, audio))
    assert features.visual.shape == (1, 1568, 768)
    assert features.audio.shape == (1, 384, 768)
    assert model.tokens_per_slice == (48, 196)
    assert model(ModelInputs(frames, audio)).shape == (1,)
    audio_values, video_values = (patches.shape[-1] for patches in model.patchify(ModelInputs(frames, audio)))
    assert (audio_values, video_values) == (256, 1536)
    assert len(model.visual_encoder.blocks) == 12
    vit = count_parameters(model.visual_encoder)
    assert 85e6 < vit < 88e6  # ViT-B
    assert [layer.out_features for layer in model.critic["visual"].mlp[::2]] == [1536, 1]  # MARLIN's
    assert model.fuse(features).shape == (1, 1, 4 * 768)  # one vector of each stream beside its prediction
    sizes = [(len(part.blocks), part.heads) for part in (model.visual_decoder, model.audio_decoder)]
    assert sizes == [(4, 6), (16, 16)]  # MARLIN's and AudioMAE's


def test_the_window_of_base_is_as_long_as_its_columns():
    spec = InputSpec(audio="fbank", fbank=FbankSpec(**AVFFMAEConfig().fbank))
    samples = to_samples(AVFFMAEConfig().duration, 16_000)
    assert fbank(torch.randn(samples), 16_000, spec.fbank).shape == (128, 768)
    assert fbank(torch.randn(samples - 1), 16_000, spec.fbank).shape == (128, 767)


def test_tiny_is_small_and_depends_on_its_seed_only():
    first, same, other = AVFFMAE.tiny(1), AVFFMAE.tiny(1), AVFFMAE.tiny(2)
    assert count_parameters(first) < 4_000_000
    name = "audio_to_visual.tokens.weight"
    assert torch.equal(first.state_dict()[name], same.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_no_mel_filter_falls_between_two_frequencies():
    mel = AVFFMAE_TINY["mel"]
    filters = melscale_fbanks(mel["n_fft"] // 2 + 1, 0.0, 8000.0, mel["n_mels"], 16_000)
    assert (filters.sum(dim=0) > 0).all()


# --- the agreement of both streams ---


def test_centering_subtracts_the_batch_mean_in_training_and_the_running_mean_afterwards():
    centering = RunningMeanCentering(positions=3, dim=2, momentum=0.5)
    codes = torch.arange(6.0).reshape(3, 2)  # what all windows have in common
    batch = codes + torch.randn(16, 3, 2, generator=seeded())
    torch.testing.assert_close(centering(batch), batch - batch.mean(dim=0))
    for _ in range(20):
        centering(batch)
    alone = centering.eval()(batch[:1])
    torch.testing.assert_close(alone, batch[:1] - batch.mean(dim=0), atol=1e-4, rtol=1e-4)


def test_without_agreement_and_detail_the_head_sees_the_reduced_features(clips):
    model = build(agreement=False, detail=0).eval()
    assert model.fuse(model.forward_features(clips)).shape == (8, SLICES, 8 + 8)


def test_the_reduction_over_patches_written_out(clips):
    """Weights over all patches of a window, the same for each channel, in two layers."""
    model = build(agreement=False, detail=0, reduction="patch").eval()
    features = model.forward_features(clips)
    audio, visual = model.split_slices(features.audio), model.split_slices(features.visual)
    both = {
        "audio": torch.cat([audio, model.visual_to_audio(visual)], dim=-1),
        "visual": torch.cat([visual, model.audio_to_visual(audio)], dim=-1),
    }
    expected = []
    for stream, slices in both.items():
        first, _, last = getattr(model, f"{stream}_reduction").mlp
        patches = slices.reshape(8, -1, 48)  # (B, N, 2 D)
        hidden = torch.stack(
            [
                sum(w * patches[:, n] for n, w in enumerate(row)) + b
                for row, b in zip(first.weight, first.bias, strict=True)
            ]
        )  # (8, B, 2 D)
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))  # GELU
        expected.append(sum(w * h for w, h in zip(last.weight[0], hidden, strict=True)) + last.bias)
    fused = model.fuse(features)
    assert fused.shape == (8, 1, 4 * 24)
    torch.testing.assert_close(fused[:, 0], torch.cat(expected, dim=-1), atol=1e-5, rtol=1e-4)
    assert (fused[0] - fused[1]).abs().max() > 1e-3  # two windows are two inputs of the classifier


def test_the_reduction_over_patches_takes_agreement_and_detail_too(clips):
    model = build(reduction="patch").eval()
    assert model.fuse(model.forward_features(clips)).shape == (8, 1, 4 * 24 + 24 + 64)
    assert model(clips).shape == (8,)
