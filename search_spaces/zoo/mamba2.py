"""Mamba-2: one decay per head, computed as chunked linear attention."""

from __future__ import annotations

from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (Layer(sequence_mixer=Mamba2(num_heads=4, head_dim=32, state_dim=32)),) * 4

zoo.add(
    Published(
        name="mamba2",
        family="state space",
        paper="Dao and Gu 2024",
        arxiv="2405.21060",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
