"""Gated linear attention: each key channel forgets at its own rate."""

from __future__ import annotations

from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (
    Layer(
        sequence_mixer=GatedLinearAttention(num_heads=4, head_dim=16, state_dim=16),
        channel_mixer=SwiGLU(expansion=3),
    ),
) * 4

zoo.add(
    Published(
        name="gla",
        family="recurrent",
        paper="Yang et al. 2023",
        arxiv="2312.06635",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
