"""Performer: softmax attention estimated by positive random features."""

from __future__ import annotations

from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.performer import Performer
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (
    Layer(
        sequence_mixer=Performer(num_heads=4, head_dim=16, num_features=64, decay="none"),
        channel_mixer=MLP(expansion=4),
    ),
) * 4

zoo.add(
    Published(
        name="performer",
        family="attention",
        paper="Choromanski et al. 2020",
        arxiv="2009.14794",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
