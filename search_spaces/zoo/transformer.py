"""The decoder of the Transformer: every head has keys and values of its own."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (
    Layer(sequence_mixer=Attention(num_heads=4, num_kv_heads=4, head_dim=16), channel_mixer=MLP(expansion=4)),
) * 4

zoo.add(
    Published(
        name="transformer",
        family="attention",
        paper="Vaswani et al. 2017",
        arxiv="1706.03762",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
        note="Pre-norm, rotary positions.",
    )
)
