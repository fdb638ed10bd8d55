"""Published encoders: ours say what transformers' and timm's say, and no weight is loaded by luck."""

import argparse
import copy
import json
import shutil
from dataclasses import replace
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from einops import rearrange
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import VideoMAEConfig, VideoMAEForPreTraining

from avff_lib.errors import AVFFError
from avff_lib.models import AVFFMAE, AVFFMAEConfig, Detector, avff_mae, published
from avff_lib.nn.decoder import PatchDecoder
from avff_lib.nn.patches import AudioPatchEmbed, TokenEncoder, TubeletEmbed, unpatchify_video
from avff_lib.nn.positions import grid_positions
from avff_lib.preprocess.spec import ModelInputs

DIM, DEPTH, HEADS = 24, 2, 2
VIDEO_GRID, AUDIO_GRID = (8, 2, 2), (8, 2)
# Fields of an `AVFFMAEConfig` with encoders of that shape.
SMALL = {
    **{"dim": DIM, "depth": DEPTH, "heads": HEADS, "image_size": 16, "video_patch": (2, 8, 8)},
    **{"decoder_dim": 12, "decoder_depth": 1, "decoder_heads": 2, "reduced_dim": 8, "duration": 0.512},
    **{
        "audio_decoder_dim": 12,
        "audio_decoder_depth": 2,
        "audio_decoder_heads": 2,
        "audio_decoder_window": 2,
    },
    "fbank": {"num_mel_bins": 32, "frame_length": 4.0, "frame_shift": 4.0},  # 128 columns
}


def visual_encoder() -> TokenEncoder:
    embed = TubeletEmbed(DIM, (2, 8, 8))
    return TokenEncoder(embed, VIDEO_GRID, DIM, DEPTH, HEADS, class_token=False).eval()


def audio_encoder() -> TokenEncoder:
    return TokenEncoder(
        AudioPatchEmbed(DIM, (16, 16)), AUDIO_GRID, DIM, DEPTH, HEADS, class_token=True
    ).eval()


def visual_decoder() -> PatchDecoder:
    return PatchDecoder(VIDEO_GRID, DIM, 12, 1, 2, 2 * 8 * 8 * 3).eval()


def audio_decoder() -> PatchDecoder:
    return PatchDecoder(AUDIO_GRID, DIM, 12, 2, 2, 16 * 16, window=2).eval()


def noisy(model: torch.nn.Module) -> torch.nn.Module:
    """Weights far from their start: norms that do nothing and biases of 0 would hide a wrong place."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def videomae() -> VideoMAEForPreTraining:
    return noisy(
        VideoMAEForPreTraining(
            VideoMAEConfig(
                image_size=16, patch_size=8, num_frames=16, tubelet_size=2, hidden_size=DIM,
                num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=4 * DIM,
                use_mean_pooling=False, decoder_num_hidden_layers=1, decoder_hidden_size=12,
                decoder_num_attention_heads=2, decoder_intermediate_size=48,
            )
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def videomae_folder(videomae, tmp_path_factory):
    folder = tmp_path_factory.mktemp("videomae")
    videomae.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def audiomae() -> torch.nn.Module:
    return noisy(
        timm.create_model(
            "vit_tiny_patch16_224", img_size=(128, 32), in_chans=1, num_classes=0,
            embed_dim=DIM, depth=DEPTH, num_heads=HEADS,
        )
    )  # fmt: skip


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.randn(2, 16, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def log_mel() -> torch.Tensor:
    return torch.randn(2, 32, 128, generator=torch.Generator().manual_seed(2))


def as_marlin(state: dict, positions: torch.Tensor) -> dict:
    """The same weights under the names of MARLIN's own file: one matrix for queries, keys and values."""
    names = {
        "embeddings.patch_embeddings": "patch_embedding",
        "encoder.layer.": "blocks.",
        "decoder_layers.": "blocks.",
        "attention.output.dense": "attn.proj",
        "attention.attention": "attn",
        "intermediate.dense": "mlp.layers.0.linear",
        "output.dense": "mlp.layers.1.linear",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "layernorm": "norm",
        "encoder_to_decoder": "enc_dec_proj",
        "mask_token": "decoder.mask_token",
    }
    renamed = {
        "encoder.pos_embedding.emb": positions,
        "decoder.pos_embedding.emb": positions[..., :12],
        "discriminator.layers.0.linear.weight": torch.zeros(2),
    }
    for key, tensor in state.items():
        part = "encoder." if key.startswith("videomae.") else ""
        key = key.removeprefix("videomae.")
        for old, new in names.items():
            key = key.replace(old, new)
        renamed[part + key] = tensor
    for attention in ("encoder.blocks.0.attn.", "encoder.blocks.1.attn.", "decoder.blocks.0.attn."):
        parts = [renamed.pop(f"{attention}{part}.weight") for part in ("query", "key", "value")]
        renamed[f"{attention}qkv.weight"] = torch.cat(parts)
    for key in ("decoder.head.weight", "decoder.head.bias"):  # its values of a tubelet: colour first
        renamed[key] = rearrange(renamed[key], "(t h w c) ... -> (c t h w) ...", t=2, h=8, w=8)
    return renamed


