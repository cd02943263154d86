"""Switch Transformer: one expert per token with a capacity, in every second layer."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.switch import Switch
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

ATTENTION = Attention(num_heads=4, num_kv_heads=4, head_dim=16)
DENSE = Layer(sequence_mixer=ATTENTION, channel_mixer=MLP(expansion=4))
SPARSE = Layer(
    sequence_mixer=ATTENTION, channel_mixer=Switch(num_experts=8, expansion=2, capacity_factor=1.25)
)
LAYERS = (DENSE, SPARSE) * 2

zoo.add(
    Published(
        name="switch",
        family="mixture of experts",
        paper="Fedus et al. 2021",
        arxiv="2101.03961",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
        note="Experts are SwiGLU.",
    )
)
