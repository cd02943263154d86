"""Studies over a user's own dataclasses, without registration, and objectives of a user's own."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nas
from foundation.errors import SettingError, SpaceError
from nas.executors.base import FunctionScorer, WorkItem, score_item
from nas.objectives.functions import OwnObjective
from nas.study.own_objectives import named_objectives
from nas.study.study import open_study
from search_spaces.language.choices import one_of
from search_spaces.language.printing import brief
from search_spaces.language.space import Space


@dataclass(frozen=True)
class Free:
    """Registered nowhere."""

    size: Any = 1


def size(spec: Free) -> float:
    return float(spec.size)


def search(folder: Path, space: Any = None, **settings: Any) -> nas.Study:
    space = space or Space(Free(one_of(1, 2, 3)))
    chosen = {"objectives": [size], "trials": 3, "finalists": 0, "strategy": "random", **settings}
    return nas.search(space, name="free", store=folder / "s.db", **chosen)


def test_own_dataclasses_are_read_back_without_registration(tmp_path: Path) -> None:
    done = search(tmp_path)
    done.store.close()
    again = open_study("free", tmp_path / "s.db")
    assert {again.spec(trial) for trial in again.trials()} <= {Free(1), Free(2), Free(3)}
    assert again.space.digest == done.space.digest
    again.store.close()


def test_nothing_is_imported_because_a_record_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tmp_path).store.close()
    monkeypatch.delitem(sys.modules, __name__)
    again = open_study("free", tmp_path / "s.db")
    with pytest.raises(
        SettingError, match=f"over its classes Free of {__name__}, which only its source defines"
    ):
        again.space  # noqa: B018
    assert {brief(again.spec(trial)) for trial in again.trials()} <= {"Free", "Free(size=2)", "Free(size=3)"}
    assert __name__ not in sys.modules
    again.store.close()


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Decoder:
        """Like a registered one."""

        size: Any = 1

    with pytest.raises(SpaceError, match=r"two classes are named Decoder.*: rename one"):
        search(tmp_path, Space(Decoder(one_of(1, 2))))


def test_default_objectives_say_what_to_pass(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=r"needs a space of Decoder, and this is one of Free: .*nas.objective"
    ):
        search(tmp_path, objectives=["params"])


class Weigher:
    """A callable object."""

    def __init__(self, name: str = "") -> None:
        if name:
            self.name = name

    def __call__(self, spec: Any) -> float:
        return float(spec.size)


def test_functions_are_named() -> None:
    given = [size, functools.partial(max, 1), Weigher(), Weigher("heavy"), "params"]
    names, functions = named_objectives(given)
    assert names == ["size", "max", "Weigher", "heavy", "params"]
    assert list(functions) == names[:-1]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([lambda spec: 1], r"a lambda is none: write a function with def, or nas.objective\(function, name="),
        ([functools.partial(lambda spec: 1)], "a lambda is none"),
        ([size, size], "two objectives are named size"),
        ([Weigher(), Weigher()], "two objectives are named Weigher"),
        ([Weigher], "an objective is a name or a function of the architecture, got Weigher"),
        ([3], "an objective is a name or a function of the architecture, got 3"),
        ([Weigher("not a name")], "'not a name' is none"),
        (size, r"objectives=\[size\]"),
        ("params", "objectives is a sequence"),
    ],
)
def test_functions_without_a_name_of_their_own_are_refused(given: Any, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        named_objectives(given)


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (None, "it returned None, not a number"),
        ("3", "it returned '3', not a number"),
        (b"3", "not a number"),
        ([1.0], "not a number"),
        (1j, "not a number"),
        (10**400, "not a number"),
        (torch.ones(2), "not a number"),
        (float("nan"), "it is nan"),
        (float("inf"), "it is inf"),
        (np.float64("nan"), "it is nan"),
    ],
)
def test_what_is_no_number_fails_the_candidate(returned: Any, says: str) -> None:
    outcome = score_item(
        {"it": FunctionScorer(OwnObjective("it", lambda spec: returned))}, WorkItem(0, 0, 0, 0)
    )
    assert outcome.reason is not None
    assert says in outcome.reason
    assert not outcome.unexpected


@pytest.mark.parametrize(
    "returned", [2, True, np.float32(2), np.int64(2), torch.tensor(2.0), torch.tensor([2])]
)
def test_all_kinds_of_numbers_are_taken(returned: Any) -> None:
    outcome = score_item(
        {"it": FunctionScorer(OwnObjective("it", lambda spec: returned))}, WorkItem(0, 0, 0, 0)
    )
    assert outcome.values["it"].value == float(returned)


@pytest.mark.parametrize("strategy", [Weigher, Weigher()])
def test_a_strategy_is_given_by_its_name(tmp_path: Path, strategy: Any) -> None:
    with pytest.raises(SettingError, match=r"a strategy is given by its name.*strategy='weigher'"):
        search(tmp_path, strategy=strategy)
