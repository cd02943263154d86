"""Every block against its reference: at full size, at odd lengths, and on leading slices of larger weights.

A reference is built at the size of the slice and given the sliced weights, so this shows the mathematics and
the slicing at once, for outputs and gradients (see `search_spaces.parity`). Second formulations, which
compute in any precision, must agree to the rounding of float64.
"""

from __future__ import annotations

import os
import sys
from dataclasses import fields, replace
from random import Random
from typing import Any

import pytest
import torch

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.based import Based
from search_spaces.blocks.block_sparse_attention import BlockSparseAttention
from search_spaces.blocks.deepseek_moe import DeepSeekMoE
from search_spaces.blocks.delta_net import DeltaNet
from search_spaces.blocks.differential_attention import DifferentialAttention
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.gshard import GShard
from search_spaces.blocks.hyena import Hyena
from search_spaces.blocks.latent_attention import LatentAttention
from search_spaces.blocks.linear_attention import LinearAttention
from search_spaces.blocks.long_conv import LongConv
from search_spaces.blocks.mamba import Mamba
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.mlstm import MLSTM
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.performer import Performer
from search_spaces.blocks.retention import Retention
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.rwkv6 import RWKV6
from search_spaces.blocks.rwkv_channel_mix import RWKVChannelMix
from search_spaces.blocks.s4 import S4
from search_spaces.blocks.s4d import S4D
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.slstm import SLSTM
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.blocks.switch import Switch
from search_spaces.parity import TOLERANCE, deviation
from search_spaces.references import reference_of, references
from tests.blocks.random_sizes import SIZES, smaller

os.environ["HF_HUB_OFFLINE"] = "1"

