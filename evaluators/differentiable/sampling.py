"""How logits become shares: as they are, or sampled.

    soft        softmax(a)                                       DARTS (Liu et al. 2019, arXiv:1806.09055)
    hard        one_hot(argmax(a + g)), gradients of             GDAS (Dong & Yang 2019, arXiv:1910.04465)
                softmax((log softmax(a) + g) / tau)
    relaxed     softmax((log softmax(a) + g) / tau)              Maddison et al. 2017, arXiv:1611.00712

with Gumbel noise g from `dice`. Under hard shares one architecture is computed, and the mixture is cheap.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evaluators.differentiable.settings import SearchSettings
from search_spaces.mixture.conditions import Genes
from search_spaces.network.initialization import dice_at


def relaxed_shares(genes: Genes, logits: Tensor, temperature: float, dice: torch.Generator) -> Tensor:
    """Shares near the corners: the nearer, the lower the temperature."""
    table = genes.table(logits, float("-inf")).log_softmax(-1)
    return genes.flat(((table + _gumbel(table, dice)) / temperature).softmax(-1))


def hard_shares(genes: Genes, logits: Tensor, temperature: float, dice: torch.Generator) -> Tensor:
    """One option per gene; gradients are those of the relaxed shares (straight through)."""
    table = genes.table(logits, float("-inf")).log_softmax(-1)
    soft = ((table + _gumbel(table, dice)) / temperature).softmax(-1)
    hard = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
    # in this order, so that what is not chosen has a share of exactly zero
    return genes.flat((hard - soft.detach()) + soft)


def temperature_at(step: int, steps: int, start: float, end: float) -> float:
    """Linearly from `start` to `end`."""
    return start + (end - start) * min(1.0, step / max(1, steps - 1))


def shares_of_step(
    genes: Genes, logits: Tensor, settings: SearchSettings, *, step: int, dice: torch.Generator
) -> Tensor:
    """The shares of the mixture at a step of a search, by its variant."""
    if settings.variant in ("first", "second"):
        return genes.shares(logits)
    after, steps = max(0, step - settings.warm_up), settings.steps - settings.warm_up
    temperature = temperature_at(after, steps, settings.hot, settings.cold)
    sample = hard_shares if settings.variant == "gdas" else relaxed_shares
    return sample(genes, logits, temperature, dice)


def step_dice(seed: int, step: int, purpose: str) -> torch.Generator:
    """The random generator of one step: it depends on nothing that happened before."""
    return dice_at(seed, f"{step}/{purpose}", torch.device("cpu"))


def _gumbel(like: Tensor, dice: torch.Generator) -> Tensor:
    uniform = torch.rand(like.shape, generator=dice, dtype=like.dtype).clamp_(1e-20, 1 - 1e-7)
    return -(-uniform.log()).log().to(like.device)
