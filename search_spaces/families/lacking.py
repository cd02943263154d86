"""Architectures that are known, and not read: what they have that no block or option here computes."""

from __future__ import annotations

from collections.abc import Mapping

FEEDS = (
    "its shared attention reads the embedding beside the stream at twice the width, and what it puts out is"
    " added to what the state space of its layer reads, not to the stream"
)

LACKING: Mapping[str, str] = {
    "kimi_linear": "the memory of its delta rule fades at another rate in every channel of the keys",
    "minimax": (
        "its residual stream goes on behind every norm, and lightning attention fades at rates that depend on"
        " the layer"
    ),
    "rwkv": (
        "its memory is a fading mean of values by channel, weighted by exponentials of keys (RWKV-4), and its"
        " embedding has a norm"
    ),
    "zamba": FEEDS,
    "zamba2": f"{FEEDS}, with adapters of its own at every place",
}
"""What is in the way, by `model_type`."""
