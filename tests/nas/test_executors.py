"""In-process and Ray: every task comes back once, whatever happens to a worker."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import nas
from foundation.errors import ClusterError, EvaluationFailed, IllegalArchitecture, SettingError
from hw_profiles.timing.locks import exclusive
from nas.executors.base import Executor, FunctionScorer, Outcome, WorkItem, score_item
from nas.executors.local import InProcess
from nas.study.space_files import load_space
from nas.study.trial import Value
from search_spaces.language.serialization import parts
from tests.nas.toys import rich, small, toy_space

ray = pytest.importorskip("ray")

from ray._private import ray_constants  # noqa: E402

from nas.executors import cluster as clusters  # noqa: E402
from nas.executors import ray_start  # noqa: E402
from nas.executors.ray import RayPool  # noqa: E402
from nas.executors.room import folder_of_files  # noqa: E402


def times_ten(spec: Any) -> float:
    if spec == "die":
        os._exit(1)
    if spec == "sleep":
        time.sleep(600)
    if spec == "nap":
        time.sleep(0.2)
        return 2.0
    if spec == "crash":
        ctypes.string_at(0)
    if spec == "hungry":
        raise torch.OutOfMemoryError("2 GiB")
    if isinstance(spec, Path):  # a candidate that the first worker has no room for
        if not spec.exists():
            spec.touch()
            raise MemoryError("the first time")
        return 7.0
    if spec == "odd":
        raise ValueError("odd")
    if isinstance(spec, Timing):
        return spec.alone()
    return float(spec) * 10


class Timing(NamedTuple):
    """A candidate that is timed on a device, of which its worker wants to be the only user."""

    folder: Path
    number: int

    def alone(self) -> float:
        """Keep the device for a while, and write down who did, from when to when."""
        with exclusive("cuda:0", folder=self.folder, say=lambda text: None):
            began = time.time()
            time.sleep(0.05)
            (self.folder / f"{self.number}.json").write_text(json.dumps([os.getpid(), began, time.time()]))
        return 1.0


SCORERS = {"value": FunctionScorer(times_ten)}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A Ray of this process, on a machine where another was killed, and one is elsewhere."""
    files = Path(tempfile.mkdtemp(dir="/tmp", prefix="r"))
    (files / "ray").mkdir()
    (files / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(files))
        patch.setenv("RAY_ADDRESS", "10.255.255.1:6379")
        folder = ray_start.start(2, folder_of_files())
        assert folder.parent == files
        yield
        ray_start.end(folder)
    assert not ray.is_initialized()
    assert not folder.exists()
    shutil.rmtree(files)


def pool(**settings: Any) -> Executor:
    return RayPool(SCORERS, workers=2, **settings)


def listening() -> dict[str, set[str]]:
    """The addresses on which this process and its children listen, by the name of the process."""
    import psutil  # Ray brings its own

    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return {
        process.name(): {c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN}
        for process in family
    }


def test_a_ray_of_ones_own_listens_on_loopback_alone() -> None:
    with pool():
        found = listening()
    assert {"raylet", "gcs_server"} <= {name for name, where in found.items() if where}
    assert any(name.startswith("ray::") and where for name, where in found.items())
    assert set.union(*found.values()) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}, found


def test_a_cluster_is_named_with_its_nodes_and_a_warning() -> None:
    line = clusters.joined()
    assert re.fullmatch(
        r"joined the Ray cluster at 127\.0\.0\.1:\d+: 1 node \(\S+\), 2 CPUs, 0 GPUs;"
        r" whoever can join it can run code on it",
        line,
    )
    assert clusters.alive()


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


@pytest.mark.slow  # six workers start
def test_a_crash_is_told_with_the_end_of_the_log() -> None:
    with pool() as executor:
        found = drain(executor, [1, "crash", 3])
    assert re.fullmatch(
        r"worker lost: its process died, killed or by a crash; its log ends with: Fatal Python error:"
        r" Segmentation fault \| File .*, line \d+ in string_at .*\(tried 3 times\)",
        str(found[1].reason),
    ), found[1]
    assert [number for number, outcome in found.items() if outcome.reason] == [1]


