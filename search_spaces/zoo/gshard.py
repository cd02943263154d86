"""GShard: two experts per token with a capacity, the second one at random, in every second layer."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.gshard import GShard
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

ATTENTION = Attention(num_heads=4, num_kv_heads=4, head_dim=16)
DENSE = Layer(sequence_mixer=ATTENTION, channel_mixer=MLP(expansion=4))
SPARSE = Layer(
    sequence_mixer=ATTENTION, channel_mixer=GShard(num_experts=8, expansion=2, capacity_factor=2.0)
)
LAYERS = (DENSE, SPARSE) * 2

zoo.add(
    Published(
        name="gshard",
        family="mixture of experts",
        paper="Lepikhin et al. 2020",
        arxiv="2006.16668",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
        note="Experts are SwiGLU.",
    )
)
