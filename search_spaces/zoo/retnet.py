"""RetNet: linear attention with one constant decay per head."""

from __future__ import annotations

from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.retention import Retention
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (
    Layer(
        sequence_mixer=Retention(num_heads=4, head_dim=32, state_dim=16, decay="narrow"),
        channel_mixer=MLP(expansion=2),
    ),
) * 4

zoo.add(
    Published(
        name="retnet",
        family="recurrent",
        paper="Sun et al. 2023",
        arxiv="2307.08621",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
