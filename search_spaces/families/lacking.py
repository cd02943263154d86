"""Architectures that are known, and not read: what they have that no block or option here computes."""

from __future__ import annotations

from collections.abc import Mapping

FEEDS = (
    "its shared attention reads the embedding beside the stream at twice the width, and what it puts out is"
    " added to what the state space of its layer reads, not to the stream"
)

LACKING: Mapping[str, str] = {
    "zamba": FEEDS,
    "zamba2": f"{FEEDS}, with adapters of its own at every place",
}
"""What is in the way, by `model_type`."""
