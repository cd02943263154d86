"""RWKV-6 (Finch): data-dependent decay per channel, and a channel mixer that sees the last token."""

from __future__ import annotations

from search_spaces.blocks.rwkv6 import RWKV6
from search_spaces.blocks.rwkv_channel_mix import RWKVChannelMix
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (
    Layer(
        sequence_mixer=RWKV6(num_heads=4, head_dim=16, state_dim=16),
        channel_mixer=RWKVChannelMix(expansion=3),
    ),
) * 4

zoo.add(
    Published(
        name="rwkv6",
        family="recurrent",
        paper="Peng et al. 2024",
        arxiv="2404.05892",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
