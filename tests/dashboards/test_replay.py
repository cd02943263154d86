"""A front on its way: what it was after some trials, where it arrived, and what the page says about it."""

from __future__ import annotations

import json

import pytest

from dashboards.app.live_store import key_of
from dashboards.app.shell import Shell
from dashboards.facts.explore import View, explore
from dashboards.facts.networks import quantity
from dashboards.facts.reading import Reading
from dashboards.facts.replay import front_of, last_number, members_after
from dashboards.figures.explorer import explorer_figure
from dashboards.pages.front import Front
from nas.pareto import nondominated

X, Y = quantity("decode_ms"), quantity("bits_per_byte")


def costs_until(reading: Reading, after: int) -> dict[int, tuple[float, ...]]:
    """By the trials themselves, without columns."""
    trials = [trial for trial in reading.study.complete() if trial.reused is None and trial.number <= after]
    return {t.number: tuple(t.values[of.name].value for of in reading.objectives) for t in trials}


@pytest.mark.parametrize("after", [0, 7, 33, 10**6])
def test_the_front_after_some_trials_is_that_of_these_alone(reading: Reading, after: int) -> None:
    known = costs_until(reading, after)
    kept = nondominated(list(known.values()))
    expected = {number for number, keep in zip(known, kept, strict=True) if keep}
    assert set(members_after(reading, after)) == expected
    facts = explore(reading, View(x=X, y=Y, after=after))
    assert (facts.known, facts.on_front) == (len(known), len(expected))
    shown = {point.number for point in facts.plane.front}
    assert shown <= expected
    assert all(point.is_predicted for point in facts.plane.front), "measured later, so not known then"


def test_a_front_on_its_way_stands_before_where_it_arrived_on_axes_that_hold_still(reading: Reading) -> None:
    ranges = set()
    for after in (5, 20, 60):
        facts = explore(reading, View(x=X, y=Y, after=after))
        assert facts.last is not None
        arrived = [(point.x.value, point.y.value) for point in facts.last.front]
        for point in facts.plane.front:
            assert any(x <= point.x.value and y <= point.y.value for x, y in arrived)
        figure = explorer_figure(facts)
        ranges.add((figure.layout.xaxis.range, figure.layout.yaxis.range))
        assert "front after all trials" in [trace.name for trace in figure.data]
    assert len(ranges) == 1
    now = explorer_figure(explore(reading, View(x=X, y=Y)))
    assert "front after all trials" not in [trace.name for trace in now.data]


def test_bounds_hold_for_an_earlier_front_too(reading: Reading) -> None:
    bound = sorted(reading.scored.values("decode_ms"))[20]
    facts = explore(reading, View(x=X, y=Y, after=40, bounds={"decode_ms": bound}))
    assert facts.best is not None
    assert facts.best.number <= 40
    assert all(point.x.value <= bound for point in facts.plane.members)


def test_networks_that_lack_an_objective_are_on_no_front(reading: Reading) -> None:
    assert front_of(reading.scored, [X, quantity("nothing_like_it")]) == []


def test_a_link_restores_the_trial_and_the_page_says_which_one(shell: Shell) -> None:
    page, study = shell.pages["front"], key_of(shell.live.store.study("full"))
    assert isinstance(page, Front)
    place = json.dumps(shell.page("/study/full", "?after=12"), default=lambda part: part.to_plotly_json())
    assert '"data": 12, "id": "front-after"' in place or '"id": "front-after", "data": 12' in place
    drawn = {"axes": ("decode_ms", "bits_per_byte", None, None, None), "bounds": [], "kept": [], "seen": None}
    _, _, _, line, seen = page.draw(study=study, after=12, **drawn)
    last = last_number(shell.live.study("full"))
    assert f"After trial 12 of {last}: 13 networks scored" in line[0].children
    assert (seen["after"], seen["last"]) == (12, last)
    _, _, _, line, seen = page.draw(study=study, after=float("nan"), **drawn)
    assert (line, seen["after"]) == ([], None)
    rows, *_ = page.below(None, {}, None, study, 12)
    assert "The front after trial 12" in rows[0].children


@pytest.mark.parametrize("after", ["nan", "-5", "1e999", "x", "9" * 400])
def test_any_trial_may_be_asked_for(shell: Shell, after: str) -> None:
    text = json.dumps(
        shell.page("/study/full", f"?after={after}"), default=lambda part: part.to_plotly_json()
    )
    assert "front-plot" in text
