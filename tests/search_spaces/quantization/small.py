"""Values, formats and small networks for the tests of quantization."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import GROUPS, WEIGHT_BITS, Bits, WeightFormat

shapes = st.tuples(st.integers(1, 5), st.integers(8, 150))


FLOAT8 = WeightFormat(8, numbers="float")


formats = st.builds(WeightFormat, st.sampled_from(WEIGHT_BITS), st.sampled_from(GROUPS[:4])) | st.just(FLOAT8)


def values(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def network(*bits: Bits, vocab: int = 64, d_model: int = 40) -> Decoder:
    mixers = (Attention(num_heads=2, num_kv_heads=1, head_dim=12), Mamba2(num_heads=2, head_dim=9))
    channels = (SwiGLU(expansion=1.3), MoE(num_experts=3, top_k=2, expansion=1), None)
    layers = tuple(
        Layer(sequence_mixer=mixers[i % 2], channel_mixer=channels[i % 3], bits=b) for i, b in enumerate(bits)
    )
    return Decoder(vocab=vocab, d_model=d_model, layers=layers)
