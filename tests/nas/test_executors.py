"""In-process and Ray: every task comes back once, whatever happens to a worker."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import nas
from foundation.errors import EvaluationFailed, IllegalArchitecture, SettingError
from nas.executors.base import Executor, FunctionScorer, Outcome, WorkItem, score_item
from nas.executors.local import InProcess
from nas.study.space_files import load_space
from nas.study.trial import Value
from search_spaces.language.serialization import parts
from tests.nas.toys import rich, small, toy_space

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
    executor.submit([WorkItem(number, spec, 0, 0) for number, spec in enumerate(specs)])
    found: dict[int, Outcome] = {}
    while len(found) < len(specs):
        for outcome in executor.collect():
            assert outcome.number not in found, "a task came back twice"
            found[outcome.number] = outcome
    return found


@pytest.mark.parametrize("batch", [0, pytest.param(1, marks=pytest.mark.slow), 7])
def test_every_task_comes_back_once_with_its_value(batch: int) -> None:
    with InProcess(SCORERS) if batch == 0 else pool(batch=batch) as executor:
        found = drain(executor, list(range(25)))
    values = {number: outcome.values["value"].value for number, outcome in found.items()}
    assert values == {number: 10.0 * number for number in range(25)}


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_lost_worker_fails_its_task_and_the_pool_goes_on(batch: int) -> None:
    with pool(batch=batch) as executor:
        found = drain(executor, [1, 2, "die", 4, 5, 6, 7, 8, 9])
        assert "worker lost" in str(found[2].reason)
        assert [number for number, outcome in found.items() if outcome.reason] == [2]
        again = drain(executor, [3])
        assert again[0].values["value"].value == 30.0


def test_a_task_that_takes_too_long_fails_and_the_pool_goes_on() -> None:
    with pool(item_seconds=1.0) as executor:
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


@pytest.mark.parametrize(
    ("raised", "reason", "unexpected"),
    [
        (EvaluationFailed("the loss is nan"), "the loss is nan", False),
        (IllegalArchitecture("too deep"), "too deep", False),
        (MemoryError("64 GiB"), "out of memory: 64 GiB", False),
        (torch.OutOfMemoryError("on the GPU"), "out of memory: on the GPU", False),
        (KeyError("size"), "KeyError: 'size'", True),
    ],
)
def test_what_a_scorer_raises_is_told(raised: Exception, reason: str, unexpected: bool) -> None:
    def scorer(spec: Any, steps: int, seed: int) -> Value:
        raise raised

    outcome = score_item({"fine": FunctionScorer(times_ten), "bad": scorer}, WorkItem(7, 1, 0, 0))
    assert (outcome.number, outcome.reason, outcome.unexpected) == (7, reason, unexpected)
    assert not outcome.values


@pytest.mark.parametrize("batch", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_random_search_finds_the_same_on_ray(batch: int, tmp_path: Path) -> None:
    found = []
    for name, workers in (("here", nas.Workers(0)), ("ray", nas.Workers(2, batch_items=batch))):
        study = nas.search(
            toy_space(),
            name=name,
            objectives=[small, rich],
            strategy="random",
            trials=60,
            workers=workers,
            store=tmp_path / "s.db",
        )
        found.append([(t.number, t.genotype, t.state, t.values) for t in study.trials()])
        study.store.close()
    assert found[0] == found[1]


OWN = """
from dataclasses import dataclass
from typing import Any
from search_spaces import Space, one_of
from search_spaces.language.serialization import parts

@parts.add
@dataclass(frozen=True)
class Own:
    weight: Any = 1

space = Space(Own(one_of(1, 2)))
"""


def weight(spec: Any) -> float:
    if parts["Own"] is not type(spec):
        raise TypeError("the stored tree would mean another class")
    return float(spec.weight)


def test_blocks_of_a_space_file_reach_the_workers(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    space = load_space(str(tmp_path / "own.py"))
    study = nas.search(space, name="s", objectives=[weight], trials=4, workers=2, store=tmp_path / "s.db")
    assert sorted(study.points(study.complete())) == [(1.0,), (2.0,)]
    study.store.close()


class Unreadable:
    """Cannot be read by a worker."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise RuntimeError("no such scorer here")


def test_workers_that_cannot_start_end_the_search() -> None:
    from nas.executors.ray import RayPool

    with pytest.raises(EvaluationFailed, match=r"a worker cannot start.*no such scorer here"):
        RayPool({"value": Unreadable()}, workers=2)  # type: ignore[dict-item]


@pytest.mark.parametrize(("settings", "said"), [({"gpus": 1.0}, "2 GPUs"), ({"threads": 2}, "4 CPUs")])
def test_workers_for_whom_there_is_no_room_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=f"the workers need {said}, and Ray has"):
        pool(**settings)


def test_nonsense_is_refused() -> None:
    with pytest.raises(SettingError, match="at least 1"):
        pool(batch=0)
