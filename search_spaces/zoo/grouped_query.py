"""Grouped-query attention: a head of keys and values for each group of queries, as in Llama."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (
    Layer(
        sequence_mixer=Attention(num_heads=4, num_kv_heads=2, head_dim=16), channel_mixer=SwiGLU(expansion=3)
    ),
) * 4

zoo.add(
    Published(
        name="grouped_query",
        family="attention",
        paper="Ainslie et al. 2023",
        arxiv="2305.13245",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
