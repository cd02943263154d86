"""Multi-query attention: one head of keys and values for all queries."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (
    Layer(
        sequence_mixer=Attention(num_heads=4, num_kv_heads=1, head_dim=16), channel_mixer=SwiGLU(expansion=3)
    ),
) * 4

zoo.add(
    Published(
        name="multi_query",
        family="attention",
        paper="Shazeer 2019",
        arxiv="1911.02150",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
