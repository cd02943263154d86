"""Differential attention: the difference of two softmax maps."""

from __future__ import annotations

from search_spaces.blocks.differential_attention import DifferentialAttention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (
    Layer(
        sequence_mixer=DifferentialAttention(num_heads=2, num_kv_heads=2, head_dim=16),
        channel_mixer=SwiGLU(expansion=3),
    ),
) * 4

zoo.add(
    Published(
        name="differential_transformer",
        family="attention",
        paper="Ye et al. 2024",
        arxiv="2410.05258",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
