"""Jamba: one attention in eight layers among Mamba, and experts in every second layer."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba import Mamba
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

MAMBA = Mamba(channels=128, state_dim=16, norms=True)
ATTENTION = Attention(num_heads=4, num_kv_heads=1, head_dim=16, rotary=False)
LAYERS = tuple(
    Layer(
        sequence_mixer=ATTENTION if i == 4 else MAMBA,
        channel_mixer=MoE(num_experts=8, top_k=2, expansion=3) if i % 2 else SwiGLU(expansion=3),
    )
    for i in range(8)
)

zoo.add(
    Published(
        name="jamba",
        family="hybrid",
        paper="Lieber et al. 2024",
        arxiv="2403.19887",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
        note="8 experts instead of 16.",
    )
)
