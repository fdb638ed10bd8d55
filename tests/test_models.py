"""The documented model: the field's mistakes cannot return, and what is saved is what is loaded."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_model_data_config
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from avff_lib.errors import AVFFError
from avff_lib.media.clip import Clip
from avff_lib.models import AVFF, AVFFConfig, Detector
from avff_lib.models.base import count_parameters
from avff_lib.models.checkpoint import CONFIG_NAME, WEIGHTS_NAME
from avff_lib.nn.cross_modal import CrossModalFusion, agreement
from avff_lib.nn.features import Features
from avff_lib.nn.positions import time_positions
from avff_lib.preprocess.prepare import prepare
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.training.objectives import classification_loss, pretraining_loss


def random_features(batch: int = 2, dim: int = 32) -> Features:
    generator = torch.Generator().manual_seed(1)
    return Features(
        audio=torch.randn(batch, 49, dim, generator=generator),
        visual=torch.randn(batch, 16, dim, generator=generator),
    )


def test_shapes_from_window_to_logit(mini, inputs):
    features = mini.forward_features(inputs)
    assert features.audio.shape == (4, 49, 32)  # 20 ms a step, the last one cut by the receptive field
    assert features.visual.shape == (4, 16, 32)
    fused = mini.fuse(features)
    assert fused.shape == (4, 16, 32 + 32 + 64)  # together, agreement, detail of both streams
    assert mini.forward_head(fused).shape == (4,)
    mini.eval()
    torch.testing.assert_close(mini(inputs), mini.forward_head(mini.fuse(mini.forward_features(inputs))))


def test_a_sample_does_not_depend_on_its_batch_mates(mini, inputs):
    mini.eval()
    alone = torch.cat(
        [mini(ModelInputs(inputs.frames[i : i + 1], inputs.audio[i : i + 1])) for i in range(4)]
    )
    torch.testing.assert_close(mini(inputs), alone, atol=1e-5, rtol=1e-5)


def test_attention_depends_on_the_query():
    fusion = CrossModalFusion(32, 4, duration=1.0).eval()
    features = random_features()
    _, found, weights = fusion.attend(features)
    _, other, _ = fusion.attend(Features(features.audio, features.visual.flip(1)))
    assert (found - other).abs().max() > 1e-3
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 16))
    # The silent no-op of the circulated snippets: one key, so every weight is 1.
    pooled = Features(features.audio.mean(1, keepdim=True), features.visual)
    assert fusion.attend(pooled)[2].eq(1).all()


def test_fusion_starts_as_a_look_up_by_time():
    fusion = CrossModalFusion(128, 8, duration=1.0).eval()
    silent = Features(torch.zeros(1, 49, 128), torch.zeros(1, 16, 128))
    weights = fusion.attend(silent)[2].mean(dim=1)[0]  # (16, 49)
    found_at = (weights.argmax(dim=1) + 0.5) / 49
    asked_at = (torch.arange(16) + 0.5) / 16
    assert (found_at - asked_at).abs().max() < 1.5 / 49


def test_equal_times_have_equal_codes_at_any_rate():
    slow, fast = time_positions(10, 16, 1.0), time_positions(30, 16, 1.0)
    torch.testing.assert_close(slow, fast[1::3])  # the middle of 1/10 s is the middle of every third 1/30 s


def test_different_clips_give_the_classifier_different_inputs(mini, inputs):
    seen = []
    mini.classifier.mlp.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    mini.eval()(inputs)
    for part in seen[0].split([32, 32, 64], dim=1):  # what is fused, what agrees, what the detail is
        assert torch.pdist(part).min() > 1e-3


def test_agreement_is_high_for_streams_that_change_alike_and_only_then():
    generator = torch.Generator().manual_seed(0)
    changing, static = torch.randn(2, 16, 32, generator=generator), 5 * torch.randn(2, 1, 32)
    alike = agreement(Features(changing, changing + static))  # (2, 16, 32)
    torch.testing.assert_close(alike.mean(dim=-1), torch.ones(2, 16))
    shifted = agreement(Features(changing.roll(4, dims=1), changing))
    assert shifted.mean(dim=-1).abs().mean() < 0.3


@pytest.mark.parametrize(
    ("objective", "untouched"),
    [(pretraining_loss, ("classifier.", "detail.")), (classification_loss, ("decoder.",))],
)
def test_every_weight_of_a_stage_gets_a_gradient(mini, inputs, objective, untouched):
    labels = torch.tensor([0, 1, 0, 1])
    objective(mini, inputs, labels, torch.Generator().manual_seed(0))["loss"].backward()
    without = [name for name, p in mini.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias on all keys alike changes no softmax, so torch gives it a gradient of zero up to rounding.
    assert {name for name in without if not name.startswith(untouched)} <= {
        "audio_encoder.backbone.encoder.layers.0.attention.k_proj.bias",
        "audio_encoder.backbone.encoder.layers.1.attention.k_proj.bias",
    }
    assert {name for name, _ in mini.named_parameters() if name.startswith(untouched)} <= set(without)


def test_stage_one_stops_when_features_collapse(mini, inputs):
    torch.nn.init.zeros_(mini.visual_encoder.project.weight)
    with pytest.raises(AVFFError, match="collapsed"):
        pretraining_loss(mini, inputs, torch.zeros(4), torch.Generator())


def test_save_and_load_give_the_same_model(mini, inputs, tmp_path):
    mini.save_pretrained(tmp_path)
    loaded = Detector.from_pretrained(tmp_path)
    assert type(loaded) is AVFF
    assert loaded.config == mini.config
    torch.testing.assert_close(loaded(inputs), mini.eval()(inputs), atol=0, rtol=0)


def test_half_precision_takes_half_the_space_and_judges_alike(mini, inputs, tmp_path):
    mini.save_pretrained(tmp_path / "whole")
    mini.save_pretrained(tmp_path / "half", half=True)
    whole, half = ((tmp_path / name / WEIGHTS_NAME).stat().st_size for name in ("whole", "half"))
    assert half < 0.6 * whole
    loaded = Detector.from_pretrained(tmp_path / "half")
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded(inputs), mini.eval()(inputs), atol=1e-2, rtol=0)


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_weights_are_loaded_strictly(mini, tmp_path, change):
    mini.save_pretrained(tmp_path)
    weights = load_file(tmp_path / WEIGHTS_NAME)
    if change == "missing":
        del weights["decoder.mlp.1.weight"]
    elif change == "unknown":
        weights["a2v.weight"] = torch.zeros(2)
    else:
        weights["decoder.mlp.1.weight"] = torch.zeros(2, 2)
    save_file(weights, tmp_path / WEIGHTS_NAME)
    with pytest.raises(AVFFError, match="one checkpoint"):
        AVFF.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda config: config.pop("heads"), "heads is missing"),
        (lambda config: config.update(colour="red"), "'colour' is not a setting"),
        (lambda config: config.update(family="GAN"), "no known model family"),
        (lambda config: config.update(heads=7), "multiple"),
    ],
)
def test_config_is_loaded_strictly(mini, tmp_path, edit, message):
    mini.save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG_NAME).read_text())
    edit(config)
    (tmp_path / CONFIG_NAME).write_text(json.dumps(config))
    with pytest.raises(AVFFError, match=message):
        AVFF.from_pretrained(tmp_path)


def test_a_folder_without_a_model_and_broken_files_are_refused(mini, tmp_path):
    with pytest.raises(AVFFError, match="holds no config"):
        AVFF.from_pretrained(tmp_path)
    mini.save_pretrained(tmp_path)
    (tmp_path / WEIGHTS_NAME).write_bytes(b"not safetensors")
    with pytest.raises(AVFFError, match="cannot be read"):
        AVFF.from_pretrained(tmp_path)
    (tmp_path / CONFIG_NAME).write_text("[1]")
    with pytest.raises(AVFFError, match="not a JSON object"):
        AVFF.from_pretrained(tmp_path)


def test_tiny_preset_is_small_and_depends_on_its_seed_only():
    first, same, other = AVFF.tiny(1), AVFF.tiny(1), AVFF.tiny(2)
    assert count_parameters(first) < 6_000_000
    name = "fusion.mlp.0.weight"
    assert torch.equal(first.state_dict()[name], same.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


@pytest.fixture
def encoders(tmp_path) -> tuple[Wav2Vec2Model, torch.nn.Module]:
    """Small models, in folders ``wav2vec2`` and ``vit`` in the same formats as the published ones."""
    wav2vec2 = Wav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
            conv_dim=[16] * 7, num_conv_pos_embeddings=15, num_conv_pos_embedding_groups=4,
        )
    )  # fmt: skip
    wav2vec2.save_pretrained(tmp_path / "wav2vec2")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path / "wav2vec2")
    size = {"img_size": 32, "patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2}
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, **size)
    (tmp_path / "vit").mkdir()
    save_file(vit.state_dict(), tmp_path / "vit" / "model.safetensors")
    card = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 0,
        "model_args": size,
        "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]},
    }
    (tmp_path / "vit" / "config.json").write_text(json.dumps(card))
    return wav2vec2.eval(), vit.eval()


def test_base_loads_local_folders_in_the_hubs_formats(encoders, tmp_path):
    wav2vec2, vit = encoders
    model = AVFF.base(str(tmp_path / "wav2vec2"), str(tmp_path / "vit")).eval()
    sound = torch.randn(1, 16_000)
    torch.testing.assert_close(
        model.audio_encoder.backbone(sound).last_hidden_state, wav2vec2(sound).last_hidden_state
    )
    picture = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(model.visual_encoder.backbone(picture), vit(picture))
    assert model.spec.mean == (0.1, 0.2, 0.3)  # the checkpoint's own, not ImageNet's
    assert model.spec.sample_rate == 16_000
    model.save_pretrained(tmp_path / "saved")
    again = AVFF.from_pretrained(tmp_path / "saved")
    assert again.config == model.config
    torch.testing.assert_close(again.visual_encoder.backbone(picture), vit(picture))


def test_each_encoder_gets_what_its_own_preprocessor_makes(encoders, tmp_path):
    """Wav2Vec2's feature extractor and timm's transform, on the same sound and picture as `prepare`."""
    model = AVFF.base(str(tmp_path / "wav2vec2"), str(tmp_path / "vit"))
    rng = np.random.default_rng(0)
    clip = Clip(
        frames=rng.integers(0, 255, (25, 32, 32, 3), dtype=np.uint8),
        times=np.arange(25) / 25,
        waveform=(0.1 * rng.standard_normal(16_000) + 0.05).astype(np.float32),
        sample_rate=16_000,
        start=0.0,
        duration=1.0,
    )
    inputs = prepare(clip, model.spec)
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "wav2vec2")
    expected = extractor(clip.waveform, sampling_rate=16_000, return_tensors="pt").input_values
    torch.testing.assert_close(inputs.audio, expected, atol=1e-4, rtol=1e-4)
    shown = clip.frames[clip.nearest_frames(model.spec.frame_times)]
    options = resolve_model_data_config(model.visual_encoder.backbone) | {"crop_pct": 1.0}
    transform = create_transform(**options)
    pictures = torch.stack([transform(Image.fromarray(frame)) for frame in shown])
    torch.testing.assert_close(inputs.frames[0], pictures, atol=1e-4, rtol=1e-4)


def test_an_audio_encoder_for_waveforms_as_they_are_is_refused(encoders, tmp_path):
    change_json(tmp_path / "wav2vec2" / "preprocessor_config.json", do_normalize=False)
    with pytest.raises(AVFFError, match="do_normalize is false"):
        AVFF.base(str(tmp_path / "wav2vec2"), str(tmp_path / "vit"))


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_of_a_strangers_audio_encoder_only_its_settings_are_used(encoders, tmp_path):
    foreign = {
        "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"},
        "_attn_implementation": "stranger/kernel",
        "attn_implementation": "stranger/kernel",
        "name_or_path": "stranger/model",
        "mask_channel_prob": 0.1,
    }
    (tmp_path / "wav2vec2" / "code.py").write_text("raise SystemExit('a stranger's code was run')")
    change_json(tmp_path / "wav2vec2" / "config.json", **foreign)
    model = AVFF.base(str(tmp_path / "wav2vec2"), str(tmp_path / "vit"))
    assert model.config.audio["hidden_size"] == 32
    assert not model.config.audio.keys() & foreign.keys()
    change_json(tmp_path / "wav2vec2" / "config.json", add_adapter=True)
    with pytest.raises(AVFFError, match="expects a wav2vec2 model without"):
        AVFF.base(str(tmp_path / "wav2vec2"), str(tmp_path / "vit"))
    change_json(tmp_path / "wav2vec2" / "config.json", model_type="stranger")
    with pytest.raises(AVFFError, match="cannot be loaded here") as caught:
        AVFF.base(str(tmp_path / "wav2vec2"), str(tmp_path / "vit"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        ({"model_args": {"checkpoint_path": "weights.pt"}}, "'visual.checkpoint_path' is not a setting"),
        ({"model_args": {"pretrained_cfg": {}}}, "'visual.pretrained_cfg' is not a setting"),
        ({"architecture": "hf-hub:stranger/model"}, "expected a name that timm"),
        ({"model_args": {}}, "cannot be loaded here"),  # weights of another size
        ({"model_args": [1]}, "cannot be loaded here"),
    ],
    ids=str,
)
def test_a_strangers_visual_encoder_is_a_timm_model_with_known_settings(encoders, tmp_path, card, sentence):
    change_json(tmp_path / "vit" / "config.json", **card)
    with pytest.raises(AVFFError, match=sentence) as caught:
        AVFF.base(str(tmp_path / "wav2vec2"), str(tmp_path / "vit"))
    assert "\n" not in str(caught.value)


def test_encoders_without_readable_weights_are_said(encoders, tmp_path):
    (tmp_path / "vit" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(AVFFError, match="vit cannot be loaded here"):
        AVFF.base(str(tmp_path / "wav2vec2"), str(tmp_path / "vit"))
    (tmp_path / "wav2vec2" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(AVFFError, match="wav2vec2 cannot be loaded here"):
        AVFF.base(str(tmp_path / "wav2vec2"), str(tmp_path / "vit"))


@pytest.mark.parametrize("offline", ["0", "1"])
def test_base_without_a_hub_says_so_within_seconds(offline, tmp_path):
    """A hub that cannot be reached costs one short attempt, not half a minute."""
    code = (
        "import time; from avff_lib.models import AVFF; from avff_lib.errors import AVFFError\n"
        "start = time.monotonic()\n"
        "try: AVFF.base()\n"
        "except AVFFError as error: print(f'{time.monotonic() - start:.1f}|{error}')"
    )
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes the call and never says a word
        endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}"
        environment = {"HF_HUB_OFFLINE": offline, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)}
        result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    seconds, message = result.stdout.strip().split("|")
    assert float(seconds) < 10
    assert "preset 'tiny'" in message
    assert "\n" not in message


def test_wrong_encoders_are_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(AVFFError, match="bert model"):
        AVFF.base(audio=str(tmp_path))
    start = time.monotonic()
    with pytest.raises(AVFFError, match="cannot be loaded"):
        AVFF.base(audio="nobody/nothing")
    assert time.monotonic() - start < 5


def test_config_states_value_expectation_and_remedy():
    with pytest.raises(AVFFError, match="threshold is 1"):
        AVFFConfig(threshold=1.0)
