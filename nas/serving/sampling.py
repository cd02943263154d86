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

from nas.serving.requests import Chosen, Request, Sampling
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
            token = draw(_chances(logits[row], sampling), request.noise.take(logits.shape[-1]))
        chosen.append(_told(logits[row], token, sampling.logprobs))
    return chosen


@torch.no_grad()
def foresee(logits: Tensor, request: Request, draws: int) -> int:
    """What a request would choose by logits [V] in the draw that comes so many after the next.

    With the same noise, draws from two distributions agree with a probability of at least (1 - d) / (1 + d),
    d their total variation distance (Daliri et al. 2024, arXiv:2408.07978).
    """
    if request.sampling.temperature <= GREEDY:
        return int(logits.argmax())
    chances = _chances(logits.float(), request.sampling)
    return draw(chances, request.noise.ahead(draws, len(logits)))


def _chances(logits: Tensor, sampling: Sampling) -> Tensor:
    return nucleus((logits / sampling.temperature).softmax(-1), sampling.top_p)


def nucleus(chances: Tensor, top_p: float) -> Tensor:
    """Probabilities [V], all but those of the likeliest tokens that have `top_p` together at zero."""
    if top_p >= 1:
        return chances
    ordered, index = chances.sort(descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p  # the first one is always inside
    return chances.index_fill(0, index[outside], 0.0)


def draw(chances: Tensor, noise: Tensor) -> int:
    """A token by probabilities [V], which need not add up to one, and exponential noise [V]."""
    return int((chances / noise.to(chances.device)).argmax())


def _told(logits: Tensor, token: int, count: int | None) -> Chosen:
    """A token with what the network itself thinks of it: before temperature and nucleus."""
    if count is None:
        return Chosen(token)
    logs = logits.log_softmax(-1)
    top, index = logs.topk(min(count, len(logs)))
    return Chosen(token, float(logs[token]), tuple(zip(index.tolist(), top.tolist(), strict=True)))
