"""The next token of every row of a batch.

A draw is the largest of probabilities over exponential noise of the row's own generator, so that a row's
draws depend on its seed alone, and not on who shares the batch. Nucleus sampling: Holtzman et al. 2020,
arXiv:1904.09751, section 3.1.

Shapes: B rows, V vocab.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nas.serving.requests import Chosen, Request
from search_spaces.network.generation import GREEDY


@torch.no_grad()
def choose(logits: Tensor, requests: Sequence[Request]) -> list[Chosen | None]:
    """What each row of logits [B, V] chooses; None where its predictions are not finite."""
    logits = logits.float()
    finite, likeliest = logits.isfinite().all(-1).tolist(), logits.argmax(-1).tolist()
    chosen: list[Chosen | None] = []
    for row, request in enumerate(requests):
        if not finite[row]:
            chosen.append(None)
            continue
        sampling, token = request.sampling, likeliest[row]
        if sampling.temperature > GREEDY:
            chances = nucleus((logits[row] / sampling.temperature).softmax(-1), sampling.top_p)
            token = draw(chances, request.dice)
        chosen.append(_told(logits[row], token, sampling.logprobs))
    return chosen


def nucleus(chances: Tensor, top_p: float) -> Tensor:
    """Probabilities [V], all but those of the likeliest tokens that have `top_p` together at zero."""
    if top_p >= 1:
        return chances
    ordered, index = chances.sort(descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p  # the first one is always inside
    return chances.index_fill(0, index[outside], 0.0)


def draw(chances: Tensor, dice: torch.Generator) -> int:
    """A token by probabilities [V], which need not add up to one."""
    noise = torch.empty(len(chances)).exponential_(generator=dice).clamp_(min=1e-30)
    return int((chances / noise.to(chances.device)).argmax())


def _told(logits: Tensor, token: int, count: int | None) -> Chosen:
    """A token with what the network itself thinks of it: before temperature and nucleus."""
    if count is None:
        return Chosen(token)
    logs = logits.log_softmax(-1)
    top, index = logs.topk(min(count, len(logs)))
    return Chosen(token, float(logs[token]), tuple(zip(index.tolist(), top.tolist(), strict=True)))
