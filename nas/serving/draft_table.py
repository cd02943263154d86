"""Which draft pays for a network: how often each is right, what it costs, and the best of all, exactly.

A text is written once; as a draft does not change it (`nas.serving.speculation`), each draft is then asked
along this text. With L of the P tokens that it proposes right, a pass over at most k of them writes

    1 + E[min(L, k)]  tokens     in     c(k) + E[v(min(P, k))]  ms,

c what k proposals take (linear between 1 and the most), and v what a pass over k + 1 tokens takes: the
network to read them, and the engine beside it (pages, draws, pieces of text). The engine's share, what a text
without a draft takes beyond its steps, does not grow with the network and is most of a pass of a small one.
Places are those that a draft of the most tokens comes to. The choice of draft and k under a budget of memory
is `nas.engines.exact`'s; what it chose is then run and timed, beside no draft.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean, median
from time import perf_counter

import torch

from foundation.errors import SettingError
from nas.engines.exact.integer_program import ChoiceProblem
from nas.engines.exact.slots import Option, Slot
from nas.serving.continuation import continued
from nas.serving.draft_settings import DraftSettings
from nas.serving.drafts.base import Draft, drafts
from nas.serving.requests import Request, Sampling
from nas.serving.rewinding import Rewinding
from nas.serving.sampling import foresee
from nas.serving.speculation import Speculation
from search_spaces.network.generation import GREEDY, Generation
from search_spaces.network.model import Model

MEMORY, REPEATS = "bytes", 5


@dataclass(frozen=True)
class Pass:
    """One pass: how many tokens were proposed, and how many of them were right."""

    proposed: int
    right: int


@dataclass(frozen=True)
class DraftRow:
    """What was seen of a draft: passes, milliseconds of 1 and of the most proposals, bytes of weights."""

    draft: Draft
    passes: tuple[Pass, ...]
    one_ms: float
    most_ms: float
    bytes: int

    @property
    def acceptance(self) -> float:
        """The share of proposed tokens that were right."""
        return sum(p.right for p in self.passes) / max(1, sum(p.proposed for p in self.passes))

    def tokens(self, k: int) -> float:
        """Tokens that a pass over at most k proposals writes."""
        return 1 + fmean(min(p.right, k) for p in self.passes)

    def ms_per_token(self, k: int, verify_ms: Sequence[float]) -> float:
        """Milliseconds of a token with at most k proposals; `verify_ms` are those of 0, 1, ... of them."""
        share = (k - 1) / max(1, len(verify_ms) - 2)
        proposing = self.one_ms + share * (self.most_ms - self.one_ms)
        return (proposing + fmean(verify_ms[min(p.proposed, k)] for p in self.passes)) / self.tokens(k)


@dataclass(frozen=True)
class DraftTable:
    """All drafts that were tried, and times without them: of a token, and of passes over 0, 1, ... more.

    `best` is a draft with its number of tokens, None where none pays, and `predicted` and `measured` are the
    milliseconds of a token without a draft and with it.
    """

    rows: tuple[DraftRow, ...]
    step_ms: float
    verify_ms: tuple[float, ...]
    best: Draft | None
    predicted: tuple[float, float]
    measured: tuple[float, float]


def draft_table(
    network: Model, prompts: Sequence[Sequence[int]], tried: Sequence[Draft], settings: DraftSettings
) -> DraftTable:
    """Try drafts on texts that go on from these prompts.

    Raises:
        SettingError: a draft is none for the network.
        EvaluationFailed: a prediction is not finite.
    """
    network.eval()
    how = Generation(new_tokens=settings.new_tokens, temperature=settings.temperature)
    answers = [list(continued(network, prompt, how, None).tokens()) for prompt in prompts]
    texts = list(zip(prompts, answers, strict=True))
    verify = _verify_ms(network, [*prompts[0], *answers[0]], settings.most)
    rows = tuple(_tried(network, draft, texts, settings) for draft in tried)
    step = _step_ms(network, [*prompts[0], *answers[0]])
    before = fmean(_run_ms(network, prompt, how, None) for prompt in prompts)
    engine = max(0.0, before - step)
    passes = tuple(ms + engine for ms in verify)
    best, ms = _best(rows, step + engine, passes, settings.memory)
    after = fmean(_run_ms(network, prompt, how, best) for prompt in prompts)
    return DraftTable(rows, step + engine, passes, best, (step + engine, ms), (before, after))


def choices(network: Model) -> list[Draft]:
    """The drafts of all kinds that are worth a try."""
    return [draft for kind in drafts.values() for draft in kind.choices(network)]


def _best(
    rows: Sequence[DraftRow], step_ms: float, verify_ms: Sequence[float], memory: float | None
) -> tuple[Draft | None, float]:
    """The draft, with its tokens, of the least time within the memory; None where no draft is as fast."""
    options = [Option(None, step_ms)]
    for row in rows:
        for k in range(1, len(verify_ms)):
            cost = {MEMORY: float(row.bytes)}
            options.append(Option(replace(row.draft, tokens=k), row.ms_per_token(k, verify_ms), cost))
    budget = {} if memory is None or len(options) == 1 else {MEMORY: memory * 2**20}
    chosen = ChoiceProblem([Slot("draft", tuple(options))]).best(budget)
    name = options[chosen.picks[0]].name
    return (name if isinstance(name, Draft) else None), chosen.score


@torch.no_grad()
def _tried(
    network: Model, draft: Draft, texts: Sequence[tuple[Sequence[int], list[int]]], settings: DraftSettings
) -> DraftRow:
    """Ask a draft along the texts."""
    begin = Speculation(network, draft).draft.begun(network)
    passes, one, most = [], [], []
    for prompt, answer in texts:
        proposer, alone, done = begin(), begin(), 1  # the first token comes with the prompt
        sampling = Sampling(max_tokens=len(answer), temperature=settings.temperature, seed=0)
        request = Request(prompt, sampling, lambda piece: None)
        _drawn(request, network, 1)
        while done < len(answer) - 1:
            text, count = [*prompt, *answer[:done]], min(settings.most, len(answer) - 1 - done)
            pick = partial(_pick, request)
            began = perf_counter()
            proposed = proposer.propose(text, count, pick)
            between = perf_counter()
            alone.propose(text, 1, pick)
            if done > 1 and count == settings.most:  # the first one reads the whole prompt
                most.append(1e3 * (between - began))
                one.append(1e3 * (perf_counter() - between))
            right = next((i for i, t in enumerate(proposed) if t != answer[done + i]), len(proposed))
            passes.append(Pass(len(proposed), right))
            _drawn(request, network, right + 1)
            done += right + 1
    times = (median(one), median(most)) if most else (0.0, 0.0)
    return DraftRow(draft, tuple(passes), *times, _own_bytes(draft, network))


def _drawn(request: Request, network: Model, count: int) -> None:
    """So many tokens have been drawn."""
    if request.sampling.temperature > GREEDY:
        for _ in range(count):
            request.noise.take(network.spec.vocab)


def _pick(request: Request, logits: torch.Tensor, draws: int) -> int:
    return foresee(logits, request, draws)


def _own_bytes(draft: Draft, network: Model) -> int:
    """Bytes of the weights of a draft that are not the network's own."""
    model = draft.model(network)
    if model is None:
        return 0
    shared = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    return sum(w.nbytes for w in model.parameters() if w.untyped_storage().data_ptr() not in shared)


