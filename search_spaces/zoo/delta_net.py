"""DeltaNet: a memory that is corrected by the delta rule."""

from __future__ import annotations

from search_spaces.blocks.delta_net import DeltaNet
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (
    Layer(sequence_mixer=DeltaNet(num_heads=4, head_dim=16, state_dim=16), channel_mixer=SwiGLU(expansion=3)),
) * 4

zoo.add(
    Published(
        name="delta_net",
        family="recurrent",
        paper="Yang et al. 2024",
        arxiv="2406.06484",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
