"""Beginnings that prompts share: read once, answers unchanged, memory bounded."""

from __future__ import annotations

import pytest
import torch

from nas.serving.prefixes import LEAST, Prefixes, copied
from search_spaces.network.decode_state import DecodeState
from tests.nas.serving.networks import NETWORKS, Answers, engine, greedy, prompt

SHARED = prompt(21, 9)


@pytest.mark.parametrize("name", NETWORKS)
def test_later_prompts_copy_what_they_share_and_answer_the_same(name: str) -> None:
    answers = Answers(engine(name, chunk=16, page=4, rows=2))
    prompts = [[*SHARED, *prompt(3 + i, i)] for i in range(4)]
    for each in prompts:
        answers.ask(each, max_tokens=4)
    answers.run()
    for i, each in enumerate(prompts):
        assert answers.tokens(i) == greedy(answers.engine.model, each, 4)
    tally = answers.engine.tally
    shared = tally.prefix_tokens // 2
    assert shared >= len(SHARED)  # of the third and the fourth prompt
    assert tally.prompt_tokens + tally.prefix_tokens == sum(map(len, prompts))


def test_equal_prompts_are_read_but_for_their_last_token() -> None:
    answers = Answers(engine("recurrent"))
    for _ in range(3):
        answers.ask(SHARED, max_tokens=1)
    answers.run()
    assert answers.engine.tally.prefix_tokens == len(SHARED) - 1
    assert answers.tokens(0) == answers.tokens(1) == answers.tokens(2)


def test_without_memory_nothing_is_kept() -> None:
    answers = Answers(engine("recurrent", prefix_memory=0))
    for _ in range(3):
        answers.ask(SHARED, max_tokens=1)
    answers.run()
    assert answers.engine.tally.prefix_tokens == 0


@pytest.mark.parametrize("shared", [0, 7, 8, 9, 29, 30])
def test_a_prompt_parts_where_the_first_token_differs(shared: int) -> None:
    prefixes, one = Prefixes(memory=1), list(range(30))
    assert prefixes.parting(one) == 0
    assert prefixes.parting([99, *one]) == 0
    other = [*one[:shared], *([50] * (35 - shared))]
    assert prefixes.parting(other) == (shared if shared >= LEAST else 0)


def test_what_was_used_least_lately_gives_way() -> None:
    def state(tokens: int) -> DecodeState:
        return DecodeState(({"place": {"part": torch.full((100,), float(tokens))}},), tokens, tokens)

    prefixes = Prefixes(memory=1000)  # two states of 400 bytes
    prefixes.keep([1], state(1))
    prefixes.keep([1, 2], state(2))
    assert prefixes.longest([1, 5]) is not None
    prefixes.keep([1, 2, 3], state(3))
    assert prefixes.held == 800
    kept = [
        found.position if (found := prefixes.longest(asked)) else None for asked in ([1, 2, 4], [1, 2, 3, 4])
    ]
    assert kept == [1, 3]
    assert prefixes.longest([1]) is None
    again = copied(state(3))
    assert again.layers[0]["place"]["part"].sum() == 300
    prefixes.keep([9], DecodeState(({"place": {"part": torch.zeros(500)}},), 1, 1))
    assert prefixes.longest([9, 9]) is None
