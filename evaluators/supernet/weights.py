"""The weights of a supernet as a whole: a copy of them, and the digest that names them."""

from __future__ import annotations

import torch

from evaluators.training.trainable import weights_digest
from search_spaces.supernet import Supernet


def copy_of(supernet: Supernet) -> Supernet:
    """Another supernet of the same space with the same values."""
    copy = Supernet(supernet.space, device=supernet.device)
    with torch.no_grad():
        for key, weight in copy.weights.items():
            weight.copy_(supernet.weights[key])
    copy.rates.update(supernet.rates)
    copy.roles.update(supernet.roles)
    copy.own_rates.update(supernet.own_rates)
    copy.prepared.update(supernet.prepared)
    return copy


def digest_of(supernet: Supernet) -> str:
    """16 hex digits of all weights: what was made from these weights is not taken for made from others."""
    prepared = {
        f"{key} {shape} {bits}{suffix}": values
        for (key, shape, bits), stored in supernet.prepared.items()
        for suffix, values in stored.items()
    }
    return weights_digest({**supernet.weights, **prepared})
