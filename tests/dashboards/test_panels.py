"""The parts of the dashboard around its figure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboards.app.live import LiveStudy, Summary
from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.panels import first_panel, network_panel, studies_table, study_line
from dashboards.facts.networks import quantity
from foundation.errors import UnknownName
from nas.store import Store
from nas.study.trial import Value


@pytest.fixture
def live_store(made_store: Path) -> Iterator[LiveStore]:
    with Store(made_store, read_only=True) as store:
        yield LiveStore(store)


@pytest.fixture
def live(live_store: LiveStore) -> LiveStudy:
    return live_store.study("full")


def shown(component: Any) -> str:
    return json.dumps(component, default=lambda part: part.to_plotly_json())


def summary(**changes: Any) -> Summary:
    plain = {
        "name": "a b",
        "created": 0.0,
        "done": 3,
        "planned": 9,
        "state": "running",
        "front": 2,
        "best": {},
    }
    return Summary(**{**plain, **changes})


def test_an_empty_store_shows_how_to_start() -> None:
    assert "nas search laptop" in shown(studies_table([]))


def test_a_study_is_a_row_with_a_link() -> None:
    text = shown(studies_table([summary(best={quantity("decode_ms"): Value(1.5)})]))
    assert "/study/a%20b" in text
    assert "3 of 9" in text
    assert "1.50 ms" in text
    predicted = summary(best={quantity("decode_ms"): Value(1.5, None, "predicted")})
    assert "~1.50 ms" in shown(studies_table([predicted]))
    assert "state running" in text


def test_a_study_that_is_being_read_has_no_counts() -> None:
    text = shown(studies_table([summary(front=None, state="being read")]))
    assert "3 of 9" not in text
    assert "state being" in text


def test_the_line_counts_states(live: LiveStudy) -> None:
    line = study_line(live)
    assert line.startswith("complete: ")
    assert f"{live.scored} distinct architectures scored" in line
    assert "complete," in line or "complete)" in line


def test_objectives_come_first_then_scores_from_scratch(live: LiveStudy) -> None:
    final = next(trial for trial in live.members if trial.digest in live.finalists)
    text = shown(network_panel(live, final))
    order = [
        text.index(f'"{label}"') for label in ("bits per byte", "100 steps from scratch", "prefill latency")
    ]
    assert order == sorted(order)
    assert f"nas export full {final.digest}" in text


def test_the_first_panel_is_the_best_in_the_first_objective(live: LiveStudy, live_store: LiveStore) -> None:
    assert f"The best of the front in {live.objectives[0].label}" in shown(first_panel(live))
    assert "Nothing is scored yet" in shown(first_panel(live_store.study("empty")))


def test_axes_offer_objectives_first(live: LiveStudy) -> None:
    names = [quantity.name for quantity in live.quantities()]
    assert names[:3] == list(live.study.plan.objectives)
    assert len(names) == len(set(names))
    assert "params" in names


def test_a_summary_holds_the_best_of_the_front(live: LiveStudy) -> None:
    found = live.summary()
    assert found.front == len(live.members)
    for objective in live.objectives:
        values = [live.study.numbers(trial)[objective.name].value for trial in live.members]
        assert found.best[objective].value == min(values)


def test_a_study_is_read_when_it_is_opened(live_store: LiveStore) -> None:
    opened = live_store.study("two")
    assert live_store.by_key(key_of(opened.study.record)) is opened
    assert opened.read
    with pytest.raises(UnknownName, match="did you mean 'two'"):
        live_store.study("twoo")


def test_planes_of_two_and_of_all_objectives(live: LiveStudy) -> None:
    facts = live.front("decode_ms", "bits_per_byte")
    assert len(facts.members) >= len(live.members)  # some may be outdone as measured
    assert {point.number for point in facts.other_members} <= {trial.number for trial in live.members}
    assert all(point.one_line for point in facts.front)
