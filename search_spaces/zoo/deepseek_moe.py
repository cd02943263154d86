"""DeepSeekMoE: many small experts beside shared ones; the first layer is dense."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.deepseek_moe import DeepSeekMoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

ATTENTION = Attention(num_heads=4, num_kv_heads=4, head_dim=16)
DENSE = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=3))
SPARSE = Layer(
    sequence_mixer=ATTENTION,
    channel_mixer=DeepSeekMoE(num_experts=16, top_k=4, shared_experts=1, expansion=0.5),
)
LAYERS = (DENSE, SPARSE, SPARSE, SPARSE)

zoo.add(
    Published(
        name="deepseek_moe",
        family="mixture of experts",
        paper="Dai et al. 2024",
        arxiv="2401.06066",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
        note="Balanced by a bias, as in DeepSeek-V3, instead of by a loss.",
    )
)
