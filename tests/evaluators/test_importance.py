"""Sorting brings what is important to the front, and no trained network notices."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evaluators.supernet.importance import Effects, sort_by_importance
from evaluators.supernet.shrinking import DEPTH, DIMENSIONS, SIZES, narrowed
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.long_conv import LongConv
from search_spaces.blocks.mlstm import MLSTM
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.spaces.hybrid_lm import channel_mixer, sequence_mixer
from search_spaces.spaces.laptop import laptop
from search_spaces.supernet import Supernet
from tests.evaluators.tiny import Fade

STAGES = ((), (SIZES,), (SIZES, DEPTH), DIMENSIONS)


def space_of(mixer: Any, channels: Any = None, **options: Any) -> Space:
    layer = Layer(sequence_mixer=mixer, channel_mixer=channels, **options)
    return Space(Decoder(vocab=13, d_model=one_of(8, 16, 24), layers=repeat(layer, (1, 2))))


SPACES = [
    *(space_of(mixer) for mixer in sequence_mixer().options),
    *(space_of(ShortConv(), channels) for channels in channel_mixer().options),
    space_of(Attention(num_heads=one_of(4, 8), num_kv_heads=1, head_dim=one_of(4, 6), rotary=False)),
    space_of(Attention(num_heads=8, num_kv_heads=one_of(1, 2, 4), head_dim=4)),
    space_of(Attention(num_heads=6, num_kv_heads=one_of(1, 2, 3, 6), head_dim=4)),
    space_of(
        one_of(
            Attention(num_heads=8, num_kv_heads=1, head_dim=4),
            Attention(num_heads=4, num_kv_heads=4, head_dim=6),
        )
    ),
    space_of(Attention(num_heads=one_of(2, 4), num_kv_heads=2, head_dim=4), SwiGLU(expansion=one_of(1, 2))),
    space_of(GatedLinearAttention(num_heads=one_of(2, 4), head_dim=one_of(4, 8), state_dim=one_of(3, 5))),
    space_of(MLSTM(num_heads=one_of(2, 4), head_dim=one_of(4, 8), state_dim=one_of(3, 5))),
    space_of(RGLRU(num_heads=one_of(2, 4), head_dim=one_of(4, 8))),
    space_of(LongConv(length=5), MoE(num_experts=one_of(3, 5), top_k=2, expansion=one_of(1, 2))),
    space_of(
        ShortConv(), routing=one_of(None, MixtureOfDepths(capacity=0.5)), exit=one_of(None, EarlyExit())
    ),
]


def randomised(space: Space, seed: int) -> Supernet:
    """Every value away from its start; gains of channels far apart, so that sorting has something to do."""
    supernet, dice = Supernet(space, seed=seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in supernet.parameters():
            weight += 0.1 * torch.empty_like(weight).normal_(generator=dice)
    return supernet


def effects_of(supernet: Supernet, number: int) -> Effects | None:
    """None (norms count) in every second space; effects that half of the parameters have in the others."""
    if number % 2:
        return None
    dice = torch.Generator().manual_seed(number)
    made = {key: torch.rand(weight.shape, generator=dice) for key, weight in supernet.weights.items()}
    known = set(list(made)[:: 1 if number % 4 else 2])
    return lambda key: made[key] if key in known else None


def outputs(supernet: Supernet, part: Space, count: int, seed: int) -> list[Tensor]:
    """What random networks of a part of the space compute in float64, in full precision."""
    dice, found = Random(seed), []
    tokens = torch.randint(13, (2, 19), generator=torch.Generator().manual_seed(seed))
    for _ in range(count):
        subnet = supernet.subnet(part.close(part.sample(dice)))
        weights = {b.name: supernet.weights[b.key][b.index].detach().double() for b in subnet.bindings}
        found.append(subnet(tokens, weights))
    return found


@pytest.mark.parametrize("number", range(len(SPACES)))
@torch.no_grad()
def test_no_trained_network_changes_what_it_computes(number: int) -> None:
    space, moved = SPACES[number], 0
    supernet = randomised(space, number)
    parts = [narrowed(space, varies) for varies in STAGES]
    for before, after in pairwise(parts):
        expected = outputs(supernet, before, 6, number)
        axes = sort_by_importance(supernet, before.root, after.root, effects=effects_of(supernet, number))
        moved += sum(axis.moved for axis in axes)
        for logits, logits_before in zip(outputs(supernet, before, 6, number), expected, strict=True):
            torch.testing.assert_close(logits, logits_before, rtol=0, atol=1e-5)
    assert moved > 0


@torch.no_grad()
def test_a_slice_is_its_copy_bit_for_bit_after_sorting() -> None:
    space = laptop()
    supernet, dice = randomised(space, 1), Random(0)
    sort_by_importance(supernet, narrowed(space, ()).root, narrowed(space, (SIZES,)).root)
    sort_by_importance(supernet, narrowed(space, (SIZES, DEPTH)).root, space.root)
    for number in range(12):
        subnet = supernet.subnet(space.close(space.sample(dice)))
        text = torch.randint(256, (2, 1 + 5 * number), generator=torch.Generator().manual_seed(number))
        assert torch.equal(subnet(text), subnet.extract()(text))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), kept=st.integers(1, 15))
def test_the_strongest_channels_are_kept(seed: int, kept: int) -> None:
    space = Space(
        Decoder(
            vocab=5,
            d_model=8,
            layers=(Layer(sequence_mixer=ShortConv(), channel_mixer=SwiGLU(expansion=one_of(kept / 8, 2))),),
        )
    )
    supernet, dice = Supernet(space, seed=seed), torch.Generator().manual_seed(seed)
    key = "layers.0.channel_mixer:SwiGLU.mixer."
    gains = torch.rand(16, generator=dice) + torch.arange(16)[torch.randperm(16, generator=dice)]
    with torch.no_grad():
        for name in ("gated", "up"):
            supernet.weights[key + name].copy_(gains[:, None].expand(16, 8))
        supernet.weights[key + "down"].copy_(gains.expand(8, 16))
        sort_by_importance(supernet, narrowed(space, ()).root, space.root)
    best = gains.sort(descending=True).values
    assert torch.equal(supernet.weights[key + "up"][:kept, 0], best[:kept])
    assert torch.equal(supernet.weights[key + "down"][0, :kept], best[:kept])


@torch.no_grad()
def test_effects_decide_where_they_are_given() -> None:
    space = Space(
        Decoder(
            vocab=5,
            d_model=8,
            layers=(
                Layer(
                    sequence_mixer=ShortConv(),
                    channel_mixer=MoE(num_experts=one_of(2, 4), top_k=1, expansion=one_of(1, 2)),
                ),
            ),
        )
    )
    supernet, key = randomised(space, 3), "layers.0.channel_mixer:MoE.mixer."
    wanted = {f"{key}up": torch.zeros(4, 16, 8), f"{key}router": torch.zeros(4, 8)}
    dice = torch.Generator().manual_seed(1)
    of_channels = torch.stack([torch.randperm(16, generator=dice) for _ in range(4)]).float()
    wanted[f"{key}up"] += of_channels[..., None]
    wanted[f"{key}router"][:, 3] = torch.tensor([0.0, 3000.0, 1000.0, 2000.0])
    supernet.weights[f"{key}down"].copy_(
        of_channels[:, None].expand(4, 8, 16) + 100 * torch.arange(4)[:, None, None]
    )
    sort_by_importance(
        supernet,
        narrowed(space, ()).root,
        space.root,
        moments=lambda key: [wanted[key]] if key in wanted else [],  # effects belong to the weights
        effects=wanted.get,
    )
    down = supernet.weights[f"{key}down"][:, 0]
    assert (down[:, 0] // 100).tolist() == [1, 3, 2, 0]
    assert torch.equal(down % 100, torch.arange(15, -1, -1).float().expand(4, 16))


@torch.no_grad()
def test_slices_that_were_trained_stay_together() -> None:
    space = space_of(ShortConv(), SwiGLU(expansion=one_of(1, 2)))
    supernet = randomised(space, 2)
    key = "layers.0.channel_mixer:SwiGLU.mixer.down"
    labels = torch.arange(48).repeat(24, 1).float()
    supernet.weights[key].copy_(labels)
    sizes, whole = narrowed(space, (SIZES, DEPTH)), space
    sort_by_importance(supernet, sizes.root, whole.root)
    after = supernet.weights[key][0]
    assert set(after[:24].tolist()) == set(range(24))
    assert not torch.equal(after[:24], labels[0, :24])
    assert after[:24].tolist() != sorted(after[:24].tolist())


@torch.no_grad()
def test_the_moments_of_the_optimizer_move_along() -> None:
    space = SPACES[-2]
    supernet = randomised(space, 4)
    shadow = {key: weight.detach().clone() for key, weight in supernet.weights.items()}
    before = {key: weight.detach().clone() for key, weight in supernet.weights.items()}
    sort_by_importance(supernet, narrowed(space, ()).root, space.root, moments=lambda key: [shadow[key]])
    assert all(torch.equal(shadow[key], weight) for key, weight in supernet.weights.items())
    assert not all(torch.equal(before[key], weight) for key, weight in supernet.weights.items())


def test_what_cannot_be_sorted_says_why() -> None:
    space = space_of(one_of(Fade(), ShortConv()))
    supernet = Supernet(space)
    axes = sort_by_importance(supernet, narrowed(space, ()).root, space.root)
    assert [(axis.path, axis.moved) for axis in axes if axis.letter == "D"] == [("d_model", 0)]
    assert any("Fade declares no layout" in axis.reason for axis in axes)
    assert "layers.0.sequence_mixer:Fade" in next(axis.reason for axis in axes if axis.letter == "D")
