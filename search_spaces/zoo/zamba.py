"""Zamba: one attention block, used at several depths among Mamba layers, that also reads the embedding."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.mamba import Mamba
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

MAMBA = Layer(sequence_mixer=Mamba(channels=128, state_dim=16))
SHARED = Layer(
    sequence_mixer=Attention(num_heads=4, num_kv_heads=4, head_dim=16),
    channel_mixer=MLP(expansion=4),
    shared="attention",
    reads_embedding=True,
)
LAYERS = (MAMBA, SHARED, MAMBA, MAMBA, MAMBA, SHARED, MAMBA, MAMBA)

zoo.add(
    Published(
        name="zamba",
        family="hybrid",
        paper="Glorioso et al. 2024",
        arxiv="2405.16712",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
        note="Stream and embedding are mapped before the shared block; places have no map of their own.",
    )
)
