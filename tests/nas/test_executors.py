"""In-process and Ray: every task comes back once, whatever happens to a worker."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nas.executors.base import Executor, FunctionScorer, Outcome, Task
from nas.executors.local import InProcess
from search_spaces.errors import SettingError

ray = pytest.importorskip("ray")


def times_ten(spec: Any) -> float:
    if spec == "die":
        os._exit(1)
    if spec == "sleep":
        time.sleep(60)
    if spec == "odd":
        raise ValueError("odd")
    return float(spec) * 10


SCORERS = {"value": FunctionScorer(times_ten)}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def pool(**settings: Any) -> Executor:
    from nas.executors.ray import RayPool

    return RayPool(SCORERS, workers=2, **settings)


def drain(executor: Executor, specs: list[Any]) -> dict[int, Outcome]:
    executor.submit([Task(number, spec, 0, 0) for number, spec in enumerate(specs)])
    found: dict[int, Outcome] = {}
    while len(found) < len(specs):
        for outcome in executor.collect():
            assert outcome.number not in found, "a task came back twice"
            found[outcome.number] = outcome
    return found


@pytest.mark.parametrize("batch", [0, 1, 7])
def test_every_task_comes_back_once_with_its_value(batch: int) -> None:
    with InProcess(SCORERS) if batch == 0 else pool(batch=batch) as executor:
        found = drain(executor, list(range(25)))
    values = {number: outcome.values["value"].value for number, outcome in found.items()}
    assert values == {number: 10.0 * number for number in range(25)}


@pytest.mark.parametrize("batch", [1, 3])
def test_a_lost_worker_fails_its_task_and_the_pool_goes_on(batch: int) -> None:
    with pool(batch=batch) as executor:
        found = drain(executor, [1, 2, "die", 4, 5, 6, 7, 8, 9])
        assert "worker lost" in str(found[2].reason)
        assert [number for number, outcome in found.items() if outcome.reason] == [2]
        again = drain(executor, [3])
        assert again[0].values["value"].value == 30.0


def test_a_task_that_takes_too_long_fails_and_the_pool_goes_on() -> None:
    with pool(task_seconds=1.0) as executor:
        executor.warm_up()
        found = drain(executor, ["sleep", 1])
        assert "no answer within" in str(found[0].reason)
        assert drain(executor, [2])[0].values["value"].value == 20.0


def test_errors_are_outcomes() -> None:
    for executor in (InProcess(SCORERS), pool()):
        with executor:
            outcome = drain(executor, ["odd"])[0]
        assert outcome.reason == "ValueError: odd"
        assert outcome.unexpected
        assert not outcome.values


def test_nonsense_is_refused() -> None:
    with pytest.raises(SettingError, match="at least 1"):
        pool(batch=0)
