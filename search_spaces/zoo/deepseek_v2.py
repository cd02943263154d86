"""DeepSeek-V2: multi-head latent attention, and small experts beside shared ones."""

from __future__ import annotations

from search_spaces.blocks.deepseek_moe import DeepSeekMoE
from search_spaces.blocks.latent_attention import LatentAttention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LATENT = LatentAttention(num_heads=4, head_dim=16, rope_dim=8, kv_rank=32)
DENSE = Layer(sequence_mixer=LATENT, channel_mixer=SwiGLU(expansion=3))
SPARSE = Layer(
    sequence_mixer=LATENT,
    channel_mixer=DeepSeekMoE(num_experts=16, top_k=4, shared_experts=1, expansion=0.5),
)
LAYERS = (DENSE, SPARSE, SPARSE, SPARSE)

zoo.add(
    Published(
        name="deepseek_v2",
        family="attention",
        paper="DeepSeek-AI 2024",
        arxiv="2405.04434",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
        note="Balanced by a bias, as in DeepSeek-V3.",
    )
)
