"""Cross-modal fusion against its definition, over many shapes."""

import math

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from avff_lib.nn.cross_modal import CrossModalFusion, agreement
from avff_lib.nn.features import Features
from avff_lib.nn.positions import time_positions

sizes = settings(max_examples=25, deadline=None, derandomize=True)
counts = st.integers(1, 20)


def random_features(batch: int, frames: int, steps: int, dim: int, seed: int = 0) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(
        audio=torch.randn(batch, steps, dim, generator=generator),
        visual=torch.randn(batch, frames, dim, generator=generator),
    )


def fusion_of(dim: int, heads: int, duration: float = 1.0) -> CrossModalFusion:
    """As after some training: no weight is where it started."""
    torch.manual_seed(0)
    fusion = CrossModalFusion(dim, heads, duration).eval()
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return fusion


def attend_slowly(fusion: CrossModalFusion, features: Features) -> tuple[Tensor, Tensor]:
    """Attention as it is defined: one sample, one head, one frame, one step at a time."""
    attention = fusion.attention
    audio, visual = fusion.norm_audio(features.audio), fusion.norm_visual(features.visual)
    dim, heads = attention.embed_dim, attention.num_heads

    def code(index: int, count: int) -> Tensor:
        time = (index + 0.5) / count * fusion.duration
        periods = [10 ** (-1 + 2 * i / max(1, dim // 2 - 1)) for i in range(dim // 2)]
        clocks = [(math.sin(2 * math.pi * time / p), math.cos(2 * math.pi * time / p)) for p in periods]
        return torch.tensor(clocks).flatten()

    to_query, to_key, to_value = attention.in_proj_weight.chunk(3)
    add_query, add_key, add_value = attention.in_proj_bias.chunk(3)
    batch, frames, steps = len(audio), visual.shape[1], audio.shape[1]
    found, weights = torch.zeros(batch, frames, dim), torch.zeros(batch, heads, frames, steps)
    for b in range(batch):
        keys = [to_key @ (audio[b, s] + code(s, steps)) + add_key for s in range(steps)]
        values = [to_value @ audio[b, s] + add_value for s in range(steps)]
        for t in range(frames):
            query = to_query @ (visual[b, t] + code(t, frames)) + add_query
            for h in range(heads):
                own = slice(h * dim // heads, (h + 1) * dim // heads)
                scores = torch.stack([query[own] @ key[own] for key in keys]) / math.sqrt(dim / heads)
                weights[b, h, t] = scores.exp() / scores.exp().sum()
                found[b, t, own] = weights[b, h, t] @ torch.stack(values)[:, own]
    return attention.out_proj(found), weights


@sizes
@given(
    batch=st.integers(1, 3), frames=st.integers(1, 6), steps=st.integers(1, 7),
    heads=st.sampled_from([1, 2, 4]), pairs=st.integers(1, 4), duration=st.floats(0.2, 4.0),
)  # fmt: skip
@torch.no_grad()
def test_attention_is_what_its_definition_says(batch, frames, steps, heads, pairs, duration):
    dim = 2 * heads * pairs
    fusion = fusion_of(dim, heads, duration)
    features = random_features(batch, frames, steps, dim)
    _, found, weights = fusion.attend(features)
    slow_found, slow_weights = attend_slowly(fusion, features)
    torch.testing.assert_close(weights, slow_weights, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found, slow_found, atol=1e-4, rtol=1e-4)


@sizes
@given(frames=st.integers(2, 16), steps=st.integers(2, 49), at=st.integers(0, 15))
@torch.no_grad()
def test_a_frame_moves_its_own_look_up_and_no_other(frames, steps, at):
    at %= frames
    fusion = fusion_of(32, 4)
    features = random_features(2, frames, steps, 32)
    visual = features.visual.clone()
    visual[0, at] += torch.linspace(-3, 3, 32)
    _, before, weights = fusion.attend(features)
    _, after, moved_weights = fusion.attend(Features(features.audio, visual))
    moved = (after - before).abs().amax(dim=-1) > 1e-5  # (2, T)
    expected = torch.zeros(2, frames, dtype=torch.bool)
    expected[0, at] = True
    assert torch.equal(moved, expected)
    assert (weights - moved_weights)[0, :, at].abs().max() > 1e-4


@pytest.mark.parametrize("frames", [1, 16])
def test_queries_and_keys_learn_only_from_more_than_one_key(frames):
    """With a single key nothing that makes queries or keys ever gets a gradient: the silent no-op."""

    def gradient(steps: int) -> Tensor:
        fusion = fusion_of(32, 4)
        fusion.attend(random_features(2, frames, steps, 32))[1].square().sum().backward()
        return fusion.attention.in_proj_weight.grad[:64].abs().max()

    assert gradient(steps=1) == 0
    assert gradient(steps=2) > 1e-4


@sizes
@given(frames=counts, steps=counts, place=st.integers(0, 7))
@torch.no_grad()
def test_one_sample_alone_is_the_same_in_a_batch_of_eight(frames, steps, place):
    fusion = fusion_of(16, 2)
    eight = random_features(8, frames, steps, 16)
    one = Features(eight.audio[place : place + 1], eight.visual[place : place + 1])
    torch.testing.assert_close(fusion(one)[0], fusion(eight)[place], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(agreement(one)[0], agreement(eight)[place], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_batch_check_finds_attention_across_the_batch():
    """The check above is worth something: without ``batch_first`` it fails."""
    fusion = fusion_of(16, 2)
    wrong = nn.MultiheadAttention(16, 2)
    wrong.load_state_dict(fusion.attention.state_dict())
    fusion.attention = wrong.eval()
    eight = random_features(8, 12, 12, 16)  # as many steps as frames, or torch would complain
    one = Features(eight.audio[:1], eight.visual[:1])
    assert (fusion(one)[0] - fusion(eight)[0]).abs().max() > 1e-2


@sizes
@given(
    slow=st.integers(1, 40), half=st.integers(0, 3), windows=st.integers(1, 4),
    half_dim=st.integers(1, 40), duration=st.floats(0.1, 4.0),
)  # fmt: skip
def test_equal_times_have_equal_codes_whatever_rate_and_window(slow, half, windows, half_dim, duration):
    dim, factor = 2 * half_dim, 2 * half + 1
    codes = time_positions(slow, dim, duration)
    assert codes.shape == (slow, dim)
    # The middle of a part is the middle of the middle one of its odd number of smaller parts.
    faster = time_positions(slow * factor, dim, duration)
    torch.testing.assert_close(codes, faster[half::factor], atol=2e-3, rtol=0)
    longer = time_positions(slow * windows, dim, duration * windows)
    torch.testing.assert_close(codes, longer[:slow], atol=2e-3, rtol=0)


@sizes
@given(steps=st.integers(2, 60), half_dim=st.integers(8, 64))
def test_likeness_of_codes_depends_on_the_difference_of_times_alone(steps, half_dim):
    codes = time_positions(steps, 2 * half_dim, 1.0)
    likeness = codes @ codes.T / half_dim  # (N, N)
    for apart in range(steps):
        diagonal = likeness.diagonal(apart)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=0)
    torch.testing.assert_close(likeness.diagonal(), torch.ones(steps))
    assert likeness[~torch.eye(steps, dtype=torch.bool)].max() < 1


@sizes
@given(frames=st.integers(2, 12), factor=st.integers(1, 4), scale=st.floats(0.1, 10), offset=st.floats(-5, 5))
def test_agreement_is_the_cosine_of_the_changes(frames, factor, scale, offset):
    features = random_features(3, frames, frames * factor, 8)
    audio = rearrange(features.audio, "b (t k) d -> b t k d", k=factor).mean(dim=2)
    audio = audio - audio.mean(dim=1, keepdim=True)
    visual = features.visual - features.visual.mean(dim=1, keepdim=True)
    cosine = (audio * visual).sum(dim=-1) / (audio.norm(dim=-1) * visual.norm(dim=-1))
    torch.testing.assert_close(agreement(features).mean(dim=-1), cosine, atol=1e-4, rtol=1e-4)
    # How strongly a stream changes, and where it rests, says nothing of synchrony.
    other = Features(scale * features.audio + offset * torch.arange(8), features.visual)
    torch.testing.assert_close(agreement(other), agreement(features), atol=1e-3, rtol=1e-3)