@torch.no_grad()
def _verify_ms(network: Model, text: list[int], most: int) -> list[float]:
    """Milliseconds in which the network reads a token and 0, 1, ... proposed ones, and marks the place."""
    held = Rewinding(network, network.init_state(1, len(text) + most + 1))
    held.read_last(text[:-1])
    found = []
    for count in range(most + 1):
        times = []
        for _ in range(REPEATS):
            began = perf_counter()
            held.mark()
            held.read(text[-1:] * (count + 1))
            times.append(1e3 * (perf_counter() - began))
            held.align(text[:-1])
        found.append(median(times))
    return found


@torch.no_grad()
def _step_ms(network: Model, text: Sequence[int]) -> float:
    """Milliseconds of a decode step."""
    held, times = Rewinding(network, network.init_state(1, len(text) + 2 * REPEATS)), []
    held.read_last(text)
    for _ in range(2 * REPEATS):
        began = perf_counter()
        held.step(text[-1])
        times.append(1e3 * (perf_counter() - began))
    return median(times)


def _run_ms(network: Model, prompt: Sequence[int], how: Generation, draft: Draft | None) -> float:
    """Milliseconds of a token when a text is really gone on with, behind the first token."""
    told = continued(network, prompt, how, draft).tokens()
    next(told)
    began = perf_counter()
    count = sum(1 for _ in told)
    if not count:
        raise SettingError("a draft is timed on two new tokens or more")
    return 1e3 * (perf_counter() - began) / count
