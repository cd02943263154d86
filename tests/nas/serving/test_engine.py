"""The engine: answers in a batch are those of the network alone, and no slot or page is lost."""

from __future__ import annotations

from random import Random

import pytest
import torch
from scipy.stats import chi2

from evaluators.tokens.vocabulary import ByteVocabulary
from foundation.errors import SettingError
from nas.serving.engine import NOT_FINITE, Engine
from nas.serving.requests import QueueFull, Request, Sampling, TooLong
from nas.serving.sampling import choose, nucleus
from nas.serving.settings import EngineSettings
from tests.nas.serving.networks import NETWORKS, Answers, engine, greedy, network, prompt

LENGTHS = (1, 17, 9, 30, 5)


def nothing_held(of: Engine) -> bool:
    """Whether all slots and pages are back."""
    pool = of.pool
    pages = all(len(p.free) == p.count == len(set(p.free)) for p in pool.pages.values())
    return pages and sorted(pool.free) == list(range(pool.rows)) and not of._writing


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_are_those_of_the_network_alone(name: str) -> None:
    answers = Answers(engine(name, chunk=13, page=4))
    for i, length in enumerate(LENGTHS):
        answers.ask(prompt(length, i), max_tokens=4 + 2 * i)
    answers.run()
    for i, length in enumerate(LENGTHS):
        assert answers.tokens(i) == greedy(answers.engine.model, prompt(length, i), 4 + 2 * i)
        assert answers.finish(i) == "length"
    assert answers.engine.tally.stepped_rows > answers.engine.tally.steps
    assert nothing_held(answers.engine)


@pytest.mark.parametrize("name", ["caches", "hybrid", "options"])
def test_a_row_that_gives_way_goes_on_where_it_was(name: str) -> None:
    answers = Answers(engine(name, page=2, rows=4))
    pages = answers.engine.pool.pages[None]
    del pages.free[pages.needed(64) :]  # as if the memory held one text
    for i in range(4):
        answers.ask(prompt(10, i), max_tokens=14)
    answers.run()
    assert answers.engine.tally.preempted > 0
    for i in range(4):
        assert answers.tokens(i) == greedy(answers.engine.model, prompt(10, i), 14)


