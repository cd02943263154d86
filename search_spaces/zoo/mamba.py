"""Mamba: selective state spaces in every layer, and no channel mixers."""

from __future__ import annotations

from search_spaces.blocks.mamba import Mamba
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (Layer(sequence_mixer=Mamba(channels=128, state_dim=16)),) * 4

zoo.add(
    Published(
        name="mamba",
        family="state space",
        paper="Gu and Dao 2023",
        arxiv="2312.00752",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
