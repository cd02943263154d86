"""xLSTM: layers of matrix memory, and one in four of scalar memory."""

from __future__ import annotations

from search_spaces.blocks.mlstm import MLSTM
from search_spaces.blocks.slstm import SLSTM
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

MATRIX = Layer(
    sequence_mixer=MLSTM(num_heads=4, head_dim=16, state_dim=16), channel_mixer=SwiGLU(expansion=2)
)
SCALAR = Layer(sequence_mixer=SLSTM(num_heads=4, head_dim=16), channel_mixer=SwiGLU(expansion=2))
LAYERS = (MATRIX, SCALAR, MATRIX, MATRIX)

zoo.add(
    Published(
        name="xlstm",
        family="recurrent",
        paper="Beck et al. 2024",
        arxiv="2405.04517",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
        note="Both kinds in ordinary residual layers, without the short convolutions of the paper's blocks.",
    )
)