@pytest.mark.parametrize("name", ["caches", "hybrid"])
def test_where_the_memory_holds_all_rows_nobody_waits_for_a_page(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(engine(name, page=2, rows=4, context=24, chunk=1000))
    of = answers.engine
    assert of.pool.pages[None].count == 4 * of.pool.pages[None].needed(24)
    for i in range(12):
        answers.ask(prompt(20, i), max_tokens=4 - i % 3)
    reading = of._read

    def read() -> None:
        reading()
        assert not of.waiting or not of.pool.free

    monkeypatch.setattr(of, "_read", read)
    answers.run()
    assert of.tally.preempted == 0


def test_requests_join_while_others_are_decoded() -> None:
    answers = Answers(engine())
    answers.ask(prompt(4), max_tokens=20)
    for _ in range(5):
        answers.engine.iterate()
    answers.ask(prompt(6, 1), max_tokens=3)
    answers.engine.iterate()
    assert len(answers.engine.running) == 2
    answers.run()
    assert answers.tokens(1) == greedy(answers.engine.model, prompt(6, 1), 3)


def test_draws_depend_on_the_seed_alone() -> None:
    alone, together = Answers(engine()), Answers(engine())
    alone.ask(prompt(5), temperature=1.0, seed=3, max_tokens=12)
    for seed in (1, 2, 3, 4):
        together.ask(prompt(5), temperature=1.0, seed=seed, max_tokens=12)
    alone.run(), together.run()
    assert together.tokens(2) == alone.tokens(0)
    assert len({tuple(together.tokens(i)) for i in range(4)}) == 4


def test_a_nucleus_of_one_token_is_greedy() -> None:
    answers = Answers(engine())
    answers.ask(prompt(5), temperature=1.0, top_p=1e-9, max_tokens=8)
    answers.run()
    assert answers.tokens(0) == greedy(answers.engine.model, prompt(5), 8)


def test_draws_have_the_probabilities_of_the_network() -> None:
    """A chi-squared test of 2,000 draws from 6 tokens; it fails by chance in one of 10^5 runs."""
    logits = torch.tensor([0.3, -1.0, 2.0, 0.0, 1.1, -0.4])
    requests = [
        Request([0], Sampling(temperature=1.5, top_p=0.94, seed=seed), lambda piece: None)
        for seed in range(2_000)
    ]
    tokens = [chosen.token for chosen in choose(logits.expand(2_000, -1), requests) if chosen]
    chances = nucleus((logits / 1.5).softmax(-1), 0.94)
    kept = chances > 0
    assert kept.sum() == 5  # the least likely one is outside
    expected = 2_000 * chances / chances.sum()
    counts = torch.bincount(torch.tensor(tokens), minlength=6)
    assert counts[~kept].sum() == 0
    statistic = float(((counts - expected)[kept] ** 2 / expected[kept]).sum())
    assert chi2.sf(statistic, 4) > 1e-5


def test_logprobs_are_those_of_the_network() -> None:
    answers = Answers(engine("caches"))
    answers.ask(prompt(5), logprobs=3, max_tokens=2)
    answers.run()
    first, second = (chosen for piece in answers.pieces[0] for chosen in piece.chosen)
    with torch.no_grad():
        logs = answers.engine.model(torch.tensor([[*prompt(5), first.token]]))[0].log_softmax(-1)
    top = logs[4].topk(3)
    assert [token for token, _ in first.top] == top.indices.tolist()
    assert [log for _, log in first.top] == pytest.approx(top.values.tolist(), abs=1e-5)
    assert first.logprob == first.top[0][1]
    assert second.logprob == pytest.approx(float(logs[5].max()), abs=1e-5)


def test_what_is_cancelled_leaves_its_slot() -> None:
    answers = Answers(engine(chunk=4))
    requests = [answers.ask(prompt(20, i), max_tokens=20) for i in range(6)]
    for _ in range(12):
        answers.engine.iterate()
    assert answers.engine.running
    assert answers.engine.reading
    for request in (answers.engine.running[0].request, answers.engine.reading.request, requests[-1]):
        request.cancelled = True
    answers.run()
    assert [answers.finish(i) for i in range(6)].count("cancelled") == 3
    assert nothing_held(answers.engine)


def test_a_random_campaign_loses_no_slot() -> None:
    campaign(0, 10)


@pytest.mark.slow
def test_a_thousand_requests_with_random_cancels_lose_no_slot() -> None:
    campaign(0, 1000)


def campaign(seed: int, count: int) -> None:
    """Requests of random sizes that come and are cancelled at random: the others are answered exactly."""
    dice, answers = Random(seed), Answers(engine(chunk=16, page=4, rows=5, queue=1000))
    pages = answers.engine.pool.pages[None]
    pages.count = pages.needed(64) + 5  # so that some give way
    pages.free = list(range(pages.count))
    requests, cancelled = [], set()
    while len(requests) < count or answers.engine.busy:
        if len(requests) < count and dice.random() < 0.4:
            size = dice.randint(1, 40)
            requests.append(
                answers.ask(prompt(size, len(requests)), max_tokens=dice.randint(1, min(15, 64 - size)))
            )
        if requests and dice.random() < 0.1:
            cancelled.add(dice.randrange(len(requests)))
            requests[max(cancelled)].cancelled = True
        answers.engine.iterate()
    assert nothing_held(answers.engine)
    for i, request in enumerate(requests):
        if request.cancelled:
            assert answers.finish(i) in ("cancelled", "length")
        elif i % 7 == 0:
            assert answers.tokens(i) == greedy(
                answers.engine.model, list(request.prompt), request.sampling.max_tokens
            )
    assert sum(answers.engine.tally.finished.values()) == count


def test_a_network_that_is_not_finite_fails_its_requests_alone() -> None:
    answers = Answers(engine())
    with torch.no_grad():
        answers.engine.model.embedding[3] = torch.nan
    answers.ask([1, 3, 5], max_tokens=4)
    answers.run()
    assert answers.finish(0) == "error"
    assert answers.pieces[0][-1].error == NOT_FINITE
    assert nothing_held(answers.engine)


def test_a_full_queue_and_what_does_not_fit_are_refused() -> None:
    answers = Answers(engine(queue=1, rows=1))
    with pytest.raises(TooLong, match="60 tokens of a prompt and 6 new ones are more than the context of 64"):
        answers.ask(prompt(60), max_tokens=6)
    answers.ask(prompt(60), max_tokens=5)
    with pytest.raises(SettingError, match="tokens from 0 to 255, and at least one"):
        answers.ask([])
    with pytest.raises(SettingError, match="tokens from 0 to 255"):
        answers.ask([256])
    answers.ask(prompt(2))
    with pytest.raises(QueueFull, match="2 requests run or wait already"):
        answers.ask(prompt(2))
    with pytest.raises(SettingError, match="memory=1 MiB cannot hold the state of one text of 65536"):
        engine("caches", memory=1, context=65536)


def test_stop_strings_end_an_answer_before_them() -> None:
    model = network("caches")
    vocabulary = ByteVocabulary()
    answers = Answers(Engine(model, EngineSettings(context=64, rows=2), vocabulary))
    answers.ask(prompt(5), max_tokens=24)
    answers.run()
    whole = answers.text(0)
    stop = whole[8:10]
    answers.ask(prompt(5), max_tokens=24, stop=("never in it", stop))
    answers.run()
    assert answers.text(1) == whole[: whole.index(stop)]
    assert answers.finish(1) == "stop"


def test_an_end_token_is_no_part_of_an_answer() -> None:
    model = network("caches")
    expected = greedy(model, prompt(5), 10)
    answers = Answers(Engine(model, EngineSettings(context=64), ends=[expected[4]]))
    answers.ask(prompt(5), max_tokens=10)
    answers.run()
    assert answers.tokens(0) == expected[: expected.index(expected[4])]
    assert answers.finish(0) == "stop"


def test_pages_hold_little_that_is_unused() -> None:
    """Half a page for each row on average."""
    answers = Answers(engine("caches", context=512, rows=16, page=8))
    for i in range(16):
        answers.ask(prompt(100 + 7 * i, i), max_tokens=30)
    wastes = []
    while answers.engine.iterate():
        if len(answers.engine.running) == 16:
            wastes.append(answers.engine.pool.usage().waste)
    assert len(wastes) > 10
    assert 0 < sum(wastes) / len(wastes) <= 0.04
