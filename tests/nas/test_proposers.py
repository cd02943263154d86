"""What a reader is told of who proposed the candidates of a study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

import nas
from dashboards.facts import read_facts
from dashboards.report.study import report_html
from nas.cli import app
from nas.strategies.auto import EVOLUTION, MODEL, START
from nas.study.proposers import Skill, proposers_of
from nas.study.study import open_study
from nas.study.trial import CANDIDATE, FALLBACK, PROPOSER, SKILL, Fidelity, Trial
from search_spaces.language.genotype import Genotype
from tests.nas.toys import rich, small, toy_space


def trial(number: int, **memo: Any) -> Trial:
    return Trial(
        number=number, genotype=Genotype({"a": number}), fidelity=Fidelity(evaluator="toy"), seed=0, memo=memo
    )


def test_proposers_are_counted_and_the_last_skill_is_told() -> None:
    trials = [trial(n, **{PROPOSER: START}) for n in range(3)]
    trials.append(trial(3, **{PROPOSER: EVOLUTION, SKILL: {"x": 0.1}, FALLBACK: 0.2}))
    trials += [trial(n, **{PROPOSER: MODEL, SKILL: {"x": 0.5 + n / 100}}) for n in range(4, 6)]
    proposers = proposers_of(trials)
    assert proposers is not None
    assert proposers.skill[0] == Skill(3, {"x": 0.1})
    assert proposers.lines == [
        "proposed: 3 by extreme and random points to begin with, 2 by the model, 1 by evolution",
        "skill of the model (rank correlation, cross-validated): x 0.55",
        "before 1 proposal the skill of the model was below 0.2: the search fell back to evolution",
    ]


def test_an_architecture_is_counted_once_and_promotions_apart() -> None:
    trials = [trial(0, **{PROPOSER: START}), *(trial(n, **{PROPOSER: MODEL}) for n in (1, 2))]
    trials.append(replace(trials[1], number=3))  # the same again
    trials.append(replace(trials[1], number=4, memo={**trials[1].memo, CANDIDATE: 1}))
    proposers = proposers_of(trials)
    assert proposers is not None
    assert proposers.lines == [
        "proposed: 2 by the model, 1 by extreme and random points to begin with; 1 promotion to a longer"
        " training"
    ]


def test_a_strategy_that_does_not_say_and_a_damaged_memo_are_left_out() -> None:
    assert proposers_of([trial(0), trial(1, **{PROPOSER: 3})]) is None
    proposers = proposers_of([trial(0, **{PROPOSER: MODEL, SKILL: {"x": "high"}, FALLBACK: "none"})])
    assert proposers is not None
    assert proposers.lines == ["proposed: 1 by the model"]


def test_front_and_report_of_a_search_say_it(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    nas.search(
        toy_space(), name="s", objectives=[small, rich], trials=40, finalists=0, store=store, progress=False
    )
    facts = read_facts(open_study("s", store))
    assert facts.proposers is not None
    assert {skill.number for skill in facts.proposers.skill} == set(range(16, 40))
    page = report_html(facts)
    assert "Skill of the model" in page
    printed = CliRunner().invoke(app, ["front", "s", "--store", str(store)], catch_exceptions=False).output
    for line in facts.proposers.lines:
        assert line in printed.replace("\n", " ")
        assert f"{line[0].upper()}{line[1:]}" in page
