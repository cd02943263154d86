"""S4: structured state spaces, diagonal minus rank one."""

from __future__ import annotations

from search_spaces.blocks.s4 import S4
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (Layer(sequence_mixer=S4(state_dim=16)),) * 4

zoo.add(
    Published(
        name="s4",
        family="state space",
        paper="Gu et al. 2021",
        arxiv="2111.00396",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
