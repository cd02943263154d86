"""BigBird: a window, global and random blocks; causal here."""

from __future__ import annotations

from search_spaces.blocks.block_sparse_attention import BlockSparseAttention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (
    Layer(
        sequence_mixer=BlockSparseAttention(num_heads=4, num_kv_heads=4, head_dim=16, block_size=8),
        channel_mixer=MLP(expansion=4),
    ),
) * 4

zoo.add(
    Published(
        name="bigbird",
        family="attention",
        paper="Zaheer et al. 2020",
        arxiv="2007.14062",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
