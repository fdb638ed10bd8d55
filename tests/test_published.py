"""Published encoders: ours say what transformers' and timm's say, and no weight is loaded by luck."""

import argparse
import copy
from functools import partial

import pytest
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import VideoMAEConfig, VideoMAEForPreTraining

from avff_lib.errors import AVFFError
from avff_lib.models import AVFFMAE, AVFFMAEConfig, Detector, avff_mae, published
from avff_lib.nn.patches import AudioPatchEmbed, TokenEncoder, TubeletEmbed
from avff_lib.preprocess.spec import ModelInputs

DIM, DEPTH, HEADS = 24, 2, 2
VIDEO_GRID, AUDIO_GRID = (8, 2, 2), (8, 2)
# Fields of an `AVFFMAEConfig` with encoders of that shape.
SMALL = {
    **{"dim": DIM, "depth": DEPTH, "heads": HEADS, "image_size": 16, "video_patch": (2, 8, 8)},
    **{"decoder_dim": 12, "decoder_depth": 1, "decoder_heads": 2, "reduced_dim": 8, "duration": 0.512},
    "mel": {"n_fft": 512, "hop_length": 64, "n_mels": 32, "win_length": 256},
}


def visual_encoder() -> TokenEncoder:
    embed = TubeletEmbed(DIM, (2, 8, 8))
    return TokenEncoder(embed, VIDEO_GRID, DIM, DEPTH, HEADS, class_token=False).eval()


def audio_encoder() -> TokenEncoder:
    return TokenEncoder(
        AudioPatchEmbed(DIM, (16, 16)), AUDIO_GRID, DIM, DEPTH, HEADS, class_token=True
    ).eval()


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
                decoder_num_attention_heads=2, decoder_intermediate_size=12,
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
        "attention.output.dense": "attn.proj",
        "attention.attention": "attn",
        "intermediate.dense": "mlp.layers.0.linear",
        "output.dense": "mlp.layers.1.linear",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "layernorm": "norm",
    }
    renamed = {"encoder.pos_embedding.emb": positions}
    renamed |= dict.fromkeys(
        ("decoder.head.weight", "decoder.mask_token", "enc_dec_proj.weight", "discriminator.layers.0.weight"),
        torch.zeros(2),
    )
    for key, tensor in state.items():
        if key.startswith("videomae."):
            key = key.removeprefix("videomae.")
            for old, new in names.items():
                key = key.replace(old, new)
            renamed["encoder." + key] = tensor
    for block in range(DEPTH):
        attention = f"encoder.blocks.{block}.attn."
        parts = [renamed.pop(f"{attention}{part}.weight") for part in ("query", "key", "value")]
        renamed[f"{attention}qkv.weight"] = torch.cat(parts)
    return renamed


def as_audiomae(model: torch.nn.Module) -> dict:
    """What AudioMAE's own file holds: the encoder under timm's names, and the decoder."""
    other_half = ("mask_token", "decoder_embed.weight", "decoder_pos_embed", "decoder_blocks.0.norm1.weight")
    return {**model.state_dict(), **dict.fromkeys(other_half, torch.zeros(2))}


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.std() > 0.5  # equal outputs say something only where there is something in them
    assert (theirs[:, 0] - theirs[:, -1]).abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", ["folder", "safetensors", "bin", "without its decoder"])
@torch.no_grad()
def test_the_video_encoder_says_what_videomae_says(form, videomae, videomae_folder, frames, tmp_path):
    path = {"folder": videomae_folder, "safetensors": videomae_folder / "model.safetensors"}.get(form)
    if form == "bin":  # the names that the model has in memory
        torch.save(videomae.state_dict(), path := tmp_path / "pytorch_model.bin")
    elif path is None:
        videomae.videomae.save_pretrained(path := tmp_path)
    encoder = visual_encoder()
    state, statistics = published.read_visual_weights(str(path))
    published.load_encoder(encoder, state, str(path))
    assert_same(encoder(frames), videomae.videomae(frames).last_hidden_state)
    assert statistics == published.IMAGENET


