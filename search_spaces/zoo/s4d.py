"""S4D: diagonal state spaces."""

from __future__ import annotations

from search_spaces.blocks.s4d import S4D
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (Layer(sequence_mixer=S4D(state_dim=16)),) * 4

zoo.add(
    Published(
        name="s4d",
        family="state space",
        paper="Gu et al. 2022",
        arxiv="2206.11893",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
