"""Processes that share a batch: every row is read once, and a process that ends badly ends the training."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

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
    """A process that has ended with a code."""

    exitcode: int

    def join(self) -> None:
        """It has."""


def followed(codes: list[int], said: list[list[Any]]) -> list[tuple[int, float]]:
    """What is heard of processes that said these things, in their order, and ended with these codes."""
    reports = []
    for things in said:
        report, mouth = Pipe(duplex=False)
        for thing in things:
            mouth.send(thing)
        mouth.close()
        reports.append(report)
    heard: list[tuple[int, float]] = []
    processes: Any = [Process(code) for code in codes]
    distributed._follow(processes, reports, lambda step, loss: heard.append((step, loss)))
    return heard


@given(steps=st.lists(st.tuples(st.integers(1, 9), st.floats(0, 9)), max_size=9), count=st.integers(1, 4))
def test_the_steps_of_processes_that_end_well_are_passed_on(
    steps: list[tuple[int, float]], count: int
) -> None:
    assert followed([0] * count, [list(steps), *([] for _ in range(count - 1))]) == steps


@pytest.mark.parametrize(
    ("codes", "said", "reason"),
    [
        ([0, 1], [[(1, 2.0)], []], "process 1 of 2: ended with 1"),
        ([0, -9], [[], []], "process 1 of 2: ended with -9"),
        ([1, 0], [["ValueError: odd"], []], "process 0 of 2: ValueError: odd"),
    ],
)
def test_a_process_that_ends_badly_is_named(codes: list[int], said: list[list[Any]], reason: str) -> None:
    with pytest.raises(EvaluationFailed, match=reason):
        followed(codes, said)


@pytest.mark.parametrize(
    ("count", "device", "batch", "reason"),
    [
        (
            3,
            "cuda",
            None,
            "processes=3: each process needs a GPU of its own, and this process may use 2 GPUs",
        ),
        (
            2,
            "cuda:0",
            None,
            "processes=2: each process trains on its own GPU, so the device is cuda, not cuda:0",
        ),
        (
            1000,
            "cpu",
            None,
            "processes=1000: each process needs a CPU of its own, and this process may use 8 of 16 CPUs",
        ),
        (9, "cpu", 3, "each process needs a CPU .*; a batch of 3 rows cannot be shared by 9 processes"),
        (4, "cpu", 3, "processes=4: a batch of 3 rows cannot be shared by 4 processes"),
    ],
)
def test_processes_without_a_processor_of_their_own_are_refused(
    monkeypatch: pytest.MonkeyPatch, count: int, device: str, batch: int | None, reason: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("search_spaces.devices.usable_cpus", lambda: 8)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for fine in ((1, "cuda:1", 1), (2, "cuda", 2), (8, "cpu", 8)):
        distributed.check_processes(*fine)
    with pytest.raises(SettingError, match=reason):
        distributed.check_processes(count, device, batch)


def test_processes_meet_on_the_loopback_interface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    with join(0, 1, tmp_path / "meet") as group:
        group.add_up([])
        assert os.environ["GLOO_SOCKET_IFNAME"] in {name for _, name in socket.if_nameindex()} & {"lo", "lo0"}
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