def as_audiomae(model: torch.nn.Module) -> dict:
    """What AudioMAE's own file holds: the encoder under timm's names, and a decoder of shifted windows."""
    shapes = {
        **{"attn.tau": (2,), "attn.qkv.weight": (36, 12), "attn.qkv.bias": (36,)},
        **{"attn.proj.weight": (12, 12), "attn.proj.bias": (12,)},
        **{"attn.meta_mlp.fc1.weight": (384, 2), "attn.meta_mlp.fc1.bias": (384,)},
        **{"attn.meta_mlp.fc2.weight": (2, 384), "attn.meta_mlp.fc2.bias": (2,)},
        **{"norm1.weight": (12,), "norm1.bias": (12,), "norm2.weight": (12,), "norm2.bias": (12,)},
        **{"mlp.fc1.weight": (48, 12), "mlp.fc1.bias": (48,)},
        **{"mlp.fc2.weight": (12, 48), "mlp.fc2.bias": (12,)},
    }
    shapes = {f"decoder_blocks.{block}.{key}": shape for block in range(2) for key, shape in shapes.items()}
    shapes |= {
        **{"mask_token": (1, 1, 12), "decoder_pos_embed": (1, 17, 12)},
        **{"decoder_embed.weight": (12, DIM), "decoder_embed.bias": (12,)},
        **{"decoder_norm.weight": (12,), "decoder_norm.bias": (12,)},
        **{"decoder_pred.weight": (256, 12), "decoder_pred.bias": (256,)},
    }
    generator = torch.Generator().manual_seed(4)
    decoder = {key: 0.4 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    taus = {key: tensor.abs() + 0.005 for key, tensor in decoder.items() if key.endswith("tau")}
    return {**model.state_dict(), **decoder, **taus}


def slow_audiomae_decoder(state: dict, features: torch.Tensor) -> torch.Tensor:
    """AudioMAE's decoder, token by token: (B, 16, DIM) -> (B, 16, 256), windows of 2 x 2 patches."""

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (12,), state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)

    times, bands = AUDIO_GRID
    x = linear("decoder_embed", features) + state["decoder_pos_embed"][:, 1:]
    for block, shift in (("decoder_blocks.0", 0), ("decoder_blocks.1", 1)):
        query, key, value = linear(f"{block}.attn.qkv", x).view(len(x), -1, 3, 2, 6).unbind(2)
        tau = state[f"{block}.attn.tau"].clamp(min=0.01)
        attended = torch.zeros(len(x), times * bands, 2, 6)
        for here in range(times * bands):
            time, band = divmod(here, bands)
            logits, seen = [], []
            for there in range(times * bands):
                other, other_band = divmod(there, bands)
                # Windows are shifted in a circle; those who meet across its end do not see each other.
                if (time - shift) % times // 2 != (other - shift) % times // 2 or abs(time - other) > 1:
                    continue
                apart = torch.tensor([float(time - other), float(band - other_band)])
                hidden = linear(f"{block}.attn.meta_mlp.fc1", apart.sign() * apart.abs().log1p()).relu()
                cosine = F.cosine_similarity(query[:, here], key[:, there], dim=-1)  # (B, heads)
                logits.append(cosine / tau + linear(f"{block}.attn.meta_mlp.fc2", hidden))
                seen.append(value[:, there])
            weights = torch.stack(logits).softmax(dim=0)  # (seen, B, heads)
            attended[:, here] = (weights[..., None] * torch.stack(seen)).sum(dim=0)
        x = x + norm(f"{block}.norm1", linear(f"{block}.attn.proj", attended.flatten(2)))
        x = x + norm(f"{block}.norm2", linear(f"{block}.mlp.fc2", F.gelu(linear(f"{block}.mlp.fc1", x))))
    return linear("decoder_pred", norm("decoder_norm", x))


