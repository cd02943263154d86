"""The loop: what is written when, what is answered from the store, and what ends a search."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

import nas
from foundation.errors import (
    EvaluationFailed,
    IllegalArchitecture,
    SettingError,
    SpaceError,
    StoreError,
    UnknownName,
)
from nas.driver import run as drive
from nas.executors.base import FunctionScorer
from nas.executors.local import InProcess
from nas.progress import Progress
from nas.steps.search import search_of
from nas.store import Store
from nas.strategies.base import Proposal, Strategy
from nas.study.constraints import Constraint
from nas.study.creation import create_study
from nas.study.plan import Plan
from nas.study.study import Study, open_study
from nas.study.trial import Trial, TrialState
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from tests.nas.toys import Toy, Wide, rich, small, toy_space

Function = Callable[[Any], float]


def run(folder: Path, *objectives: Function, space: Space | None = None, **settings: Any) -> Study:
    plan = {"trials": 40, "strategy": "random", "finalists": 0, **settings}
    return nas.search(
        space or toy_space(), name="s", objectives=objectives or [small], store=folder / "s.db", **plan
    )


def named(name: str, function: Function) -> Function:
    function.__name__ = name
    return function


def states(study: Study) -> Counter[TrialState]:
    return Counter(trial.state for trial in study.trials())


def test_a_trial_is_written_before_its_work_starts(tmp_path: Path) -> None:
    seen: list[Counter[TrialState]] = []

    def watching(spec: Toy) -> float:
        with Store(str(tmp_path / "s.db"), read_only=True) as store:
            seen.append(Counter(t.state for t in store.trials(store.study("s").id)))
        return small(spec)

    run(tmp_path, watching, trials=6)
    assert [counts[TrialState.RUNNING] for counts in seen] == [1] * len(seen)
    assert seen[0] == {TrialState.RUNNING: 1}


def test_a_repeated_architecture_is_answered_from_the_store(tmp_path: Path) -> None:
    calls: Counter[Toy] = Counter()

    def counting(spec: Toy) -> float:
        calls[spec] += 1
        return small(spec)

    space = Space(Toy((Wide(one_of(1, 2, 3, 4), one_of(0, 1)),)))
    study = run(tmp_path, counting, space=space, trials=12)
    trials = study.trials()
    assert len(trials) == 12
    assert set(calls.values()) == {1}
    assert len(calls) < 8
    assert sum(trial.reused is None for trial in trials) == len(calls)
    for trial in trials:
        if trial.reused is not None:
            assert trials[trial.reused].digest == trial.digest
            assert trials[trial.reused].values == trial.values


def test_a_search_ends_when_every_architecture_was_tried(tmp_path: Path) -> None:
    said: list[str] = []
    progress = Progress()
    progress.say = said.append  # type: ignore[method-assign]
    space = Space(Toy((Wide(one_of(1, 2), one_of(0, 1)),)), name="four")
    trials = run(tmp_path, space=space, trials=10**6, progress=progress).trials()
    assert len({trial.digest for trial in trials}) == 4
    assert len({trial.digest for trial in trials[:-1]}) == 3
    ended = (
        f"every architecture of four was tried, 4 in all: the search ends after {len(trials)} trials,"
        " not 1,000,000"
    )
    assert said[-1] == ended
    assert run(tmp_path, space=space, trials=10**6, progress=progress).trials() == trials
    assert said.count(ended) == 1


def test_more_trials_continue_and_other_settings_are_refused(tmp_path: Path) -> None:
    first = run(tmp_path, trials=10).trials()
    more = run(tmp_path, trials=25).trials()
    assert more[:10] == first
    assert [trial.number for trial in more] == list(range(25))
    with pytest.raises(SettingError, match="seed=0, not seed=1"):
        run(tmp_path, trials=25, seed=1)
    with pytest.raises(StoreError, match=f"{toy_space().digest}.*{Space(Wide(one_of(1, 2))).digest}"):
        run(tmp_path, space=Space(Wide(one_of(1, 2))))


def test_failures_are_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    def fragile(spec: Toy) -> float:
        if len(spec.stack) == 2:
            raise EvaluationFailed("the loss is nan at step 7")
        if len(spec.stack) == 3 and spec.shared == 0:
            raise IllegalArchitecture("three and nothing")
        if len(spec.stack) == 3 and spec.shared == 1:
            raise MemoryError("too large")
        return small(spec)

    study = run(tmp_path, fragile)
    assert states(study)[TrialState.FAILED] > 5
    assert states(study)[TrialState.COMPLETE] > 5
    reasons = {trial.reason for trial in study.trials() if trial.state is TrialState.FAILED}
    assert {"the loss is nan at step 7", "three and nothing", "out of memory: too large"} <= reasons


def test_one_bug_is_recorded_and_an_evaluator_that_is_broken_stops_the_search(tmp_path: Path) -> None:
    def once(spec: Toy) -> float:
        if len(spec.stack) == 2 and spec.shared == 2:
            raise ZeroDivisionError("seldom")
        return small(spec)

    assert "ZeroDivisionError: seldom" in {t.reason for t in run(tmp_path / "a", once).trials()}
    with pytest.raises(
        EvaluationFailed, match=r"^20 candidates in a row .*error: 20 times ZeroDivisionError: always; resume"
    ):
        run(tmp_path / "b", _always)
    assert states(open_study("s", tmp_path / "b" / "s.db"))[TrialState.FAILED] == 20


def _always(spec: Toy) -> float:
    raise ZeroDivisionError("always")


def test_an_interrupted_search_keeps_its_books(tmp_path: Path) -> None:
    calls: list[Toy] = []

    def tired(spec: Toy) -> float:
        calls.append(spec)
        if len(calls) == 8:
            signal.raise_signal(signal.SIGINT)
        return small(spec)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tired)
    stopped = open_study("s", tmp_path / "s.db")
    assert states(stopped) == {TrialState.COMPLETE: len(stopped.trials()) - 1, TrialState.RUNNING: 1}
    finished = run(tmp_path, tired).trials()
    assert [t.number for t in finished] == list(range(40))
    fresh = run(tmp_path / "fresh", named("tired", lambda spec: small(spec))).trials()
    assert [(t.number, t.genotype, t.values) for t in finished] == [
        (t.number, t.genotype, t.values) for t in fresh
    ]


def test_illegal_answers_of_the_space_never_reach_the_evaluator(tmp_path: Path) -> None:
    space = Space(
        Toy((Wide(one_of(1, 2, 3, 4)),)), constraints=[lambda spec: spec.stack[0].size != 3], name="three"
    )
    study = run(tmp_path, small, rich, space=space)
    assert {study.spec(trial).stack[0].size for trial in study.trials()} == {1, 2, 4}


LAYER = Layer(sequence_mixer=ShortConv(kernel=one_of(2, 3, 4)), channel_mixer=SwiGLU())
LAYERS = Space(Decoder(d_model=one_of(16, 32), layers=repeat(LAYER, (1, 2, 3))), name="layers")


def test_what_breaks_a_constraint_is_recorded_and_never_scored(tmp_path: Path) -> None:
    scored: list[int] = []

    def depth(spec: Decoder) -> float:
        scored.append(spec.d_model)
        return float(len(spec.layers))

    study = run(tmp_path, depth, space=LAYERS, trials=12, constraints=["params<12e3"])
    broken = [t for t in study.trials() if t.state is TrialState.INFEASIBLE]
    assert broken
    assert all("not params<12000" in str(t.reason) and t.values["params"].value >= 12e3 for t in broken)
    assert sum(t.state is TrialState.COMPLETE for t in study.trials()) == 12
    assert set(scored) == {16}


def test_a_search_that_only_breaks_constraints_gives_up(tmp_path: Path) -> None:
    study = create_study(LAYERS, Plan(objectives=("params",), trials=3), name="s", store=tmp_path / "s.db")
    search = search_of(study, InProcess({}))
    with pytest.raises(SpaceError, match=r"params<10: the smallest network of this space has 7,\d+$"):
        drive(replace(search, constraints=(Constraint("params", "<", 10),)), 3)
    assert set(states(study)) == {TrialState.INFEASIBLE}
    study.store.close()


class Knowing(Strategy):
    """Proposes the first of four random architectures that breaks no constraint, of the fewest parameters."""

    name = "knowing"

    def propose(self, number: int, dice: Random) -> Proposal:
        drawn = [self.space.sample(dice) for _ in range(4)]
        specs = [self.space.close(genotype) for genotype in drawn]
        params = self.known.values(specs)["params"]
        kept = [i for i, spec in enumerate(specs) if self.known.violation(spec) is None]
        return Proposal(drawn[min(kept or range(4), key=params.__getitem__)])


def test_a_strategy_is_told_what_can_be_computed_of_candidates(tmp_path: Path) -> None:
    plan = Plan(objectives=("params", "d"), constraints=("state_bytes<1e3",), trials=0, finalists=0)
    study = create_study(LAYERS, plan, name="s", store=tmp_path / "s.db", functions={"d": rich})
    search = search_of(study, InProcess({"d": FunctionScorer(lambda spec: 1.0)}))
    assert search.strategy.known.names == ()
    search = replace(search, strategy=Knowing(LAYERS, [("params", False), ("d", False)], seed=0))
    drive(search, 8)
    assert search.strategy.known.names == ("params", "state_bytes")
    specs = [study.spec(trial) for trial in study.trials()]
    values = search.strategy.known.values(specs)
    assert values["params"] == [trial.values["params"].value for trial in study.trials()]
    assert "not state_bytes<" in str(
        replace(search.strategy.known, constraints=(Constraint("state_bytes", "<", 1),)).violation(specs[0])
    )
    study.store.close()


class Stubborn(Strategy):
    """Asks for an architecture that does not exist, then for those that do."""

    name = "stubborn"

    def propose(self, number: int, dice: Random) -> Proposal:
        genes = {"layers": 1, "layers.0.sequence_mixer.kernel": 2, "d_model": 16 if number else 17}
        return Proposal(Genotype(genes))


def test_answers_that_do_not_stand_together_are_recorded(tmp_path: Path) -> None:
    study = create_study(LAYERS, Plan(objectives=("params",), trials=3), name="s", store=tmp_path / "s.db")
    heard: list[Trial] = []
    search = search_of(study, InProcess({}), on_trial=heard.append)
    drive(replace(search, strategy=Stubborn(LAYERS, [("params", False)], seed=0)), 2)
    trials = study.trials()
    assert [t.state for t in trials] == [TrialState.ILLEGAL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert "17" in str(trials[0].reason)
    assert trials[2].reused == 1
    assert heard == trials
    study.store.close()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_cannot_be_compared_are_failures(tmp_path: Path, number: float) -> None:
    def seldom(spec: Toy) -> float:
        return number if len(spec.stack) == 2 else small(spec)

    study = run(tmp_path, seldom)
    failed = [trial for trial in study.trials() if trial.state is TrialState.FAILED]
    assert {trial.reason for trial in failed} == {f"seldom is {number}"}
    assert study.front()


def test_a_function_may_not_take_a_known_name(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="params is the name of a known objective"):
        run(tmp_path, named("params", lambda spec: 1.0))


def test_a_full_store_ends_the_search_and_it_goes_on_later(tmp_path: Path) -> None:
    calls: list[int] = []
    study = create_study(
        toy_space(),
        Plan(objectives=("small",), trials=9),
        name="s",
        store=tmp_path / "s.db",
        functions={"small": small},
    )
    search = search_of(study, InProcess({"small": FunctionScorer(small)}), on_trial=lambda t: calls.append(1))
    real = study.store.save

    def save(*arguments: Any) -> None:
        if len(calls) == 5:
            raise StoreError("database or disk is full")
        real(*arguments)

    study.store.save = save  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="full"):
        drive(search, 9)
    study.store.close()
    done = nas.search(toy_space(), name="s", objectives=[small], trials=9, store=tmp_path / "s.db")
    assert [t.number for t in done.trials()] == list(range(9))


def test_an_unsatisfiable_space_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="none of its 2 architectures is allowed"):
        run(tmp_path, space=Space(Toy((Wide(one_of(1, 2)),)), constraints=[lambda spec: False]))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"strategy": "ranndom"}, "did you mean 'random'"),
        ({"evaluator": "scrach"}, "did you mean 'scratch'"),
        ({"trails": 3}, "did you mean 'trials'"),
    ],
)
def test_misspelt_settings_suggest_the_nearest(tmp_path: Path, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UnknownName, match=text):
        run(tmp_path, **settings)
    assert not (tmp_path / "s.db").exists()


def test_fronts_are_nondominated_and_sorted(tmp_path: Path) -> None:
    study = run(tmp_path, small, rich, trials=120, strategy="nsga2")
    front = study.points(study.front())
    assert front == sorted(front)
    everything = study.points(study.complete())
    for point in front:
        assert not any(a[0] <= point[0] and a[1] <= point[1] and a != point for a in everything)
    frame = study.frame()
    assert len(frame) == 120
    assert {"number", "digest", "state", "small", "rich", "stack", "@shared"} <= set(frame.columns)


def test_a_study_of_functions_is_not_resumed_without_them(tmp_path: Path) -> None:
    study = run(tmp_path)
    assert open_study("s", tmp_path / "s.db").objectives[0].name == "small"
    with pytest.raises(UnknownName, match="unknown objective 'small'"):
        create_study(toy_space(), study.plan, name="s", store=tmp_path / "s.db")
