"""Mixtral: two of eight experts for every token, none dropped."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.moe import MoE
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (
    Layer(
        sequence_mixer=Attention(num_heads=4, num_kv_heads=1, head_dim=16),
        channel_mixer=MoE(num_experts=8, top_k=2, expansion=3),
    ),
) * 4

zoo.add(
    Published(
        name="mixtral",
        family="mixture of experts",
        paper="Jiang et al. 2024",
        arxiv="2401.04088",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
