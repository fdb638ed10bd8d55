"""Maps add up, point at what was planted, pass the deletion game, and change with the weights."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from avff_lib import synth
from avff_lib.errors import AVFFError
from avff_lib.explain import (
    attention_map,
    deletion_curves,
    integrated_gradients,
    neutral_baseline,
    randomize_weights,
    rank_correlation,
    reconstruction_error,
)
from avff_lib.faces.crop import crop_face
from avff_lib.faces.mouth import speaker_face
from avff_lib.models import AVFF, AVFFMAE, Detector
from avff_lib.nn.features import Features
from avff_lib.nn.patches import patchify_audio, patchify_video
from avff_lib.preprocess.prepare import prepare_batch
from avff_lib.preprocess.spec import InputSpec, MelSpec, ModelInputs

SHARES = torch.tensor([0.0, 0.05, 0.2, 0.5, 1.0])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(spec: InputSpec, batch: int = 1, seed: int = 0) -> ModelInputs:
    frames = torch.randn(batch, spec.frame_count, 3, spec.image_size, spec.image_size, generator=seeded(seed))
    samples = round(spec.duration * spec.sample_rate)
    shape = (samples,) if spec.audio == "waveform" else (spec.mel.n_mels, 1 + samples // spec.mel.hop_length)
    return ModelInputs(frames, 5 * torch.randn(batch, *shape, generator=seeded(seed + 1)))


class OnePlace(nn.Module):
    """Depends on one square of one frame, and on one corner of the spectrogram or one tone."""

    def __init__(self, audio: str) -> None:
        super().__init__()
        self.spec = InputSpec(frame_count=4, image_size=32, audio=audio, mel=MelSpec())
        self.eval()

    def forward(self, inputs: ModelInputs) -> torch.Tensor:
        square = inputs.frames[:, 2, :, 8:12, 20:24].square().mean(dim=(1, 2, 3))
        if self.spec.audio == "mel":
            return 10 * square + inputs.audio[:, :4, :2].mean(dim=(1, 2)).tanh()
        # A tone of 3000 Hz: bin 96 of 257, band 5 of 16.
        tone = torch.sin(2 * torch.pi * 3000 / 16_000 * torch.arange(inputs.audio.shape[-1]))
        return 10 * square + (inputs.audio * tone).mean(dim=1)


@pytest.fixture(scope="module")
def fakes() -> list:
    """Three fakes of unseen people, and the real version of each, cropped to the face."""
    plans = [p for p in synth.plan_corpus(60, 60, seed=99, methods=()) if p.split == "test"]
    pairs = []
    for plan, method in zip(plans, ("blended_mouth", "revoiced", "shifted_voice"), strict=False):
        clips = [synth.make_clip(p) for p in (replace(plan, method=method, segment=(0.0, 3.2)), plan)]
        pairs.append([crop_face(clip, speaker_face(clip), 64) for clip in clips])
    return pairs


@pytest.mark.parametrize("audio", ["mel", "waveform"])
def test_a_planted_place_is_found_and_nothing_else(audio):
    model = OnePlace(audio)
    inputs = noise(model.spec)
    if audio == "waveform":
        tone = torch.sin(2 * torch.pi * 3000 / 16_000 * torch.arange(16_000))
        inputs = ModelInputs(inputs.frames, inputs.audio / 50 + tone)
    empty = ModelInputs(torch.zeros_like(inputs.frames), torch.zeros_like(inputs.audio))
    found = integrated_gradients(model, inputs, empty, steps=8)
    assert found.gap < 1e-3
    cells = found.cells()[: 4 * 64].view(4, 8, 8)
    assert cells[2, 2, 5] > 0
    cells[2, 2, 5] = 0
    assert cells.abs().max() < 1e-6
    audio_cells = found.cells()[4 * 64 :].view(16, 16)
    if audio == "mel":
        assert audio_cells[0, 0].abs() == audio_cells.abs().max()
    else:  # the sixth band, all the time
        assert audio_cells[5:7].sum() > 0.95 * audio_cells.sum()
        assert abs(audio_cells.sum() - 0.5) < 0.01  # the mean of the square of a sine


@pytest.mark.parametrize("family", [AVFF, AVFFMAE])
def test_shares_add_up_and_the_model_is_left_as_it_was(family):
    model = family.tiny(1).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inputs = noise(model.spec)
    with torch.inference_mode():  # also where a caller has switched gradients off
        empty = neutral_baseline(inputs, model.spec, seeded())
        found = integrated_gradients(model, inputs, empty, steps=16)
    assert found.frames.shape == (16, 64, 64)
    expected = found.logit - found.baseline
    assert abs(float(found.cells().sum()) - expected) < 0.05 * max(1.0, abs(expected))
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_several_baselines_give_the_mean_of_their_maps():
    model = OnePlace("mel")
    inputs, others = noise(model.spec), noise(model.spec, batch=2, seed=5)
    both = integrated_gradients(model, inputs, others, steps=4)
    each = [
        integrated_gradients(model, inputs, ModelInputs(others.frames[[i]], others.audio[[i]]), steps=4)
        for i in (0, 1)
    ]
    torch.testing.assert_close(both.frames, (each[0].frames + each[1].frames) / 2)
    assert both.baseline == pytest.approx((each[0].baseline + each[1].baseline) / 2, abs=1e-5)


def test_deletion_begins_at_the_window_and_ends_at_the_baseline():
    model = OnePlace("mel")
    inputs, other = noise(model.spec), noise(model.spec, seed=5)
    cells = integrated_gradients(model, inputs, other, steps=4).cells()
    curves = deletion_curves(model, inputs, other, cells, seeded(), shares=SHARES)
    for curve in (curves.by_map, curves.at_random, curves.reversed):
        assert curve[0] == pytest.approx(model(inputs).item(), abs=1e-5)
        assert curve[-1] == pytest.approx(model(other).item(), abs=1e-5)


@pytest.mark.parametrize("name", ["avff-tiny", "avffmae-tiny"])
def test_deleting_by_the_map_lowers_the_logit_of_fakes_more_than_at_random(fakes, name):
    model, gains, against_reversed = Detector.from_pretrained(name), [], []
    for fake, _ in fakes:
        inputs = prepare_batch([fake.window(1.0, model.spec.duration)], model.spec)
        empty = neutral_baseline(inputs, model.spec, seeded())
        found = integrated_gradients(model, inputs, empty, steps=16)
        curves = deletion_curves(model, inputs, empty, found.cells(), seeded(), shares=SHARES, orders=1)
        gains.append(curves.gain)
        against_reversed.append(float(torch.trapezoid(curves.reversed - curves.by_map, SHARES)))
    assert sum(gains) / 3 > 1.5
    assert sum(against_reversed) / 3 > 3


def test_maps_of_random_weights_are_others(fakes):
    model = Detector.from_pretrained("avffmae-tiny")
    inputs = prepare_batch([fakes[0][0].window(1.0, model.spec.duration)], model.spec)
    empty = neutral_baseline(inputs, model.spec, seeded())
    first, again, other = (
        integrated_gradients(m, inputs, empty, steps=8) for m in (model, model, randomize_weights(model, 1))
    )
    assert rank_correlation(first, again) == pytest.approx((1.0, 1.0))
    frames, audio = rank_correlation(first, other)
    assert abs(frames) < 0.15
    assert abs(audio) < 0.35  # 256 cells, and neighbours are alike: six models gave up to 0.2
    assert not torch.equal(
        randomize_weights(model, 1).classifier[1].weight, randomize_weights(model, 2).classifier[1].weight
    )


def test_a_shifted_voice_is_badly_reconstructed_from_the_lips(fakes):
    shifted, real = fakes[2]
    for name in ("avff-tiny", "avffmae-tiny"):
        model = Detector.from_pretrained(name)
        pair = prepare_batch([c.window(1.0, model.spec.duration) for c in (real, shifted)], model.spec)
        with torch.inference_mode():
            agreement = model.agreement(model.encode(pair)).mean(dim=1)
        assert agreement[0] > agreement[1] + 0.1, name
    result = reconstruction_error(model, pair)
    assert result.audio.shape == result.video_shifted.shape == (2, 8)
    assert result.times[0] == pytest.approx(0.08)
    assert 0.5 < result.audio.min() < result.audio.max() < 2
    excess = result.excess[0].mean(dim=1)
    assert excess[0] < excess[1]


def test_a_slice_does_not_help_to_predict_itself(monkeypatch):
    model = AVFFMAE.tiny(0).eval()
    inputs = noise(model.spec)
    first, features = reconstruction_error(model, inputs), model.encode(inputs)
    changed = features.audio.clone()
    changed[:, : changed.shape[1] // 8] += 5 * torch.randn(changed.shape[-1], generator=seeded())
    monkeypatch.setattr(model, "encode", lambda _: Features(changed, features.visual))
    then = reconstruction_error(model, inputs)
    torch.testing.assert_close(then.audio[:, 0], first.audio[:, 0])  # masked, so without influence
    assert (then.video[:, 0] - first.video[:, 0]).abs() > 1e-5  # predicted from it


@torch.inference_mode()
def test_attention_is_what_the_last_block_gives_each_patch():
    model = AVFFMAE.tiny(seed=3).eval()
    inputs = noise(model.spec)
    found = attention_map(model, inputs)
    assert found.frames.shape == inputs.frames[0, :, 0].shape
    assert found.audio.shape == inputs.audio[0].shape
    spectrogram, config = model.spectrogram(inputs), model.config
    video_patches = patchify_video(found.frames[None, :, None], config.video_patch)
    audio_patches = patchify_audio(found.audio[None, :, : spectrogram.shape[-1]], config.audio_patch)
    streams = {
        model.visual_encoder: (inputs.frames, video_patches),
        model.audio_encoder: (spectrogram, audio_patches),
    }
    for encoder, (stream, patches) in streams.items():
        tokens = encoder.embed(stream)
        for block in encoder.blocks[:-1]:
            tokens = block(tokens)
        last = encoder.blocks[-1]
        qkv = last.attn.qkv(last.norm1(tokens)).unflatten(-1, (3, last.attn.num_heads, -1))
        query, key, _ = qkv.permute(2, 0, 3, 1, 4)  # (1, heads, N, D / heads)
        # With one-hot values an attention returns its weights.
        values = torch.eye(key.shape[2]).expand(*key.shape[:2], -1, -1)
        weights = nn.functional.scaled_dot_product_attention(query, key, values).mean(dim=(0, 1, 2))
        torch.testing.assert_close(patches.sum(dim=-1)[0], weights)
        assert patches.std(dim=-1).max() < 1e-6  # shared out evenly
        assert float(patches.sum()) == pytest.approx(1, abs=1e-4)


def test_what_cannot_be_explained_is_an_error_of_one_sentence():
    model = OnePlace("mel")
    inputs, two = noise(model.spec), noise(model.spec, batch=2)
    with pytest.raises(AVFFError, match=r"expected one window, \(1, 4, 3, 32, 32\)"):
        integrated_gradients(model, two, inputs)
    with pytest.raises(AVFFError, match="prepare both by the same spec"):
        integrated_gradients(model, inputs, ModelInputs(inputs.frames, inputs.audio[..., :-1]))
    with pytest.raises(AVFFError, match="steps is 0"):
        integrated_gradients(model, inputs, inputs, steps=0)
    with pytest.raises(AVFFError, match="NaN or infinity"):
        integrated_gradients(model, ModelInputs(inputs.frames * torch.nan, inputs.audio), inputs)
    with pytest.raises(AVFFError, match="and one baseline"):
        deletion_curves(model, inputs, inputs, torch.zeros(3), seeded())
    with pytest.raises(AVFFError, match=r"model\.eval"):
        integrated_gradients(model.train(), inputs, inputs)
    with pytest.raises(AVFFError, match="take an AVFFMAE"):
        reconstruction_error(AVFF.tiny(), inputs)
    with pytest.raises(AVFFError, match="give an AVFFMAE"):
        attention_map(AVFF.tiny(), inputs)
    with pytest.raises(AVFFError, match="2 windows were given"):
        attention_map(AVFFMAE.tiny(), two)