def test_what_is_out_of_memory_is_tried_elsewhere_and_not_for_ever(tmp_path: Path) -> None:
    with pool() as executor:
        found = drain(executor, [1, "hungry", tmp_path / "made", 4])
    assert found[1].reason == "out of memory: 2 GiB"
    assert found[2].values["value"].value == 7.0
    assert not any(found[number].reason for number in (0, 2, 3))


def test_a_task_that_takes_too_long_fails_and_the_pool_goes_on() -> None:
    with pool(timeout=1.0) as executor:
        found = drain(executor, ["sleep", *["nap"] * 12])
        assert found[0].reason == "no answer within 1 s"
        assert list(found).index(0) < 12  # though the other worker had answers all the time
        assert not any(outcome.reason for number, outcome in found.items() if number)
        assert drain(executor, [2])[0].values["value"].value == 20.0


@pytest.mark.slow  # each item that is tried alone costs a worker
def test_of_a_batch_that_takes_too_long_only_the_cause_fails() -> None:
    with pool(batch=3, timeout=1.0) as executor:
        found = drain(executor, [1, "sleep", 3])
    assert [number for number, outcome in found.items() if outcome.reason] == [1]


def test_workers_of_a_host_time_on_a_device_one_after_the_other(tmp_path: Path) -> None:
    with pool() as executor:
        found = drain(executor, [Timing(tmp_path, number) for number in range(8)])
    assert all(not outcome.reason for outcome in found.values())
    times = sorted(json.loads(path.read_text()) for path in tmp_path.glob("*.json"))
    assert len(times) == 8
    assert len({worker for worker, _, _ in times}) == 2
    spans = sorted((began, ended) for _, began, ended in times)
    assert all(ended <= began for (_, ended), (began, _) in pairwise(spans))


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
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            "out of memory: DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
            False,
        ),
        (RuntimeError("shapes do not match"), "RuntimeError: shapes do not match", True),
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
    for name, workers in (("here", nas.Workers(0)), ("ray", nas.Workers(2, candidates_per_message=batch))):
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


@dataclass
class Unreadable:
    """Cannot be read by a worker: it raises there, or ends it, until a file is there."""

    made: str = ""

    def __reduce__(self) -> Any:
        return _read, (self.made,)

    def __call__(self, spec: Any, steps: int, seed: int) -> Value:
        return Value(0.0)


def _read(made: str) -> Any:
    if not made:
        raise RuntimeError("no such scorer here")
    if not Path(made).exists():
        Path(made).touch()
        os._exit(1)
    return FunctionScorer(times_ten)


def test_workers_that_cannot_start_end_the_search() -> None:
    with pytest.raises(ClusterError, match=r"a worker cannot start, tried 3 times: .*no such scorer here"):
        RayPool({"value": Unreadable()}, workers=1)


def test_a_worker_that_dies_while_it_starts_is_replaced(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with RayPool({"value": Unreadable(str(tmp_path / "made"))}, workers=1) as executor:
        assert drain(executor, [4])[0].values["value"].value == 40.0
    assert (tmp_path / "made").exists()
    time.sleep(0.5)
    assert capfd.readouterr() == ("", "")  # Ray would print a paragraph about it


@pytest.mark.parametrize(("settings", "said"), [({"gpus": 1.0}, "0 GPUs"), ({"threads": 2}, "2 CPUs")])
def test_workers_for_whom_there_is_no_room_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=f"workers=2: there is room for [01] .*the Ray cluster.*{said}"):
        pool(**settings)


def test_nonsense_is_refused() -> None:
    with pytest.raises(SettingError, match="at least 1"):
        pool(batch=0)


def test_a_ray_of_our_own_is_asked_as_often_as_ray_does_and_a_foreign_one_twice() -> None:
    usual = ray_constants.NUM_REDIS_GET_RETRIES
    with ray_start.starting():
        assert usual == ray_constants.NUM_REDIS_GET_RETRIES
    with ray_start.starting(joins=True):
        assert ray_constants.NUM_REDIS_GET_RETRIES == ray_start.JOINS < usual
    assert usual == ray_constants.NUM_REDIS_GET_RETRIES
