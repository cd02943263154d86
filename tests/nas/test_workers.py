"""Workers are described settings: what they refuse, their options, and the executor that they make."""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import nas
from foundation.errors import SettingError, UnknownName
from foundation.settings import Described, describe
from nas.executors import cluster, losses, reach
from nas.executors.base import FunctionScorer, WorkItem
from nas.executors.local import InProcess
from nas.executors.room import room
from nas.executors.workers import MAX, WORKERS, Workers
from nas.validation.settings import ValidationSettings
from tests.nas.toys import small, toy_space

SETTINGS = [*describe(Workers), *describe(ValidationSettings)]


def named(described: Described) -> str:
    return described.name


@pytest.mark.parametrize("described", SETTINGS, ids=named)
def test_a_setting_has_a_help_that_is_a_sentence(described: Described) -> None:
    assert described.about.help[0].isupper()
    assert described.about.help.endswith(("none.", ".", "none"))


@pytest.mark.parametrize("described", describe(Workers), ids=named)
def test_settings_of_workers_stand_under_one_heading(described: Described) -> None:
    assert described.about.group == WORKERS
    assert not described.about.changeable


def test_options_of_workers_have_the_names_that_are_documented() -> None:
    names = [described.option for described in describe(Workers)]
    assert names == ["workers", "ray", "candidates-per-message", "worker-threads", "gpu-share", "timeout"]


def test_the_count_may_be_given_by_position() -> None:
    assert Workers(3) == Workers(count=3)
    assert Workers() == Workers(0)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"count": -1}, "count must be at least 0"),
        ({"count": 1.5}, "count must be a whole number"),
        ({"candidates_per_message": 0}, "candidates_per_message must be at least 1"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"gpu_share": -1.0}, "gpu_share must be at least 0"),
        ({"gpu_share": float("nan")}, "gpu_share must be finite"),
        ({"timeout": 0.0}, "timeout must be positive"),
        ({"timeout": 1e9}, "timeout must be at most"),
        ({"timeout": 5.0}, r"timeout=5.0 needs workers: .* in this process cannot be stopped"),
        ({"gpu_share": 1.5}, "a share of one GPU, or a whole number"),
        ({"address": 5}, "address must be text"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        Workers(**settings)


def test_a_misspelt_setting_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="candidates_per_message"):
        Workers.from_plain({"candidates_per_mesage": 2})


def test_workers_come_back_from_plain_values() -> None:
    workers = Workers(2, address="head:6379", candidates_per_message=8, gpu_share=0.5, timeout=60.0)
    assert Workers.from_plain(workers.to_plain()) == workers


def test_without_workers_candidates_are_scored_here() -> None:
    executor = Workers().executor({"length": FunctionScorer(len)})
    assert isinstance(executor, InProcess)
    with executor:
        executor.warm_up()
        executor.submit([WorkItem(0, "abc", 0, 0), WorkItem(1, "a", 0, 0)])
        assert [executor.collect()[0].values["length"].value for _ in range(2)] == [3.0, 1.0]


@pytest.mark.parametrize(
    ("threads", "gpus", "most"),
    [
        (1, 0.0, 20),
        (5, 0.0, 3),
        (17, 0.0, 0),
        (1, 0.5, 4),
        (1, 0.4, 4),
        (1, 1 / 3, 6),
        (1, 2.0, 1),
        (1, 4.0, 0),
    ],
)
def test_room_is_counted_by_node(threads: int, gpus: float, most: int) -> None:
    assert room([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 4.0, "memory": 1e9}], threads, gpus) == most


def test_workers_are_compared_with_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.executors.room.usable_cpus", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setitem(sys.modules, "ray", None)  # nothing of it is needed
    Workers(8).check()
    Workers(2, gpu_share=0.5).check()
    for workers, reason in (
        (
            Workers(1000),
            "workers=1000: there is room for 8 with threads=1 each, as this process may use 8 CPUs",
        ),
        (Workers(3, threads=3), "room for 2 with threads=3"),
        (
            Workers(3, gpu_share=0.5),
            "room for 2 with threads=1 and gpu_share=0.5 each, as this process may use .* 1 GPUs",
        ),
    ):
        with pytest.raises(SettingError, match=reason):
            workers.check()


