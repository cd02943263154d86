"""Samba: Mamba and sliding-window attention in turn."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba import Mamba
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

MAMBA = Layer(sequence_mixer=Mamba(channels=128, state_dim=16), channel_mixer=SwiGLU(expansion=3))
WINDOW = Layer(
    sequence_mixer=Attention(num_heads=4, num_kv_heads=1, head_dim=16, window=64),
    channel_mixer=SwiGLU(expansion=3),
)
LAYERS = (MAMBA, WINDOW) * 2

zoo.add(
    Published(
        name="samba",
        family="hybrid",
        paper="Ren et al. 2024",
        arxiv="2406.07522",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