def assert_same(ours: torch.Tensor, theirs: torch.Tensor, atol: float = 1e-5) -> None:
    assert theirs.std() > 0.5  # equal outputs say something only where there is something in them
    assert (theirs[:, 0] - theirs[:, -1]).abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


@pytest.mark.parametrize("form", ["folder", "safetensors", "bin", "without its decoder"])
@torch.no_grad()
def test_the_video_encoder_says_what_videomae_says(form, videomae, videomae_folder, frames, tmp_path):
    path = {"folder": videomae_folder, "safetensors": videomae_folder / "model.safetensors"}.get(form)
    if form == "bin":  # the names that the model has in memory
        torch.save(videomae.state_dict(), path := tmp_path / "pytorch_model.bin")
    elif path is None:
        videomae.videomae.save_pretrained(path := tmp_path)
    encoder = visual_encoder()
    weights = published.read_video_mae(str(path))
    published.load_encoder(encoder, weights)
    assert_same(encoder(frames), videomae.videomae(frames).last_hidden_state)
    assert weights.settings["mean"] == (0.485, 0.456, 0.406)
    if form == "without its decoder":
        with pytest.warns(UserWarning, match="holds no decoder"):
            published.load_decoder(visual_decoder(), weights)
        return
    features = torch.randn(2, 32, DIM, generator=torch.Generator().manual_seed(5))
    published.load_decoder(decoder := visual_decoder(), weights)
    codes = grid_positions((32,), 12)
    theirs = videomae.decoder(videomae.encoder_to_decoder(features) + codes, return_token_num=32).logits
    assert_same(decoder(features), theirs, atol=1e-4)  # its last norm has an epsilon of 1e-5, ours 1e-6


@torch.no_grad()
def test_the_video_encoder_says_what_marlin_says(videomae, videomae_folder, frames, tmp_path):
    """MARLIN is VideoMAE under other names, with its position codes in the file."""
    state = load_file(videomae_folder / "model.safetensors")
    positions = torch.randn(1, 32, DIM, generator=torch.Generator().manual_seed(3))
    torch.save(as_marlin(state, positions), tmp_path / "marlin.pt")
    twin = copy.deepcopy(videomae.videomae)
    twin.embeddings.position_embeddings = positions
    encoder = visual_encoder()
    weights = published.read_video_mae(str(tmp_path / "marlin.pt"))
    published.load_encoder(encoder, weights)
    assert_same(encoder(frames), twin(frames).last_hidden_state)
    assert weights.settings == {"mean": (0, 0, 0), "std": (1, 1, 1)}
    # More codes may be for a longer clip or for a larger picture: nothing is guessed.
    longer = {**weights.encoder, "positions": positions.repeat(1, 2, 1)}
    with pytest.raises(AVFFError, match="positions has shape"):
        published.load_encoder(encoder, replace(weights, encoder=longer))


@torch.no_grad()
def test_the_video_decoder_paints_what_marlins_paints(videomae, videomae_folder, tmp_path):
    """MARLIN's tubelets hold their colours one after the other, as its own arrangement into a film shows."""
    positions = torch.randn(1, 32, DIM, generator=torch.Generator().manual_seed(3))
    state = as_marlin(load_file(videomae_folder / "model.safetensors"), positions)
    torch.save(state, tmp_path / "marlin.pt")
    published.load_decoder(decoder := visual_decoder(), published.read_video_mae(str(tmp_path / "marlin.pt")))
    features = torch.randn(2, 32, DIM, generator=torch.Generator().manual_seed(5))
    tokens = F.linear(features, state["enc_dec_proj.weight"]) + state["decoder.pos_embedding.emb"]
    for layer in videomae.decoder.decoder_layers:
        tokens = layer(tokens)
    values = F.linear(videomae.decoder.norm(tokens), state["decoder.head.weight"], state["decoder.head.bias"])
    film = rearrange(
        values, "b (t h w) (c u p q) -> b (t u) c (h p) (w q)", t=8, h=2, w=2, c=3, u=2, p=8, q=8
    )
    assert_same(unpatchify_video(decoder(features), (2, 8, 8), 16), film, atol=1e-4)


