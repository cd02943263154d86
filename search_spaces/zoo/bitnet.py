"""BitNet b1.58: ternary weights and 8-bit activations."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (
    Layer(
        sequence_mixer=Attention(num_heads=4, num_kv_heads=4, head_dim=16),
        channel_mixer=SwiGLU(expansion=3),
        bits=Bits(weight=1.58, activation=8),
    ),
) * 4

zoo.add(
    Published(
        name="bitnet",
        family="low bit",
        paper="Ma et al. 2024",
        arxiv="2402.17764",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
        note="A scale for each group of weights instead of one per matrix.",
    )
)
