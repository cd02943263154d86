"""Longformer: a sliding window, dilated in the upper layers, and global tokens; causal here."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

NEAR = Layer(
    sequence_mixer=Attention(num_heads=4, num_kv_heads=4, head_dim=16, window=32, global_tokens=4),
    channel_mixer=MLP(expansion=4),
)
FAR = Layer(
    sequence_mixer=Attention(
        num_heads=4, num_kv_heads=4, head_dim=16, window=32, global_tokens=4, dilation=2
    ),
    channel_mixer=MLP(expansion=4),
)
LAYERS = (NEAR, NEAR, FAR, FAR)

zoo.add(
    Published(
        name="longformer",
        family="attention",
        paper="Beltagy et al. 2020",
        arxiv="2004.05150",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
        note="All heads of a layer share one dilation; the global tokens are the first ones.",
    )
)
