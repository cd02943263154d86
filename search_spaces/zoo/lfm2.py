"""LFM2: gated short convolutions, and grouped-query attention in a few layers."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

CONV = Layer(sequence_mixer=ShortConv(kernel=3), channel_mixer=SwiGLU(expansion=3))
ATTENTION = Layer(
    sequence_mixer=Attention(num_heads=4, num_kv_heads=1, head_dim=16), channel_mixer=SwiGLU(expansion=3)
)
LAYERS = (CONV, CONV, ATTENTION, CONV, ATTENTION, CONV)

zoo.add(
    Published(
        name="lfm2",
        family="hybrid",
        paper="Amini et al. 2025",
        arxiv="2511.23404",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
