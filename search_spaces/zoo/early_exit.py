"""CALM: tokens exit after a layer whose own prediction is confident enough."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.zoo import D_MODEL, Published, zoo

ATTENTION = Attention(num_heads=4, num_kv_heads=4, head_dim=16)
EXIT = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=3), exit=EarlyExit(threshold=0.1))
LAST = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=3))
LAYERS = (LAST, EXIT, EXIT, LAST)

zoo.add(
    Published(
        name="early_exit",
        family="adaptive depth",
        paper="Schuster et al. 2022",
        arxiv="2207.07061",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
        note="A head for each exit, as in BranchyNet; the measure is the entropy.",
    )
)
