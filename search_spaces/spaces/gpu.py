"""A space for one GPU: deep enough to mix kinds of layers, small enough to train a front in half an hour."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.latent_attention import LatentAttention
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

DEFAULTS = {
    "scenarios": ["cuda:0,engine=graph,batch=8,prompt=512,new_tokens=128,dtype=bfloat16"],
    "train_on": "cuda:0",
    "window": 512,
    "train_batch": 16,
    "validation_windows": 128,
    "train_steps": 2000,
    "trials": 400,
    "finalists": 6,
    "finalist_steps": [500, 1500, 4000],
    "baselines": ["zoo:transformer", "zoo:mamba2", "zoo:lfm2"],
}
"""A winner reads 33 million tokens, and so does every baseline beside it."""


@spaces.add
def gpu() -> Space:
    """Byte-level hybrids of 6 to 12 layers, 256 to 768 wide, of eight kinds of mixers, experts and bits."""
    layer = Layer(
        sequence_mixer=one_of(
            Attention(num_heads=one_of(4, 8, 12), num_kv_heads=one_of(1, 2, 4), head_dim=64),
            Attention(num_heads=8, num_kv_heads=2, head_dim=64, window=256),
            LatentAttention(num_heads=8, head_dim=64, rope_dim=32, kv_rank=one_of(64, 128)),
            Mamba2(num_heads=one_of(8, 16), head_dim=64, state_dim=one_of(64, 128)),
            GatedDeltaNet(num_heads=8, head_dim=64, state_dim=64),
            GatedLinearAttention(num_heads=8, head_dim=64, state_dim=one_of(32, 64)),
            RGLRU(num_heads=8, head_dim=64),
            ShortConv(kernel=3),
        ),
        channel_mixer=one_of(
            SwiGLU(expansion=one_of(2, 3, 4)), MoE(num_experts=8, top_k=one_of(1, 2), expansion=1)
        ),
        bits=Bits(weight=one_of(4, 8, 16), state=one_of(8, 16)),
    )
    decoder = Decoder(
        vocab=256, d_model=one_of(256, 384, 512, 640, 768), layers=repeat(layer, depths=(6, 8, 10, 12))
    )
    return Space(decoder, name="gpu", defaults=DEFAULTS)
