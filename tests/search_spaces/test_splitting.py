"""Blocks as sums of parts: what the layouts of all blocks allow, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from foundation.errors import SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, blocks
from search_spaces.blocks.deepseek_moe import DeepSeekMoE
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.ops.shards import parts_in_all, rms_norm_of_parts, split_into, sum_over_parts
from search_spaces.parameter_axes import Layout
from search_spaces.scenario import Scenario
from search_spaces.splitting import split_of

D_MODEL = 32

WHOLE = ("Hyena", "LongConv", "Retention", "S4", "S4D", "ShortConv")
"""Blocks that mix the channels of d_model alone, or whose heads differ by their place."""


@pytest.mark.parametrize("name", sorted(set(blocks) - set(WHOLE)))
def test_most_blocks_have_parts_that_add_up(name: str) -> None:
    found = []
    for block in blocks[name].examples():
        try:
            found.append(split_of(block, D_MODEL, 2))
        except SettingError:
            continue
    assert found, f"no example of {name} can be split"
    assert all(split.cuts for split in found)


@pytest.mark.parametrize("name", WHOLE)
def test_other_blocks_are_refused_with_a_reason(name: str) -> None:
    with pytest.raises(SettingError, match=rf"{name}.*(cannot be split into 2 parts: .+|no layout)"):
        split_of(blocks[name].examples()[0], D_MODEL, 2)


def test_heads_go_with_their_keys_and_values() -> None:
    split = split_of(Attention(num_heads=8, num_kv_heads=4, head_dim=8), D_MODEL, 4)
    assert split.cuts == {"wq": 0, "wk": 0, "wv": 0, "wo": 1}
    assert split.shape("wq", (8, 8, D_MODEL)) == (2, 8, D_MODEL)


def test_keys_and_values_that_all_heads_share_are_whole() -> None:
    split = split_of(Attention(num_heads=8, num_kv_heads=1, head_dim=8), D_MODEL, 4)
    assert split.cuts == {"wq": 0, "wo": 1}


def test_routed_and_shared_experts_are_cut_together() -> None:
    split = split_of(DeepSeekMoE(num_experts=4, top_k=2, shared_experts=1, expansion=0.5), D_MODEL, 2)
    assert {"gated", "shared_gated"} <= set(split.cuts)
    assert "router" not in split.cuts


def test_a_norm_over_all_heads_is_one_sum() -> None:
    assert split_of(Mamba2(num_heads=4, head_dim=8, state_dim=16), D_MODEL, 2).letters == "H"
    x, weight = torch.randn(3, 8, dtype=torch.double), torch.randn(8, dtype=torch.double)
    whole = rms_norm_of_parts(x, weight, 1e-5)
    squares = x.square().sum(-1, keepdim=True)
    with split_into(2, lambda _: squares):
        halves = [rms_norm_of_parts(x[:, i : i + 4], weight[i : i + 4], 1e-5) for i in (0, 4)]
        assert parts_in_all() == 2
    torch.testing.assert_close(torch.cat(halves, -1), whole)
    assert parts_in_all() == 1
    assert sum_over_parts(x) is x


def test_a_part_is_a_view() -> None:
    split = split_of(Attention(num_heads=4, num_kv_heads=4, head_dim=8), D_MODEL, 2)
    weight = torch.arange(4 * 8 * D_MODEL, dtype=torch.float32).reshape(4, 8, D_MODEL)
    assert torch.equal(split.part("wq", weight, 1), weight[2:])
    assert split.part("bias", weight, 1) is weight


@dataclass(frozen=True, kw_only=True)
class Tangled(Block):
    """Hidden channels that are normed together, which its layout does not tell."""

    mixes: ClassVar = "channels"
    coupled: bool = True

    def build(self, d_model: int) -> Mixer:
        return TangledMixer(d_model, self.coupled)

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        return Cost(params=16 * d_model)

    def layout(self) -> Layout:
        return Layout({"up": "F D", "down": "D F"}, "DF")


class TangledMixer(Mixer):
    def __init__(self, d_model: int, coupled: bool) -> None:
        super().__init__()
        self.coupled = coupled
        self.up = nn.Parameter(torch.empty(8, d_model))
        self.down = nn.Parameter(torch.empty(d_model, 8))

    def forward(self, x: Tensor, state: Any = None, position: int = 0) -> Mixed:
        hidden = x @ self.up.T
        return Mixed((hidden.softmax(-1) if self.coupled else hidden.relu()) @ self.down.T, state)

    def reset_parameters(self, dice: torch.Generator) -> None:
        for weight in (self.up, self.down):
            weight.normal_(generator=dice)


def test_a_block_of_ones_own_is_covered_by_its_layout_or_refused() -> None:
    assert split_of(Tangled(coupled=False), D_MODEL, 2).cuts == {"up": 0, "down": 1}
    with pytest.raises(SettingError, match=r"Tangled cannot be split .*outputs of the parts do not add up"):
        split_of(Tangled(), D_MODEL, 2)


def test_what_does_not_divide_is_told() -> None:
    with pytest.raises(SettingError, match="F has 8 entries, which 3 does not divide"):
        split_of(Tangled(coupled=False), D_MODEL, 3)