@pytest.mark.parametrize("form", ["AudioMAE's file", "timm's folder", "longer window"])
@torch.no_grad()
def test_the_audio_encoder_says_what_a_timm_vit_says(form, audiomae, log_mel, tmp_path):
    path, state = tmp_path, as_audiomae(audiomae)
    if form == "timm's folder":
        save_file(audiomae.state_dict(), tmp_path / "model.safetensors")
    else:
        path = tmp_path / "pretrained.pth"
        if form == "longer window":  # two more moments behind the ones that are wanted
            state["pos_embed"] = torch.cat([state["pos_embed"], torch.randn(1, 4, DIM)], dim=1)
        torch.save({"model": state, "args": argparse.Namespace(lr=1e-3, mask_ratio=0.8)}, path)
    encoder = audio_encoder()
    published.load_encoder(encoder, published.read_audiomae(str(path)))
    assert_same(encoder(log_mel), audiomae.forward_features(log_mel.mT[:, None])[:, 1:])


@torch.no_grad()
def test_the_audio_decoder_says_what_audiomaes_says(audiomae, tmp_path):
    state = as_audiomae(audiomae)
    torch.save({"model": state}, tmp_path / "pretrained.pth")
    weights = published.read_audiomae(str(tmp_path / "pretrained.pth"))
    published.load_decoder(decoder := audio_decoder(), weights)
    features = torch.randn(2, 16, DIM, generator=torch.Generator().manual_seed(6))
    assert_same(decoder(features), slow_audiomae_decoder(state, features))
    assert weights.settings == {"audio_mean": -4.2677393, "audio_std": 9.1379948}


def test_heads_that_a_card_states_must_be_the_models(videomae_folder, tmp_path):
    shutil.copytree(videomae_folder, tmp_path / "videomae")
    card = json.loads((tmp_path / "videomae" / "config.json").read_text())
    for key, part in (("num_attention_heads", "encoder"), ("decoder_num_attention_heads", "decoder")):
        (tmp_path / "videomae" / "config.json").write_text(json.dumps({**card, key: 3}))
        weights = published.read_video_mae(str(tmp_path / "videomae"))
        load = {"encoder": published.load_encoder, "decoder": published.load_decoder}[part]
        module = {"encoder": visual_encoder, "decoder": visual_decoder}[part]()
        assert_refused(load, module, weights, saying=f"the {part} of .* has 3 heads, the model 2")


@torch.no_grad()
def test_base_puts_both_encoders_into_the_model(
    videomae, videomae_folder, audiomae, frames, log_mel, tmp_path, monkeypatch
):
    """The way that the preset goes, on small files in the formats of the published ones."""
    monkeypatch.setattr(avff_mae, "AVFFMAEConfig", partial(AVFFMAEConfig, **SMALL))
    torch.save({"model": as_audiomae(audiomae)}, tmp_path / "audiomae.pth")
    model = AVFFMAE.base(audio=str(tmp_path / "audiomae.pth"), visual=str(videomae_folder)).eval()
    assert model.spec.mean == (0.485, 0.456, 0.406)
    assert model.spec.audio == "fbank"
    inputs = ModelInputs(frames, log_mel * model.config.audio_std + model.config.audio_mean)
    model.save_pretrained(tmp_path / "saved")
    for one in (model, Detector.from_pretrained(tmp_path / "saved")):
        features = one.forward_features(inputs)
        assert_same(features.visual, videomae.videomae(frames).last_hidden_state)
        assert_same(features.audio, audiomae.forward_features(log_mel.mT[:, None])[:, 1:])


