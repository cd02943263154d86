"""The networks that training is measured on: one kind of mixer in every layer, at any width and depth."""

from __future__ import annotations

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.mlstm import MLSTM
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.rwkv6 import RWKV6
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer

KINDS = (
    "attention",
    "window",
    "gated_delta_net",
    "mamba2",
    "rglru",
    "short_conv",
    "rwkv6",
    "mlstm",
    "moe",
)


def network(kind: str, d_model: int, depth: int, head_dim: int = 32) -> Decoder:
    """A network of one kind of mixer and SwiGLU(3); `moe` is attention and experts."""
    channels: Block = MoE(num_experts=4, top_k=2, expansion=1) if kind == "moe" else SwiGLU(expansion=3)
    layer = Layer(sequence_mixer=mixer(kind, d_model, head_dim), channel_mixer=channels)
    return Decoder(vocab=256, d_model=d_model, layers=(layer,) * depth)


def mixer(kind: str, d_model: int, head_dim: int) -> Block:
    """The mixer, with as many heads as the width holds."""
    heads = d_model // head_dim
    match kind:
        case "attention" | "moe":
            return Attention(num_heads=heads, num_kv_heads=max(1, heads // 4), head_dim=head_dim)
        case "window":
            return Attention(num_heads=heads, num_kv_heads=max(1, heads // 4), head_dim=head_dim, window=64)
        case "gated_delta_net":
            return GatedDeltaNet(num_heads=heads, head_dim=head_dim, state_dim=head_dim)
        case "mamba2":
            return Mamba2(num_heads=2 * heads, head_dim=head_dim, state_dim=32)
        case "rglru":
            return RGLRU(num_heads=heads, head_dim=head_dim)
        case "short_conv":
            return ShortConv(kernel=3)
        case "rwkv6":
            return RWKV6(num_heads=heads, head_dim=head_dim, state_dim=head_dim)
        case "mlstm":
            return MLSTM(num_heads=heads, head_dim=head_dim, state_dim=head_dim)
    raise ValueError(f"unknown kind {kind!r}; there are {', '.join(KINDS)}")
