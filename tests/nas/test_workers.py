"""Workers are described settings: what they refuse, their options, and the executor that they make."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.errors import SettingError, UnknownName
from foundation.settings import Described, describe
from nas.executors import cluster
from nas.executors.base import FunctionScorer, WorkItem
from nas.executors.local import InProcess
from nas.executors.workers import WORKERS, Workers
from nas.validation.settings import ValidationSettings

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
    assert names == ["workers", "ray", "batch-items", "worker-threads", "gpus", "item-seconds"]


def test_the_count_may_be_given_by_position() -> None:
    assert Workers(3) == Workers(count=3)
    assert Workers() == Workers(0)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"count": -1}, "count must be at least 0"),
        ({"count": 1.5}, "count must be a whole number"),
        ({"batch_items": 0}, "batch_items must be at least 1"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"gpus": -1.0}, "gpus must be at least 0"),
        ({"gpus": float("nan")}, "gpus must be finite"),
        ({"item_seconds": 0.0}, "item_seconds must be positive"),
        ({"address": 5}, "address must be text"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        Workers(**settings)


def test_a_misspelt_setting_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="batch_items"):
        Workers.from_plain({"batch_item": 2})


def test_workers_come_back_from_plain_values() -> None:
    workers = Workers(2, address="head:6379", batch_items=8, gpus=0.5, item_seconds=60.0)
    assert Workers.from_plain(workers.to_plain()) == workers


def test_without_workers_candidates_are_scored_here() -> None:
    executor = Workers().executor({"length": FunctionScorer(len)})
    assert isinstance(executor, InProcess)
    with executor:
        executor.warm_up()
        executor.submit([WorkItem(0, "abc", 0, 0), WorkItem(1, "a", 0, 0)])
        assert [executor.collect()[0].values["length"].value for _ in range(2)] == [3.0, 1.0]


def test_without_an_address_there_is_nothing_to_check() -> None:
    Workers(2).check()


def test_a_cluster_that_does_not_answer_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    with pytest.raises(SettingError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        Workers(1, address="127.0.0.1:1").check()


def test_addresses_without_a_port_are_left_to_ray() -> None:
    for address in (None, "auto", "local", "ray://head"):
        cluster._require_answer(address)
    with pytest.raises(SettingError, match="no Ray cluster"):
        cluster._require_answer("ray://127.0.0.1:1")


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
    assert cluster.cause(error) == line
