"""Griffin: two gated linear recurrences for each layer of local attention."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

RECURRENT = Layer(sequence_mixer=RGLRU(num_heads=4, head_dim=16), channel_mixer=SwiGLU(expansion=3))
LOCAL = Layer(
    sequence_mixer=Attention(num_heads=4, num_kv_heads=1, head_dim=16, window=64),
    channel_mixer=SwiGLU(expansion=3),
)
LAYERS = (RECURRENT, RECURRENT, LOCAL) * 2

zoo.add(
    Published(
        name="griffin",
        family="hybrid",
        paper="De et al. 2024",
        arxiv="2402.19427",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
        note="Gated by SiLU instead of GELU.",
    )
)
