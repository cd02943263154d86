"""Hyena: gated long convolutions with implicit kernels."""

from __future__ import annotations

from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.hyena import Hyena
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (Layer(sequence_mixer=Hyena(filter_dim=32), channel_mixer=MLP(expansion=4)),) * 4

zoo.add(
    Published(
        name="hyena",
        family="recurrent",
        paper="Poli et al. 2023",
        arxiv="2302.10866",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
        note="Of order two.",
    )
)