WIDTH = 24
EXAMPLES = [spec for kind in blocks.values() if reference_of(kind) for spec in kind.examples()]
CORNERS: list[Block] = [
    Attention(num_heads=4, num_kv_heads=2, head_dim=8),
    Attention(num_heads=4, num_kv_heads=1, head_dim=8, window=16),
    Attention(num_heads=4, num_kv_heads=1, head_dim=7, rotary=False),
    Attention(num_heads=4, num_kv_heads=2, head_dim=8, window=5, dilation=2, global_tokens=9, rotary=False),
    DifferentialAttention(num_heads=3, num_kv_heads=3, head_dim=8),
    LatentAttention(num_heads=2, head_dim=4, rope_dim=8, kv_rank=30),
    Performer(num_heads=3, head_dim=8, num_features=21),
    Based(num_heads=2, window_heads=3, head_dim=8, state_dim=5, window=8),
    Mamba(channels=48, state_dim=16, dt_rank=5, conv_kernel=3),
    Mamba(channels=48, state_dim=16, dt_rank=5, conv_kernel=4, norms=True),
    MLSTM(num_heads=4, head_dim=8, state_dim=16, forget_gate="exponential"),
    MoE(num_experts=4, top_k=1, expansion=2),
    MLP(expansion=4),
    Switch(num_experts=4, expansion=1, capacity_factor=10),
    GShard(num_experts=4, expansion=1, capacity_factor=10),
    S4(state_dim=1),
    S4D(state_dim=1),
    Hyena(filter_dim=6, length=1),
    LongConv(length=1, squash=0.2),
    LongConv(length=90, squash=0),
]
"""Corners that the examples of the contract leave out."""
SPARSE = BlockSparseAttention(
    num_heads=4, num_kv_heads=2, head_dim=8, block_size=4, window_blocks=2, global_blocks=1, random_blocks=2
)
LARGE: list[tuple[Block, list[tuple[dict[str, Any], int]]]] = [
    (
        Attention(num_heads=8, num_kv_heads=4, head_dim=8, rotary=False),
        [
            ({"num_heads": 4, "num_kv_heads": 1, "head_dim": 3}, 12),
            ({"num_kv_heads": 2, "head_dim": 5}, 20),
            ({"num_heads": 4}, 16),
        ],
    ),
    (
        Attention(num_heads=8, num_kv_heads=4, head_dim=8, window=7, dilation=2, global_tokens=3),
        [
            ({"num_heads": 4, "num_kv_heads": 1, "window": 3}, 12),
            ({"num_kv_heads": 2, "head_dim": 6, "window": 9}, 17),
        ],
    ),
    (Attention(num_heads=8, head_dim=8), [({"num_heads": 2, "num_kv_heads": 1, "head_dim": 4}, 12)]),
    (
        DifferentialAttention(num_heads=4, num_kv_heads=4, head_dim=8),
        [({"num_heads": 2, "num_kv_heads": 1, "head_dim": 2}, 16), ({"num_kv_heads": 2, "head_dim": 6}, 20)],
    ),
    (
        LatentAttention(num_heads=4, head_dim=8, rope_dim=8, kv_rank=16),
        [
            ({"num_heads": 1, "head_dim": 2, "rope_dim": 2, "kv_rank": 4}, 12),
            ({"num_heads": 3, "head_dim": 6, "rope_dim": 6, "kv_rank": 10}, 18),
        ],
    ),
    (
        SPARSE,
        [
            ({"num_heads": 2, "num_kv_heads": 1, "head_dim": 4, "random_blocks": 0}, 12),
            ({"head_dim": 6, "random_blocks": 3}, 20),
        ],
    ),
    (
        LinearAttention(num_heads=4, head_dim=8, state_dim=8),
        [({"num_heads": 1, "head_dim": 3, "state_dim": 2}, 12), ({"num_heads": 3, "state_dim": 5}, 17)],
    ),
    (
        Performer(num_heads=4, head_dim=8, num_features=16),
        [
            ({"num_heads": 1, "head_dim": 4, "num_features": 5}, 12),
            ({"num_heads": 3, "num_features": 30}, 20),
        ],
    ),
    (
        Based(num_heads=3, window_heads=3, head_dim=8, state_dim=6, window=8),
        [({"num_heads": 1, "window_heads": 2, "head_dim": 4, "state_dim": 2}, 12), ({"window_heads": 1}, 20)],
    ),
    (
        Mamba(channels=48, state_dim=16, dt_rank=5),
        [
            ({"channels": 7, "state_dim": 1, "dt_rank": 1, "conv_kernel": 2}, 12),
            ({"channels": 31, "dt_rank": 4, "conv_kernel": 3}, 17),
        ],
    ),
    (
        Mamba(channels=48, state_dim=16, dt_rank=5, norms=True),
        [
            ({"channels": 7, "state_dim": 5, "dt_rank": 3, "conv_kernel": 2}, 12),
            ({"channels": 24, "state_dim": 8, "conv_kernel": 3}, 17),
        ],
    ),
    (
        Mamba2(num_heads=4, head_dim=8, state_dim=16),
        [({"num_heads": 1, "head_dim": 4, "state_dim": 5, "conv_kernel": 3}, 12), ({"num_heads": 3}, 16)],
    ),
    (
        RGLRU(num_heads=4, head_dim=8),
        [({"num_heads": 1, "head_dim": 4}, 12), ({"num_heads": 3, "head_dim": 6}, 17)],
    ),
    (ShortConv(kernel=4), [({"kernel": 3}, WIDTH), ({"kernel": 2}, 11), ({}, 17)]),
    (SwiGLU(expansion=3), [({"expansion": 2.5}, WIDTH), ({"expansion": 1}, 11)]),
    (RWKVChannelMix(expansion=3), [({"expansion": 2.5}, WIDTH), ({"expansion": 1}, 11)]),
    (
        MoE(num_experts=4, expansion=2),
        [({"num_experts": 3, "top_k": 2, "expansion": 1}, 17), ({"num_experts": 2, "expansion": 1.5}, 11)],
    ),
    *(
        (
            MLP(activation=activation),
            [({"expansion": 4}, WIDTH), ({"expansion": 2.5}, 17), ({"expansion": 1}, 11)],
        )
        for activation in ("gelu", "relu2")
    ),
    *(
        (
            DeepSeekMoE(num_experts=8, shared_experts=2, expansion=1, gate=gate, bias_rate=rate),
            [
                (sizes | {"gate_scale": 2.5}, d_model)
                for sizes, d_model in (
                    ({"num_experts": 8}, WIDTH),
                    ({"num_experts": 5, "top_k": 3, "shared_experts": 1, "expansion": 0.5}, 17),
                    ({"num_experts": 4, "top_k": 4, "shared_experts": 0}, 11),
                    ({"num_experts": 3, "expansion": 0.7}, WIDTH),
                )
            ],
        )
        for gate, rate in (("sigmoid", 0.01), ("softmax", 0))
    ),
    *(
        (
            Switch(num_experts=4, expansion=1, capacity_factor=capacity),
            [({"num_experts": 4}, WIDTH), ({"num_experts": 3}, 17), ({"num_experts": 1}, 11)],
        )
        for capacity in (0.5, 1.25, 10.0)
    ),
    *(
        (
            GShard(num_experts=4, expansion=1, capacity_factor=capacity),
            [
                ({"num_experts": 4}, WIDTH),
                ({"num_experts": 3, "expansion": 0.5}, 17),
                ({"num_experts": 2}, 11),
            ],
        )
        for capacity in (0.4, 1.0, 10.0)
    ),
    (
        Retention(num_heads=4, head_dim=8, state_dim=16),
        [({"num_heads": 1}, 11), ({"num_heads": 3, "head_dim": 5, "state_dim": 6}, 17)],
    ),
    *(
        (
            kind(num_heads=4, head_dim=8, state_dim=16),
            [
                ({"num_heads": 1, "conv_kernel": 3}, 11),
                ({"num_heads": 3, "head_dim": 5, "state_dim": 7, "conv_kernel": 2}, 17),
            ],
        )
        for kind in (DeltaNet, GatedDeltaNet)
    ),
    *(
        (
            kind(num_heads=4, head_dim=8, state_dim=16),
            [({"num_heads": 1}, 11), ({"num_heads": 3, "head_dim": 5, "state_dim": 7}, 17)],
        )
        for kind in (GatedLinearAttention, MLSTM, RWKV6)
    ),
    *(
        (
            SLSTM(num_heads=4, head_dim=8, forget_gate=gate),
            [({"num_heads": 1}, 11), ({"num_heads": 3, "head_dim": 5}, 17)],
        )
        for gate in ("sigmoid", "exponential")
    ),
]
"""Blocks, and how far they shrink: below a half, and along axes that `smaller` leaves alone."""
SLICES = [(large, replace(large, **sizes), d_model) for large, cuts in LARGE for sizes, d_model in cuts]
LONG = [spec for spec in [*CORNERS, SPARSE] if "Attention" in type(spec).__name__]


