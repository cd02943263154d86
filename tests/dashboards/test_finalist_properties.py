"""Finalists from random trials, and compositions of random networks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.facts.composition import ABSENT, MAX_COLUMNS, composition_facts
from dashboards.facts.finalists import FinalistFacts, finalist_facts
from nas.study.trial import Trial, TrialState
from search_spaces.network.decoder import Decoder
from tests.dashboards.random_records import DECODERS, final_trials


def facts_of(trials: list[Trial]) -> FinalistFacts | None:
    lines = {trial.digest: f"line {trial.digest}" for trial in trials}
    return finalist_facts(trials, {}, {}, lines, "bits_per_byte")


def is_scored(trial: Trial) -> bool:
    return trial.state is TrialState.COMPLETE


@given(final_trials())
def test_every_finalist_is_listed_once_with_its_scores(trials: list[Trial]) -> None:
    facts = facts_of(trials)
    if facts is None:
        assert not trials
        return
    assert sorted(f.digest for f in facts.finalists) == sorted({trial.digest for trial in trials})
    scored = {
        (trial.digest, trial.fidelity.steps): trial.values["bits_per_byte"]
        for trial in trials
        if is_scored(trial)
    }
    listed = {(f.digest, steps): value for f in facts.finalists for steps, value in f.rungs.items()}
    assert listed == scored
    assert all(f.one_line == f"line {f.digest}" for f in facts.finalists)


@given(final_trials())
def test_rungs_ascend(trials: list[Trial]) -> None:
    facts = facts_of(trials)
    for finalist in facts.finalists if facts else ():
        assert list(finalist.rungs) == sorted(finalist.rungs)
        assert facts is not None
        assert set(finalist.rungs) <= set(facts.rungs)
        assert list(facts.rungs) == sorted(set(facts.rungs))


@given(final_trials())
def test_who_came_further_and_scored_better_is_listed_first(trials: list[Trial]) -> None:
    facts = facts_of(trials)
    for first, second in pairwise(facts.finalists if facts else ()):
        if first.last is None:
            assert second.last is None
        elif second.last is not None:
            assert first.last[0] >= second.last[0]
            assert first.last[0] > second.last[0] or first.last[1].value <= second.last[1].value


@given(final_trials())
def test_at_most_one_is_best_and_none_scored_better(trials: list[Trial]) -> None:
    facts = facts_of(trials)
    finalists = facts.finalists if facts else ()
    best = [finalist for finalist in finalists if finalist.best]
    finished = [finalist for finalist in finalists if finalist.finished]
    assert len(best) == min(1, len(finished))
    for finalist in finished:
        assert finalist.last is not None
        assert best[0].last is not None
        assert best[0].last[1].value <= finalist.last[1].value
    assert all(finalist.tied for finalist in best)


@given(final_trials())
def test_the_outcome_is_that_of_the_last_trial(trials: list[Trial]) -> None:
    facts = facts_of(trials)
    last = {trial.digest: trial for trial in trials}
    for finalist in facts.finalists if facts else ():
        trial = last[finalist.digest]
        begins = {TrialState.FAILED: "failed: ", TrialState.RUNNING: "running to "}
        assert finalist.outcome.startswith(begins.get(trial.state, ("trained", "not kept after")))


NETWORKS = st.lists(DECODERS, min_size=1, max_size=5)


@given(NETWORKS)
def test_shares_of_all_mixers_add_up_at_every_layer(networks: list[Decoder]) -> None:
    facts = composition_facts(networks[:1], networks)
    for panel in facts.panels if facts else ():
        for shares in (panel.front, panel.everywhere):
            sums = [sum(column) for column in zip(*shares, strict=True)]
            assert all(total <= 1 + 1e-9 for total in sums)
            if panel.title == "sequence mixer":
                assert sums == pytest.approx([1.0] * len(sums))


@given(NETWORKS)
def test_a_composition_has_few_places_and_no_closed_panels(networks: list[Decoder]) -> None:
    facts = composition_facts(networks, networks)
    if facts is None:
        return
    assert 1 <= len(facts.places) <= MAX_COLUMNS
    assert facts.networks == facts.searched == len(networks)
    for panel in facts.panels:
        assert len(panel.options) > 1
        assert panel.front == panel.everywhere
        assert ABSENT not in panel.options[:-1]
        assert len(panel.front) == len(panel.options)


@pytest.mark.parametrize(("front", "everywhere"), [((), ()), ((), (object(),)), ((object(),), (object(),))])
def test_what_is_no_decoder_has_no_composition(
    front: tuple[object, ...], everywhere: tuple[object, ...]
) -> None:
    assert composition_facts(front, everywhere) is None
