"""Processes that share a batch: every row is read once, and a process that ends badly ends the training."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluators.training import distributed
from evaluators.training.process_group import SINGLE_PROCESS, ProcessGroup, join
from foundation.errors import EvaluationFailed, SettingError


@given(rows=st.integers(1, 40), count=st.integers(1, 8))
def test_every_row_is_read_once(rows: int, count: int) -> None:
    batch = torch.arange(2 * rows).reshape(rows, 2)
    if rows < count:
        with pytest.raises(
            SettingError, match=f"a batch of {rows} rows cannot be shared by {count} processes"
        ):
            ProcessGroup(0, count).rows(batch)
        return
    parts = [ProcessGroup(rank, count).rows(batch) for rank in range(count)]
    assert torch.equal(torch.cat(parts).sort(dim=0).values, batch)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_a_single_process_adds_nothing_up() -> None:
    tensors = [torch.ones(2), torch.ones(3, 2)]
    SINGLE_PROCESS.add_up(tensors)
    SINGLE_PROCESS.add_up([])
    assert all(bool(tensor.eq(1).all()) for tensor in tensors)


@pytest.mark.parametrize("rank", [-1, 2, 7])
def test_a_rank_is_one_of_the_group(rank: int) -> None:
    with (
        pytest.raises(SettingError, match=f"rank must be one of 0 to 1, got {rank}"),
        join(rank, 2, "unused"),
    ):
        pass


@dataclass
class Process:
    """A process that lives for some looks at it and ends with a code."""

    code: int
    looks: int = 0

    @property
    def exitcode(self) -> int | None:
        return None if self.looks > 0 else self.code

    def is_alive(self) -> bool:
        self.looks -= 1
        return self.looks > 0


@given(looks=st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_processes_that_end_well_are_waited_for(looks: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "POLL_SECONDS", 0.0)
        processes = [Process(0, count) for count in looks]
        distributed._wait(processes)  # type: ignore[arg-type]  # has what is asked of it
    assert all(process.exitcode == 0 for process in processes)


@pytest.mark.parametrize("code", [1, -9])
def test_a_process_that_ends_badly_is_named(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(distributed, "POLL_SECONDS", 0.0)
    processes = [Process(0, 100), Process(code, 2)]
    with pytest.raises(EvaluationFailed, match=f"process 1 of 2 ended with {code}"):
        distributed._wait(processes)  # type: ignore[arg-type]  # has what is asked of it
