"""`nas.objective`: functions of the architecture with units, directions and bounds, on any space."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import nas
from foundation.errors import EvaluationFailed, SettingError, SpaceError
from nas.objectives.base import Objective, objectives
from nas.steps.search import search_of
from nas.study.creation import create_study
from nas.study.own_objectives import named_objectives
from nas.study.plan import Plan
from nas.study.plan_objectives import goals_of, quality_of, scored_functions
from nas.study.study import open_study
from nas.study.trial import TrialState
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from tests.nas.test_program_source import nas_in, program


@dataclass(frozen=True)
class Box:
    """Registered nowhere."""

    size: Any = 1


@dataclass(frozen=True)
class Tower:
    """As well."""

    boxes: Any = ()


SPACE = Space(Tower(repeat(Box(one_of(1, 2, 4, 8)), (1, 2, 3))), name="towers")


def weight(spec: Tower) -> float:
    """what a tower weighs."""
    return float(sum(box.size for box in spec.boxes))


class Power:
    """the power of a tower"""

    def __init__(self, exponent: float) -> None:
        self.exponent = exponent

    def __call__(self, spec: Tower) -> float:
        return float(sum(box.size**self.exponent for box in spec.boxes))


def scaled(factor: float, spec: Tower) -> float:
    return factor * weight(spec)


@pytest.fixture(autouse=True)
def _undeclared() -> Iterator[None]:
    """What a test declares is unknown to the next."""
    assert "params" in objectives  # so it is filled
    things, added_by = dict(objectives._things), dict(objectives._added_by)
    yield
    objectives._things, objectives._added_by = things, added_by


def searched(folder: Path, given: list[Any], **settings: Any) -> nas.Study:
    plan = {"trials": 12, "finalists": 0, "progress": False, **settings}
    return nas.search(SPACE, name="s", objectives=given, store=folder / "s.db", **plan)


def test_a_declared_function_is_known_with_unit_direction_and_bounds(tmp_path: Path) -> None:
    heavy = nas.objective(weight, unit="kg", cheap=True, least=3, most=9)
    power = nas.objective(Power(0.5), name="power", unit="W", maximise=True)
    assert heavy(Tower((Box(2), Box(4)))) == 6.0
    study = searched(tmp_path, [power, "weight"], constraints=["weight<8.5"])
    assert study.plan.constraints == ("weight<8.5", "weight>=3", "weight<=9")
    assert [(o.name, o.unit, o.maximise, o.about) for o in study.objectives] == [
        ("power", "W", True, "the power of a tower"),
        ("weight", "kg", False, "what a tower weighs"),
    ]
    assert goals_of(study.plan) == [("power", True), ("weight", False)]
    assert study.front().head == ["trial", "digest", "power (W)", "weight (kg)", "architecture"]
    for trial in study.trials():
        allowed = 3 <= trial.values["weight"].value < 8.5
        assert trial.state is (TrialState.COMPLETE if allowed else TrialState.INFEASIBLE)
        assert ("power" in trial.values) == allowed
    assert {study.numbers(t)["power"].value for t in study.front()}
    again = searched(tmp_path, [power, heavy], constraints=["weight<8.5"], trials=14)
    assert again.record.id == study.record.id


def test_its_record_needs_no_code(tmp_path: Path) -> None:
    nas.objective(weight, unit="kg", cheap=True, maximise=True)
    nas.objective(functools.partial(scaled, 2), name="twice", unit="lb", cheap=True, most=20)
    searched(tmp_path, ["weight"], constraints=["twice<=14"]).store.close()
    for name in ("weight", "twice"):
        del objectives._things[name]
    again = open_study("s", tmp_path / "s.db")
    assert [(o.unit, o.maximise) for o in again.objectives] == [("kg", True)]
    assert again.plan.constraints == ("twice<=14", "twice<=20")
    assert again.frame().attrs["units"] == {"seconds": "s", "weight": "kg", "twice": "lb"}
    assert len(again.front()) == 1
    again.store.close()


def test_what_is_cheap_is_computed_and_the_rest_is_asked_of_workers(tmp_path: Path) -> None:
    nas.objective(weight, cheap=True)
    slow = nas.objective(Power(2), name="slow")
    plan = Plan(objectives=("weight", "slow"))
    assert list(scored_functions(plan)) == ["slow"]
    assert quality_of(plan) is None
    with pytest.raises(SettingError, match="constraint 'slow<3': slow is only known once it was scored"):
        searched(tmp_path, [slow], constraints=["slow<3"])
    with pytest.raises(SettingError, match="slow is only known once"):
        slow.of_networks(None)  # type: ignore[arg-type]
    study = create_study(SPACE, plan, name="s", store=tmp_path / "s.db")
    assert [o.name for o in search_of(study, None).cheap] == ["weight"]  # type: ignore[arg-type]
    study.store.close()


@pytest.mark.slow
def test_workers_score_declared_functions_of_own_classes(tmp_path: Path) -> None:
    nas.objective(lambda spec: scaled(0.5, spec), name="half", unit="kg")
    study = searched(tmp_path, ["half"], trials=6, workers=2)
    complete = [t for t in study.trials() if t.state is TrialState.COMPLETE]
    assert {t.values["half"].value for t in complete} == {weight(study.spec(t)) / 2 for t in complete}


@pytest.mark.parametrize("constraint", ["weight<1", "weight>24.5"])
def test_what_nothing_keeps_is_refused_with_the_nearest(tmp_path: Path, constraint: str) -> None:
    nas.objective(weight, unit="kg", cheap=True)
    with pytest.raises(SpaceError, match=r"the (smallest|largest) network of this space has (1|24) kg"):
        searched(tmp_path, ["weight"], constraints=[constraint])


@pytest.mark.parametrize("given", [["weight", "params"], ["weight", "decode_ms"], ["bits_per_byte"]])
def test_numbers_of_decoders_are_of_decoders(tmp_path: Path, given: list[str]) -> None:
    nas.objective(weight, cheap=True)
    with pytest.raises(SettingError, match=f"{given[-1]} needs a space of Decoder, and this is one of Tower"):
        searched(tmp_path, given)
    with pytest.raises(SettingError, match="params needs a space of Decoder"):
        searched(tmp_path, ["weight"], constraints=["params<3"])


def test_an_added_objective_works_on_own_classes(tmp_path: Path) -> None:
    def cheap(spec: Tower, cost_model: Any) -> nas.Value:
        return nas.Value(weight(spec) * cost_model.scenario.batch, source="counted")

    added = objectives.add(
        Objective(name="load", unit="kg", about="x", cheap=cheap, maximise=True, per_scenario=True)
    )
    assert named_objectives([added])[0] == ["load"]
    study = searched(tmp_path, [added], constraints=["load<10"])
    assert max(trial.values["load"].value for trial in study.front()) < 10
    with pytest.raises(SettingError, match="the objective other is not known by its name"):
        named_objectives([replace(added, name="other")])


def test_what_it_raises_fails_its_candidate(tmp_path: Path) -> None:
    def fussy(spec: Tower) -> float:
        return 1.0 if len(spec.boxes) > 1 else [][0]

    nas.objective(fussy, cheap=True)
    study = searched(tmp_path, ["fussy"], trials=30, strategy="random")
    failed = [t for t in study.trials() if t.state is TrialState.FAILED]
    assert failed
    assert all("the objective fussy raised IndexError" in str(t.reason) for t in failed)
    with pytest.raises(EvaluationFailed, match="fussy raised IndexError"):
        objectives["fussy"].cheap(Tower((Box(),)), None)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: nas.objective(lambda spec: 1), "a lambda is none: write a function with def, or nas.obj"),
        (lambda: nas.objective(weight, name="two words"), "'two words' is none"),
        (lambda: nas.objective(3), "a function of the architecture, got 3"),  # type: ignore[call-overload]
        (lambda: nas.objective(Tower), "a function of the architecture, got Tower"),
        (lambda: nas.objective(weight, name="params"), "another objective 'params', of nas.objectives.costs"),
        (lambda: nas.objective(weight, most=3), "most bounds what is known before scoring: say cheap=True"),
        (lambda: nas.objective(weight, cheap=True, least=3, most=2), "nothing is at least 3 and at most 2"),
        (lambda: nas.objective(weight, cheap=True, most=float("nan")), "most must be a finite number"),
        (lambda: nas.objective(weight, unit="a\nb"), "unit must be a line of text"),
        (lambda: nas.objective(weight, maximise="no"), "maximise must be True or False"),  # type: ignore[call-overload]
    ],
)
def test_senseless_declarations_are_refused(call: Any, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        call()


def test_a_notebook_may_declare_again_and_a_module_may_not_take_a_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "other", ModuleType("other"))
    say = "import nas; made = nas.objective(lambda spec: 1, name='again', cheap=True)"
    cells = [{"__name__": "__main__"} for _ in range(2)]
    for cell in cells:
        exec(say, cell)
    with pytest.raises(SettingError, match="two objectives are named again: give one a name of its own"):
        named_objectives([cells[0]["made"]])
    assert named_objectives([cells[1]["made"]])[0] == ["again"]
    with pytest.raises(SettingError, match="there is another objective 'again', of __main__"):
        exec(say, {"__name__": "other"})


SCRIPT = """from dataclasses import dataclass
from typing import Any
import nas
from search_spaces import Space, one_of, repeat