@torch.no_grad()
def test_the_video_encoder_says_what_marlin_says(videomae, videomae_folder, frames, tmp_path):
    """MARLIN is VideoMAE under other names, with its position codes in the file."""
    state = load_file(videomae_folder / "model.safetensors")
    positions = torch.randn(1, 32, DIM, generator=torch.Generator().manual_seed(3))
    torch.save(as_marlin(state, positions), tmp_path / "marlin.pt")
    twin = copy.deepcopy(videomae.videomae)
    twin.embeddings.position_embeddings = positions
    encoder = visual_encoder()
    state, statistics = published.read_visual_weights(str(tmp_path / "marlin.pt"))
    published.load_encoder(encoder, state, "marlin.pt")
    assert_same(encoder(frames), twin(frames).last_hidden_state)
    assert statistics.mean == (0, 0, 0)
    assert statistics.std == (1, 1, 1)
    # More codes may be for a longer clip or for a larger picture: nothing is guessed.
    with pytest.raises(AVFFError, match="positions has shape"):
        published.load_encoder(encoder, state | {"positions": positions.repeat(1, 2, 1)}, "marlin.pt")


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
    published.load_encoder(encoder, published.read_audio_weights(str(path)), str(path))
    assert_same(encoder(log_mel), audiomae.forward_features(log_mel.mT[:, None])[:, 1:])


@torch.no_grad()
def test_base_puts_both_encoders_into_the_model(
    videomae, videomae_folder, audiomae, frames, log_mel, tmp_path, monkeypatch
):
    """The way that the preset goes, on small files in the formats of the published ones."""
    monkeypatch.setattr(avff_mae, "AVFFMAEConfig", partial(AVFFMAEConfig, **SMALL))
    torch.save({"model": as_audiomae(audiomae)}, tmp_path / "audiomae.pth")
    model = AVFFMAE.base(audio=str(tmp_path / "audiomae.pth"), visual=str(videomae_folder)).eval()
    assert model.spec.mean == published.IMAGENET.mean
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
            published.load_encoder(encoder := audio_encoder(), published.read_audio_weights(path), path)
        else:
            published.load_encoder(encoder := visual_encoder(), published.read_visual_weights(path)[0], path)
        return encoder

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


def used(state: dict) -> list[str]:
    keys = [key for key in state if not key.startswith(("decoder", "mask_token", "enc", "discriminator"))]
    return keys + [key for key in state if key.startswith("encoder.")]


def test_every_weight_must_be_there(load):
    state, write_and_load = load
    write_and_load(state)
    assert len(used(state)) > 20
    for key in used(state):
        if key != "encoder.pos_embedding.emb":  # it holds a formula's values, and the formula is known
            assert_refused(write_and_load, {k: v for k, v in state.items() if k != key})


def test_every_weight_must_fit(load):
    state, write_and_load = load
    for key in used(state):
        assert_refused(write_and_load, {**state, key: torch.zeros(3, 5)})


def test_no_weight_may_be_left_over(load):
    state, write_and_load = load
    first = next(key for key in used(state) if ".0." in key)
    assert_refused(write_and_load, {**state, "colour": torch.zeros(2)}, saying="colour")
    assert_refused(write_and_load, {**state, first + ".extra": torch.zeros(2)}, saying="extra")


def test_position_codes_of_a_shorter_window_are_refused(audiomae, tmp_path):
    state = as_audiomae(audiomae)
    torch.save({**state, "pos_embed": state["pos_embed"][:, :-2]}, tmp_path / "a.pth")
    state = published.read_audio_weights(str(tmp_path / "a.pth"))
    assert_refused(published.load_encoder, audio_encoder(), state, "a.pth", saying="positions has shape")


def test_weights_of_the_other_stream_are_refused(videomae_folder, audiomae, tmp_path):
    torch.save(as_audiomae(audiomae), tmp_path / "a.pth")
    assert_refused(published.read_visual_weights, str(tmp_path / "a.pth"), saying="no known part")
    assert_refused(published.read_audio_weights, str(videomae_folder), saying="no known part")


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
    assert_refused(published.read_audio_weights, str(path), saying="cannot be read as weights")


@pytest.mark.parametrize("content", [{"model": Foreign()}, [torch.zeros(2)], {"model": [1, 2]}, {}])
def test_a_file_of_something_else_is_refused(content, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    assert_refused(published.read_audio_weights, str(path))


def test_a_folder_without_weights_and_an_absent_hub_are_said(tmp_path):
    assert_refused(published.read_visual_weights, str(tmp_path), saying="holds neither model.safetensors nor")
    assert_refused(
        published.read_visual_weights, "nobody/nothing", saying="nobody/nothing cannot be loaded here"
    )
    assert_refused(AVFFMAE.base, saying="cannot be loaded here")


def test_a_repository_with_the_older_format_only_is_read(audiomae, tmp_path, monkeypatch):
    torch.save(audiomae.state_dict(), tmp_path / "pytorch_model.bin")

    def download(name, file, **where):
        assert name == "somebody/something"
        if not (tmp_path / file).exists():
            raise EntryNotFoundError(file)
        return str(tmp_path / file)

    monkeypatch.setattr(published, "hf_hub_download", download)
    published.load_encoder(audio_encoder(), published.read_audio_weights("somebody/something"), "it")