def test_what_has_no_room_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="there is room for"):
        nas.search(toy_space(), name="a", objectives=[small], workers=1000, store=tmp_path / "s.db")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("workers", "wanted", "joins"),
    [
        (Workers(3), 3, None),
        (Workers.of("max"), None, None),
        (Workers(address="local"), None, None),
        (Workers(2, address="local"), 2, None),
        (Workers(address="head:6379"), None, "head:6379"),
        (Workers(MAX, address="auto"), None, "auto"),
    ],
)
def test_without_a_number_there_are_as_many_as_fit(
    workers: Workers, wanted: int | None, joins: str | None
) -> None:
    assert (workers.wanted, workers.joins) == (wanted, joins)
    assert workers.on_ray


def test_how_many_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.executors.room.usable_cpus", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setitem(sys.modules, "ray", None)
    told: list[str] = []
    for workers in (Workers(MAX), Workers(address="local", threads=3), Workers(MAX, gpu_share=0.25)):
        workers.check(say=told.append)
    assert told == [
        "8 Ray actors of 1 CPU each: as many as fit (workers for fewer)",
        "2 Ray actors of 3 CPUs each: as many as fit (workers for fewer)",
        "4 Ray actors of 1 CPU and 0.25 GPUs each: as many as fit (workers for fewer)",
    ]
    Workers(2).check(say=told.append)
    assert len(told) == 3  # who asks for a number knows it
    with pytest.raises(SettingError, match="workers='max': there is room for 0 with threads=9"):
        Workers(MAX, threads=9).check()
    with pytest.raises(SettingError, match="count must be a whole number or max, got 'many'"):
        Workers.of("many")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process that is in no cluster, on a machine without one."""
    pytest.importorskip("ray")
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "no Ray cluster at 127.0.0.1:1: Connection refused"),
        ("127.0.0.1:0", "0 is no port"),
        ("127.0.0.1:99999", "99999 is no port"),
        ("no.such.host.invalid:6379", "no Ray cluster at no.such.host.invalid:6379: "),
        ("ray://127.0.0.1:10001", "write HOST:PORT"),
        ("http://127.0.0.1:8265", "write HOST:PORT"),
        ("local", "write HOST:PORT"),
        ("head", "write HOST:PORT"),
        ("", "write HOST:PORT"),
        ("auto", "none was started on this machine, and RAY_ADDRESS names none"),
    ],
)
def test_a_cluster_that_is_not_there_is_refused_at_once(elsewhere: Path, address: str, reason: str) -> None:
    began = time.monotonic()
    with pytest.raises(SettingError, match=reason):
        cluster.join(address)
    assert time.monotonic() - began < 10


def test_auto_names_the_cluster_that_it_stands_for(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere.write_text("127.0.0.1:2")
    with pytest.raises(SettingError, match=r"no Ray cluster at 127\.0\.0\.1:2 \(auto\): Connection refused"):
        cluster.join("auto")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:3")
    with pytest.raises(SettingError, match=r"no Ray cluster at 127\.0\.0\.1:3 \(auto\): Connection refused"):
        cluster.join("auto")


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_what_answers_and_is_no_ray_is_told(elsewhere: Path, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(SettingError, match="something else than Ray answers there"):
            cluster.join(f"127.0.0.1:{port}")
        thread.join()


def test_a_cluster_that_does_not_say_a_word_is_given_up(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "SECONDS", 0.1)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(SettingError, match=r"no answer within 0\.1 s"),
    ):
        cluster.join(f"127.0.0.1:{server.getsockname()[1]}")


MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.50.0
    Python: 3.12.1
This process on node 10.0.0.2 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""


@pytest.mark.parametrize(
    ("inner", "line"),
    [
        (MISMATCH, r"Version mismatch: .* Ray: 2\.50\.0 Python: 3\.12\.1 This .* Python: 3\.11\.7"),
        ("odd", "Failed to connect"),
    ],
)
def test_why_a_cluster_does_not_take_one_is_one_line(inner: str, line: str) -> None:
    refused = ConnectionError("Failed to connect\n to the cluster")
    refused.__cause__ = RuntimeError(inner)
    assert re.fullmatch(line, cluster.refusal(refused))


class RaisedOnActor(Exception):
    """As Ray prints what was raised on an actor."""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("The actor died.\nmore", "The actor died."),
        ("ray::work()\n  File x\nValueError: too wide", "ValueError: too wide"),
        (
            "ray::work()\nnas.Error: no\nfoundation.errors.SpaceError: none fits",
            "foundation.errors.SpaceError: none fits",
        ),
    ],
)
def test_the_cause_of_a_loss_is_one_line(text: str, line: str) -> None:
    error: Any = RaisedOnActor(text)
    assert losses.cause(error) == line
