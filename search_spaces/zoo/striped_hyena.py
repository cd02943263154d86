"""StripedHyena: Hyena layers striped with grouped-query attention."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.hyena import Hyena
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

HYENA = Layer(sequence_mixer=Hyena(filter_dim=32), channel_mixer=SwiGLU(expansion=3))
ATTENTION = Layer(
    sequence_mixer=Attention(num_heads=4, num_kv_heads=2, head_dim=16), channel_mixer=SwiGLU(expansion=3)
)
LAYERS = (HYENA, ATTENTION) * 2

zoo.add(
    Published(
        name="striped_hyena",
        family="hybrid",
        paper="Poli et al. 2023",
        arxiv="2302.10866",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
        note="After the model released by Together in 2023, whose filters are modal; here they are implicit.",
    )
)
