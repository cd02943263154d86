"""Linear attention: softmax replaced by a product of features, so that decode has a fixed state."""

from __future__ import annotations

from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.linear_attention import LinearAttention
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.zoo import D_MODEL, Published, zoo

LAYERS = (
    Layer(
        sequence_mixer=LinearAttention(num_heads=4, head_dim=16, state_dim=16, decay="none"),
        channel_mixer=MLP(expansion=4),
    ),
) * 4

zoo.add(
    Published(
        name="linear_transformer",
        family="attention",
        paper="Katharopoulos et al. 2020",
        arxiv="2006.16236",
        spec=Decoder(d_model=D_MODEL, layers=LAYERS),
    )
)
