"""Search spaces of NNI, there and back; its tuners, where they are installed, drive a search."""

from __future__ import annotations

import json
import random
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import nas
from foundation.errors import IllegalArchitecture, SettingError, SpaceError, UnknownName
from nas.interop.nni import from_nni, genotype_of, parameters, to_nni, values_of
from nas.strategies.base import strategies
from nas.study.trial import TrialState
from search_spaces.language.space import Space
from tests.nas.test_strategies import GOALS, SPACE, make, outcome, play
from tests.nas.toys import rich, small, toy_space

THEIRS = {
    "rate": {"_type": "quniform", "_value": [0.1, 0.5, 0.2]},
    "units": {"_type": "randint", "_value": [2, 5]},
    "kind": {
        "_type": "choice",
        "_value": [
            {"_name": "conv", "width": {"_type": "choice", "_value": [3, 5]}},
            {"_name": "pool", "how": {"_type": "choice", "_value": ["max", "mean"]}},
            {"_name": "none"},
        ],
    },
}


def test_a_space_survives_nni() -> None:
    space = toy_space()
    plain = json.loads(json.dumps(to_nni(space)))
    assert set(plain) == {"stack", "stack.0", "stack.1", "stack.2", "@shared"}
    for seed in range(30):
        genotype = space.sample(Random(seed))
        values = json.loads(json.dumps(values_of(plain, genotype)))
        assert genotype_of(space, values)[0] == genotype
    assert from_nni(plain).size() == np.prod([3, 11, 11, 11, 3])


def test_a_space_of_nni_closes_to_what_its_trials_are_given() -> None:
    space = from_nni(THEIRS, name="theirs")
    assert space.size() == 3 * 3 * (2 + 2 + 1)
    seen = [parameters(space.close(genotype)) for genotype in space.enumerate()]
    assert {values["units"] for values in seen} == {2, 3, 4}
    assert sorted({values["rate"] for values in seen}) == pytest.approx([0.1, 0.2, 0.4])
    assert {"_name": "conv", "width": 5} in [values["kind"] for values in seen]
    assert {"_name": "none"} in [values["kind"] for values in seen]


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"_type": "uniform", "_value": [0, 1]}, "finitely many"),
        ({"_type": "choice"}, "no parameter"),
        ([1, 2], "no parameter"),
        ({"_type": "randint", "_value": [5, 2]}, "first below"),
        ({"_type": "quniform", "_value": [0, 1, 0]}, "or none"),
        ({"_type": "quniform", "_value": [0, 1, 1e-9]}, "over"),
        ({"_type": "choice", "_value": []}, "at least one"),
        ({"_type": "choice", "_value": [{"width": {"_type": "choice", "_value": [1]}}]}, "_name"),
    ],
)
def test_what_is_no_finite_space_is_refused(entry: Any, word: str) -> None:
    with pytest.raises(SpaceError, match=word):
        from_nni({"x": entry})


def test_wrong_values_are_named() -> None:
    values = values_of(to_nni(SPACE), SPACE.sample(Random(0)))
    with pytest.raises(IllegalArchitecture, match="stack has no value"):
        genotype_of(SPACE, {})
    with pytest.raises(IllegalArchitecture, match="not 9"):
        genotype_of(SPACE, {**values, "stack": 9})


def test_without_nni_its_tuners_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nni.tools.package_utils.config_manager", None)
    with pytest.raises(SettingError, match="need the package nni"):
        strategies["nni:TPE"]
    assert "nni:TPE" not in strategies


TUNERS = ["nni:TPE", "nni:Evolution", "nni:Random", "nni:GridSearch"]


@pytest.fixture
def nni() -> None:
    pytest.importorskip("nni.tools.package_utils.config_manager", exc_type=ImportError)


@pytest.mark.usefixtures("nni")
class TestTuners:
    @pytest.mark.parametrize("name", TUNERS)
    def test_proposals_are_allowed_and_the_same_again(self, name: str) -> None:
        first, second = (play(make(name, seed=3), 60) for _ in range(2))
        assert [t.genotype for t in first] == [t.genotype for t in second]
        assert all(SPACE.contains(SPACE.close(t.genotype)) for t in first)
        assert len({t.genotype for t in first}) > 2  # a grid begins with silent genes

    @pytest.mark.parametrize("name", TUNERS)
    def test_a_resumed_search_asks_what_it_would_have_asked(self, name: str) -> None:
        whole = play(make(name), 60)
        for stopped in (1, 23, 45):
            resumed = make(name)
            for trial in whole[:stopped]:
                resumed.tell(trial)
            for number in range(stopped, 60):
                assert resumed.ask(number).genotype == whole[number].genotype
                resumed.tell(whole[number])

    @pytest.mark.parametrize("name", TUNERS)
    def test_constraints_are_kept_and_chance_is_its_own(self, name: str) -> None:
        space = Space(SPACE.root, constraints=[lambda spec: len(spec.stack) != 2], name="few")
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        strategy = strategies[name](space, GOALS, seed=1)
        for number in range(40):
            proposal = strategy.ask(number)
            assert space.contains(space.close(proposal.genotype))
            strategy.tell(outcome(number, proposal))
        assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002

    def test_tpe_learns_the_objective_that_it_is_given(self) -> None:
        told = play(make("nni:TPE", objective="small"), 100)
        values = [trial.values["small"].value for trial in told]
        assert np.mean(values[60:]) < 0.6 * np.mean(values[:20])

    def test_a_tuner_drives_a_study(self, tmp_path: Path) -> None:
        def search(trials: int) -> Any:
            return nas.search(
                toy_space(),
                name="nni",
                objectives=[small, rich],
                strategy="nni:tpe",
                settings={"objective": "rich"},
                trials=trials,
                finalists=0,
                progress=False,
                store=tmp_path / "s.db",
            )

        search(10)
        study = search(30)
        trials = study.trials()
        assert len(trials) == 30
        assert {trial.state for trial in trials} == {TrialState.COMPLETE}
        assert trials[0].memo["proposer"] == "tuner"

    def test_what_does_not_fit_is_refused(self) -> None:
        with pytest.raises(UnknownName, match="did you mean 'TPE'"):
            strategies["nni:TPF"]
        with pytest.raises(SettingError, match="objective is one of"):
            make("nni:TPE", objective="smal")
        with pytest.raises(SettingError, match="cannot be made"):
            make("nni:TPE", arguments='{"populatoin": 3}')
        with pytest.raises(SettingError, match="JSON"):
            make("nni:TPE", arguments="{")
        with pytest.raises(SettingError, match="cannot search"):
            make("nni:Metis")
