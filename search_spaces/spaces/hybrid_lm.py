"""The large space: every block there is. Every published architecture of the zoo is one of its points.

A byte-level decoder of 2 to 8 layers. Each layer chooses its sequence mixer, its channel mixer (or none), its
bits, whether only some tokens pass it, and whether tokens may leave behind it; or it is one of the places of
a block whose weights are shared.
"""

from __future__ import annotations

from typing import Any

from search_spaces.blocks.attention import Attention
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
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.adaptive_depth import EarlyExit, MixtureOfDepths
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits
from search_spaces.spaces import spaces

HEADS: dict[str, Any] = {"num_heads": 4, "head_dim": 16}
STATES = one_of(16, 32)


def sequence_mixer() -> Any:
    """Every way to mix a sequence."""
    return one_of(
        Attention(**HEADS, num_kv_heads=one_of(1, 2, 4)),
        Attention(**HEADS, num_kv_heads=one_of(1, 2, 4), rotary=False),
        Attention(**HEADS, num_kv_heads=one_of(1, 2, 4), window=one_of(32, 64, 128)),
        Attention(**HEADS, num_kv_heads=one_of(1, 4), window=32, dilation=one_of(1, 2), global_tokens=4),
        BlockSparseAttention(**HEADS, num_kv_heads=one_of(1, 4), block_size=one_of(8, 16)),
        DifferentialAttention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=16),
        LatentAttention(**HEADS, rope_dim=8, kv_rank=one_of(16, 32)),
        LinearAttention(**HEADS, state_dim=STATES, decay=one_of("wide", "none")),
        Performer(**HEADS, num_features=one_of(32, 64), decay=one_of("wide", "none")),
        Based(**HEADS, window_heads=2, state_dim=16, window=one_of(16, 64)),
        Retention(num_heads=4, head_dim=32, state_dim=STATES, decay=one_of("wide", "narrow")),
        GatedLinearAttention(**HEADS, state_dim=STATES),
        DeltaNet(**HEADS, state_dim=STATES),
        GatedDeltaNet(**HEADS, state_dim=STATES),
        MLSTM(**HEADS, state_dim=STATES),
        SLSTM(**HEADS),
        RWKV6(**HEADS, state_dim=16),
        RGLRU(**HEADS),
        Mamba(channels=one_of(64, 128), state_dim=STATES, norms=one_of(False, True)),
        Mamba2(num_heads=4, head_dim=32, state_dim=STATES),
        S4(state_dim=16),
        S4D(state_dim=STATES),
        Hyena(filter_dim=32),
        LongConv(length=one_of(64, 256)),
        ShortConv(kernel=one_of(3, 4)),
    )


def channel_mixer() -> Any:
    """Every way to mix channels, or none."""
    return one_of(
        None,
        SwiGLU(expansion=one_of(1, 2, 3)),
        MLP(expansion=one_of(2, 4)),
        RWKVChannelMix(expansion=3),
        MoE(num_experts=one_of(4, 8), top_k=one_of(1, 2), expansion=one_of(1, 3)),
        Switch(num_experts=8, expansion=2, capacity_factor=one_of(1.0, 1.25)),
        GShard(num_experts=8, expansion=2, capacity_factor=2.0),
        DeepSeekMoE(num_experts=16, top_k=one_of(2, 4), shared_experts=one_of(0, 1), expansion=0.5),
    )


@spaces.add
def hybrid_lm() -> Space:
    """Everything: attention, state spaces, recurrences, convolutions, experts, bits, adaptive depth."""
    layer = Layer(
        sequence_mixer=sequence_mixer(),
        channel_mixer=channel_mixer(),
        bits=Bits(weight=one_of(16, 8, 6, 4, 3, 2, 1.58), activation=one_of(16, 8), state=one_of(16, 8, 4)),
        routing=one_of(None, MixtureOfDepths(capacity=one_of(0.125, 0.25, 0.5))),
        exit=one_of(None, EarlyExit(threshold=0.1)),
    )
    shared = Layer(
        sequence_mixer=Attention(**HEADS),
        channel_mixer=MLP(expansion=4),
        shared="attention",
        reads_embedding=True,
    )
    stack = repeat(one_of(layer, shared), depths=(2, 4, 6, 8))
    return Space(Decoder(vocab=256, d_model=one_of(64, 96, 128), layers=stack), name="hybrid_lm")
