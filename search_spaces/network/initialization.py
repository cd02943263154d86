"""Random generators by place: a place of a network starts alike, whatever stands elsewhere in it."""

from __future__ import annotations

import hashlib

import torch


def dice_at(seed: int, path: str, device: torch.device) -> torch.Generator:
    """The generator of one place, from a random seed and the path of the place."""
    digest = hashlib.sha256(f"{seed}/{path}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))
