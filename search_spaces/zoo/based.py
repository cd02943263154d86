"""Based: Taylor linear attention beside a small sliding window."""

from __future__ import annotations

from search_spaces.blocks.based import Based
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (
    Layer(
        sequence_mixer=Based(num_heads=4, window_heads=2, head_dim=16, state_dim=16, window=16),
        channel_mixer=SwiGLU(expansion=3),
    ),
) * 4

zoo.add(
    Published(
        name="based",
        family="attention",
        paper="Arora et al. 2024",
        arxiv="2402.18668",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
