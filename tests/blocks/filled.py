"""Mixers with random parameters, for tests of what blocks compute."""

from __future__ import annotations

import torch

from search_spaces.blocks.base import Block, Mixer


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def filled(
    spec: Block,
    d_model: int,
    *,
    seed: int = 0,
    noise: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Mixer:
    """The mixer with its own start values, and `noise` added, so that biases and norms leave theirs."""
    module = spec.build(d_model)
    with torch.no_grad():
        module.reset_parameters(dice(seed))
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=dice(seed + 1)), alpha=noise)
    return module.to(dtype)