@pytest.fixture(params=["VideoMAE", "MARLIN", "AudioMAE"])
def load(request, videomae_folder, videomae, audiomae, tmp_path):
    """The weights of a published file, and a function that writes some to a file and loads it."""

    def write_and_load(state):
        path = str(tmp_path / "model.safetensors")
        save_file({key: tensor.clone() for key, tensor in state.items()}, path)
        if request.param == "AudioMAE":
            weights, parts = published.read_audiomae(path), (audio_encoder(), audio_decoder())
        else:
            weights, parts = published.read_video_mae(path), (visual_encoder(), visual_decoder())
        published.load_encoder(parts[0], weights)
        published.load_decoder(parts[1], weights)

    state = load_file(videomae_folder / "model.safetensors")
    if request.param == "MARLIN":
        state = as_marlin(state, videomae.videomae.embeddings.position_embeddings)
    elif request.param == "AudioMAE":
        state = as_audiomae(audiomae)
    return state, write_and_load


def assert_refused(call, *args, saying: str = "choose|expected|copy") -> None:
    with pytest.raises(AVFFError, match=saying) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch's advice to run a stranger's code


def used(state: dict) -> list[str]:
    return [key for key in state if "mask_token" not in key and not key.startswith("discriminator")]


def test_every_weight_must_be_there(load):
    state, write_and_load = load
    write_and_load(state)
    assert len(used(state)) > 20
    for key in used(state):
        # The other position codes are a formula's values, and the formula is known.
        if "pos_embed" not in key or key == "pos_embed":
            assert_refused(write_and_load, {k: v for k, v in state.items() if k != key})


def test_every_weight_must_fit(load):
    state, write_and_load = load
    for key in used(state):
        assert_refused(write_and_load, {**state, key: torch.zeros(3, 5)})
        assert_refused(write_and_load, {**state, key: torch.zeros(())})


def test_no_weight_may_be_left_over(load):
    state, write_and_load = load
    first = next(key for key in used(state) if ".0." in key)
    assert_refused(write_and_load, {**state, "colour": torch.zeros(2)}, saying="colour")
    assert_refused(write_and_load, {**state, first + ".extra": torch.zeros(2)}, saying="extra")


def test_position_codes_of_a_shorter_window_are_refused(audiomae, tmp_path):
    state = as_audiomae(audiomae)
    torch.save({**state, "pos_embed": state["pos_embed"][:, :-2]}, tmp_path / "a.pth")
    weights = published.read_audiomae(str(tmp_path / "a.pth"))
    assert_refused(published.load_encoder, audio_encoder(), weights, saying="positions has shape")


def test_weights_of_the_other_stream_are_refused(videomae_folder, audiomae, tmp_path):
    torch.save(as_audiomae(audiomae), tmp_path / "a.pth")
    assert_refused(published.read_video_mae, str(tmp_path / "a.pth"), saying="no known part")
    assert_refused(published.read_audiomae, str(videomae_folder), saying="no known part")


class Foreign:
    """What a file of weights has no business to hold."""


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("damage", ["cut off", "empty", "text"])
def test_a_damaged_file_is_refused(suffix, damage, audiomae, tmp_path):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(audiomae.state_dict(), path)
    else:
        save_file(audiomae.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes({"cut off": whole[: len(whole) // 2], "empty": b"", "text": b"version https\n"}[damage])
    assert_refused(published.read_audiomae, str(path), saying="cannot be read as weights")


@pytest.mark.parametrize("content", [{"model": Foreign()}, [torch.zeros(2)], {"model": [1, 2]}, {}])
def test_a_file_of_something_else_is_refused(content, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    assert_refused(published.read_audiomae, str(path))


def test_a_folder_without_weights_and_an_absent_hub_are_said(tmp_path):
    assert_refused(published.read_video_mae, str(tmp_path), saying="holds neither model.safetensors nor")
    assert_refused(published.read_video_mae, "nobody/nothing", saying="nobody/nothing cannot be loaded here")
    assert_refused(AVFFMAE.base, saying="cannot be loaded here")


def test_a_repository_with_the_older_format_only_is_read(audiomae, tmp_path, monkeypatch):
    torch.save(audiomae.state_dict(), tmp_path / "pytorch_model.bin")

    def download(name, file, **where):
        assert name == "somebody/something"
        if not (tmp_path / file).exists():
            raise EntryNotFoundError(file)
        return str(tmp_path / file)

    monkeypatch.setattr(published, "hf_hub_download", download)
    published.load_encoder(audio_encoder(), published.read_audiomae("somebody/something"))