def needs_installed(spec: Block) -> None:
    reference = references[type(spec).__name__]
    if not reference.installed:
        pytest.skip(f"{reference.needs} is not installed")


@pytest.mark.parametrize("kind", blocks.values(), ids=list(blocks))
def test_a_block_from_a_paper_has_a_reference(kind: type[Block]) -> None:
    if "arXiv:" in (sys.modules[kind.__module__].__doc__ or ""):
        assert reference_of(kind), "declare one in the block's own file: search_spaces.references.reference"


def test_references_are_of_blocks() -> None:
    assert set(references) <= set(blocks)


@pytest.mark.parametrize("spec", EXAMPLES + CORNERS, ids=str)
def test_a_block_equals_its_reference(spec: Block) -> None:
    needs_installed(spec)
    assert deviation(spec, WIDTH).worst < TOLERANCE


FORMULATIONS = [spec for spec in EXAMPLES + CORNERS if references[type(spec).__name__].needs is None]


@pytest.mark.parametrize("spec", FORMULATIONS, ids=str)
def test_a_second_formulation_agrees_to_the_rounding_of_float64(spec: Block) -> None:
    compared = deviation(spec, WIDTH, dtype=torch.float64, seed=3)
    assert max(compared.worst, compared.weight_gradient or 0) < 1e-12


@pytest.mark.parametrize(("batch", "count"), [(1, 1), (3, 1), (3, 2), (1, 63), (3, 64), (1, 65)])
@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
def test_a_block_equals_its_reference_at_odd_lengths(spec: Block, batch: int, count: int) -> None:
    needs_installed(spec)
    # one token has gradients so small that float32 loses them: exact wherever the reference can be
    exact = references[type(spec).__name__].needs is None
    dtype, tolerance = (torch.float64, 1e-11) if exact else (torch.float32, TOLERANCE)
    assert deviation(spec, WIDTH, batch=batch, count=count, dtype=dtype).worst < tolerance


@pytest.mark.parametrize("spec", LONG, ids=str)
def test_attention_equals_its_reference_at_a_thousand_tokens(spec: Block) -> None:
    needs_installed(spec)
    assert deviation(spec, WIDTH, batch=1, count=1000).worst < TOLERANCE


@pytest.mark.parametrize(("large", "small", "d_model"), SLICES, ids=lambda part: str(part))
def test_a_given_slice_equals_the_reference_of_its_size(large: Block, small: Block, d_model: int) -> None:
    needs_installed(small)
    small.check(d_model)
    compared = deviation(small, d_model, large=large, width=WIDTH)
    assert max(compared.worst, compared.weight_gradient or 0) < TOLERANCE


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
def test_a_random_slice_equals_the_reference_of_its_size(spec: Block, seed: int) -> None:
    needs_installed(spec)
    dice = Random(f"{seed}/{spec}")
    small, d_model = smaller_with_reference(spec, dice), dice.choice([11, 12, 17, 20])
    assert (
        deviation(small, d_model, large=spec, width=WIDTH, seed=seed, count=dice.randint(1, 70)).worst
        < TOLERANCE
    )


def smaller_with_reference(spec: Block, dice: Random) -> Block:
    """A smaller block whose reference can be built."""
    small = smaller(spec, dice, 11, 20)
    # DeepSeek's layer turns channels as complex numbers, and wants those before them to be even in number
    while isinstance(small, LatentAttention) and (small.kv_rank % 2 or small.head_dim % 2):
        small = smaller(spec, dice, 11, 20)
    return small


def test_slices_are_really_smaller() -> None:
    dice = Random(0)
    shrunk = [spec for spec in EXAMPLES if any(smaller(spec, dice, 11, 20) != spec for _ in range(5))]
    able = [spec for spec in EXAMPLES if SIZES & {field.name for field in fields(spec)}]
    assert len(shrunk) > 0.8 * len(able)
