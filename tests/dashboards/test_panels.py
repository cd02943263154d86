"""The parts of pages that show studies and networks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboards.app.front_view import study_line
from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.panels import groups_of, network_panel, network_rows, number_parts
from dashboards.facts.networks import quantity
from dashboards.facts.progress import ProgressFacts, progress_facts
from dashboards.facts.reading import Reading
from dashboards.pages.studies import studies_list
from foundation.errors import UnknownName
from nas.store import Store
from nas.study.trial import Value


@pytest.fixture
def live_store(made_store: Path) -> Iterator[LiveStore]:
    with Store(made_store, read_only=True) as store:
        yield LiveStore(store)


@pytest.fixture
def live(live_store: LiveStore) -> Reading:
    return live_store.study("full")


def shown(component: Any) -> str:
    return json.dumps(component, default=lambda part: part.to_plotly_json())


def facts(**changes: Any) -> ProgressFacts:
    plain = {
        "name": "ab",
        "created": 0.0,
        "done": 3,
        "planned": 9,
        "state": "running",
        "front": 2,
        "best": {},
    }
    return ProgressFacts(**{**plain, **changes})


def test_an_error_that_is_there_is_not_shown_as_none() -> None:
    assert "0.00" not in shown(number_parts(Value(0.3151, 0.0022), 1.0, 2)).replace("0.002", "")
    assert shown(number_parts(Value(3.0, 0.02), 1.0, 2)).count("0.02") == 1
    assert shown(number_parts(Value(3.0, 0.0), 1.0, 2)).count("0.00") == 1


def test_a_study_is_a_row_with_a_link() -> None:
    text = shown(studies_list([facts(best={quantity("decode_ms"): Value(1.5)})]))
    assert "/study/ab" in text
    assert "3 of 9" in text
    assert "1.50 ms" in text
    predicted = facts(best={quantity("decode_ms"): Value(1.5, None, "predicted")})
    assert "~1.50 ms" in shown(studies_list([predicted]))
    assert "state running" in text


def test_a_row_tells_speed_errors_and_grouped_failures() -> None:
    text = shown(
        studies_list(
            [
                facts(
                    rate=0.5,
                    seconds_left=90.0,
                    error="<b>lost</b>",
                    failures=(("out of memory", 12),),
                    unreadable=2,
                )
            ]
        )
    )
    assert "30.0 a minute" in text
    assert "left" in text
    assert "<b>lost</b>" in text  # a text of React, never markup
    assert "12 \\u00d7 out of memory" in text
    assert "2 trials cannot be read" in text


def test_a_study_that_is_being_read_has_no_counts() -> None:
    text = shown(studies_list([facts(front=None, state="being read")]))
    assert "3 of 9" not in text
    assert "state being" in text


def test_the_line_counts_states(live: Reading) -> None:
    line = study_line(live)
    assert line.startswith("complete: ")
    assert f"{live.distinct} distinct architectures scored" in line
    assert "complete," in line or "complete)" in line


def test_numbers_are_quantities_by_predicted_and_measured(live: Reading) -> None:
    final = next(trial for trial in live.members if trial.digest in live.finalists)
    (group,) = groups_of(live, final)
    names = [row.of.name for row in group.rows]
    assert names[:2] == ["bits_per_byte", "bits_per_byte"]
    assert group.rows[1].steps == 100
    decode = next(row for row in group.rows if row.of.name == "decode_ms")
    assert decode.predicted is not None
    assert decode.measured is not None
    text = shown(network_panel(live, final))
    assert text.index("trained for 100 steps") < text.index("prefill latency")
    assert f"/study/full/network/{final.digest}" in text


def test_networks_are_listed_with_links(live: Reading) -> None:
    text = shown(network_rows(live, live.members, live.objectives, "The front."))
    for trial in live.members:
        assert f"/study/full/network/{trial.digest}" in text


def test_axes_offer_objectives_first(live: Reading) -> None:
    names = [quantity.name for quantity in live.quantities()]
    assert names[:3] == list(live.study.plan.objectives)
    assert len(names) == len(set(names))
    assert "params" in names


def test_progress_holds_the_best_of_the_front(live: Reading) -> None:
    found = progress_facts(live)
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
