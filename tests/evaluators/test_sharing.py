"""Processes that share a step: every row of every network's batch is read once, and none does far more."""

from __future__ import annotations

from collections import Counter
from math import gcd

import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluators.supernet.sharing import Sharing
from evaluators.training.process_group import SINGLE_PROCESS, ProcessGroup

COSTS = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=8)


def shares(networks: int, count: int) -> list[Sharing]:
    return [Sharing.of(ProcessGroup(rank, count), networks) for rank in range(count)]


@given(costs=COSTS, missing=st.integers(0, 3), count=st.integers(1, 8), rows=st.integers(8, 20))
def test_every_row_of_every_network_is_read_once(
    costs: list[float], missing: int, count: int, rows: int
) -> None:
    # fewer networks than the recipe says come of a step whose random draws are alike
    networks = len(costs) + missing
    batch = torch.arange(rows)[:, None]
    read: Counter[tuple[int, int]] = Counter()
    for sharing in shares(networks, count):
        for number in sharing.mine(costs):
            read.update((number, int(row)) for row in sharing.readers.rows(batch))
    assert read == {(number, row): 1 for number in range(len(costs)) for row in range(rows)}


@given(costs=COSTS, count=st.integers(1, 8))
def test_teams_have_networks_in_like_numbers_and_none_does_far_more(costs: list[float], count: int) -> None:
    dealt = [sharing.mine(costs) for sharing in shares(len(costs), count)]
    teams = gcd(len(costs), count)
    assert {len(numbers) for numbers in dealt} == {len(costs) // teams}
    work = [sum(costs[number] for number in numbers) for numbers in dealt]
    assert max(work) - min(work) <= max(costs) * len(costs) / teams


def test_the_largest_goes_with_the_smallest() -> None:
    costs = [9.0, 1.0, 5.0, 4.0]
    assert [sharing.mine(costs) for sharing in shares(4, 2)] == [[0, 1], [2, 3]]


def test_rows_are_shared_where_networks_cannot_be() -> None:
    assert [(sharing.teams, sharing.readers.count) for sharing in shares(4, 3)] == [(1, 3)] * 3
    assert [(sharing.teams, sharing.readers.count) for sharing in shares(1, 4)] == [(1, 4)] * 4
    assert [(s.team, s.readers.rank) for s in shares(4, 8)] == [(r % 4, r // 4) for r in range(8)]
    assert Sharing.of(SINGLE_PROCESS, 4) == Sharing()