@dataclass(frozen=True)
class Box:
    size: Any = 1

@dataclass(frozen=True)
class Tower:
    boxes: Any = ()

@nas.objective(unit="kg", cheap=True, least=2)
def weight(spec):
    "what it weighs"
    return sum(box.size for box in spec.boxes)

tall = nas.objective(lambda spec: len(spec.boxes), name="height", maximise=True)
space = Space(Tower(repeat(Box(one_of(1, 2, 4, 8)), (1, 2, 3))), name="towers")
"""
SEARCH = """nas.search(
    space, name="s", objectives=[tall, weight], constraints=["weight<12"], trials=4, finalists=0,
    progress=False,
)
"""


@pytest.mark.parametrize("begun_by", ["program", "command"])
def test_a_study_of_own_classes_and_objectives_goes_on_without_its_files(
    tmp_path: Path, begun_by: str
) -> None:
    file = tmp_path / "first.py"
    file.write_text(SCRIPT + (SEARCH if begun_by == "program" else ""))
    command = "search first.py --name s -o height -o weight -c weight<12 --trials 4 --finalists 0"
    begun = program(tmp_path) if begun_by == "program" else nas_in(tmp_path, command)
    assert begun.returncode == 0, begun
    file.unlink()
    resumed = nas_in(tmp_path, "resume s --trials 6")
    assert resumed.returncode == 0, resumed
    assert "6 distinct architectures scored" in resumed.stdout
    shown = nas_in(tmp_path, "show s 0")
    assert "Tower(boxes=(Box(" in shown.stdout
    report = (tmp_path / "studies" / "s" / "report.html").read_text()
    assert "weight (kg)" in report
    assert "weight&gt;=2" in report or "weight>=2" in report


def test_a_file_lists_what_it_declares(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text(SCRIPT)
    listed = nas_in(tmp_path, "objectives --from first.py").stdout
    assert re.search(r"height +once a worker scored it", listed)
    assert re.search(r"weight +kg +before training +what it weighs", listed)
    explained = nas_in(tmp_path, "objectives weight --from first.py").stdout
    assert "bounded in every study that asks for it: weight>=2" in explained


def test_bounds_of_an_own_number_may_be_negative(tmp_path: Path) -> None:
    gap = nas.objective(lambda spec: 3.0 - weight(spec), name="gap", cheap=True, least=-20)
    study = searched(tmp_path, [gap, weight], constraints=["gap<-5"])
    assert study.front()
    assert all(-20 <= trial.values["gap"].value < -5 for trial in study.complete())
    with pytest.raises(SpaceError, match="gap>=-20 and gap<-30 exclude each other"):
        searched(tmp_path / "b", [gap, weight], constraints=["gap<-30"])
