"""A space small enough to be trained on a laptop and varied enough to have a front."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits
from search_spaces.spaces import spaces


@spaces.add
def laptop() -> Space:
    """Byte-level hybrids of 2 to 4 layers, 48 to 96 wide, with mixed bit-widths."""
    layer = Layer(
        sequence_mixer=one_of(
            Attention(num_heads=4, num_kv_heads=one_of(1, 2, 4), head_dim=16),
            Attention(num_heads=4, num_kv_heads=2, head_dim=16, window=32),
            GatedLinearAttention(num_heads=4, head_dim=16, state_dim=one_of(8, 16)),
            Mamba2(num_heads=4, head_dim=32, state_dim=one_of(16, 32)),
            RGLRU(num_heads=4, head_dim=16),
            ShortConv(kernel=3),
        ),
        channel_mixer=one_of(
            SwiGLU(expansion=one_of(1, 2, 3)), MoE(num_experts=4, top_k=one_of(1, 2), expansion=1)
        ),
        bits=Bits(weight=one_of(4, 8, 16), state=one_of(8, 16)),
    )
    decoder = Decoder(vocab=256, d_model=one_of(48, 64, 96), layers=repeat(layer, depths=(2, 3, 4)))
    return Space(decoder, name="laptop", defaults={"baselines": ["zoo:transformer"]})
