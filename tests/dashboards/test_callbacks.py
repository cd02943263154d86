"""Callbacks of the dashboard answer whatever a browser sends: old states, stray clicks, other addresses."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from dash import no_update
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from dashboards.app.live_store import key_of
from dashboards.app.server import Pages, clicked_number, make_app, worth_drawing
from dashboards.style.theme import DARK, LIGHT
from nas.store import Store

AXES = ("decode_ms", "bits_per_byte")
NOTHING = (no_update,) * 3
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(("", "7", "a")))
JSON = st.one_of(PLAIN, st.lists(PLAIN, max_size=2), st.dictionaries(st.just("number"), PLAIN))


@pytest.fixture(scope="module")
def pages(made_store: Path) -> Iterator[Pages]:
    with Store(made_store, read_only=True) as store:
        pages = Pages(store)
        pages.page("/study/full")
        yield pages


@pytest.fixture(scope="module")
def client(made_store: Path) -> FlaskClient:
    return make_app(made_store).server.test_client()


def full(pages: Pages) -> str:
    return key_of(pages.live.store.study("full"))


def text_of(component: Any) -> str:
    return json.dumps(component, default=lambda part: part.to_plotly_json())


@pytest.mark.parametrize("path", [None, "", "/", "//", "/study", "/study/", "/elsewhere", "/studyfull"])
def test_any_other_address_shows_the_list(pages: Pages, path: str | None) -> None:
    assert '"Studies"' in text_of(pages.page(path))


@pytest.mark.parametrize("name", ["<script>", "a/b", "../full", "full%00", "ü", "x" * 500])
def test_an_unknown_study_is_named_as_text(pages: Pages, name: str) -> None:
    text = text_of(pages.page(f"/study/{quote(name)}"))
    assert "Unknown study" in text
    assert "all studies" in text


@given(number=st.integers())
def test_a_click_reports_the_number_of_its_trial(number: int) -> None:
    assert clicked_number({"points": [{"customdata": number}]}) == number
    assert clicked_number({"points": [{"customdata": [number]}]}) == number


@given(data=JSON)
def test_other_data_of_a_point_are_no_trial_or_an_integer(data: Any) -> None:
    found = clicked_number({"points": [{"customdata": data}]})
    assert found is None or type(found) is int


@pytest.mark.parametrize(
    "data", [None, True, math.nan, math.inf, 1.5, "7", [], [None], [[7]], {"number": 7}, [True]]
)
def test_no_trial_is_clicked(pages: Pages, data: Any) -> None:
    click = {"points": [{"customdata": data}]}
    assert clicked_number(click) is None
    assert pages.picked(full(pages), click) is no_update


@pytest.mark.parametrize(
    "click",
    [
        None,
        {},
        {"points": None},
        {"points": []},
        {"points": [{}]},
        {"points": {"a": 1}},
        {"points": [3]},
        {"points": "x"},
    ],
)
def test_a_click_beside_all_points_changes_nothing(pages: Pages, click: dict[str, Any] | None) -> None:
    assert pages.picked(full(pages), click) is no_update


def test_a_click_in_a_study_that_is_not_there_says_so(pages: Pages) -> None:
    assert "no study 'nowhere'" in text_of(pages.picked("nowhere@1.0", {"points": [{"customdata": 0}]}))


@pytest.mark.parametrize(
    "seen", [None, {}, {"revision": -1}, {"axes": None}, {"revision": "x", "axes": [], "scheme": 3}]
)
def test_a_state_of_another_version_is_drawn_anew(pages: Pages, seen: dict[str, Any] | None) -> None:
    figure, line, state = pages.front(full(pages), AXES, "light", seen)
    assert figure.data
    assert line
    assert {"revision", "axes", "scheme", "points", "members", "measured", "at"} == set(state)
    assert pages.front(full(pages), AXES, "light", state) == NOTHING


@pytest.mark.parametrize(
    ("scheme", "ink"),
    [("light", LIGHT.ink), ("dark", DARK.ink), (None, LIGHT.ink), ("", LIGHT.ink), ("sepia", LIGHT.ink)],
)
def test_an_unknown_colour_scheme_is_the_light_one(pages: Pages, scheme: str | None, ink: str) -> None:
    figure, _, state = pages.front(full(pages), AXES, scheme, None)
    assert figure.layout.template.layout.font.color == ink
    assert state["scheme"] in ("light", "dark")


@pytest.mark.parametrize("axes", [(None, None), (None, "params"), ("params", None), ("", "params")])
def test_without_both_axes_nothing_is_drawn(pages: Pages, axes: tuple[str | None, str | None]) -> None:
    assert pages.front(full(pages), axes, "light", None) == NOTHING


@pytest.mark.parametrize("axes", [("no_such_value", "params"), ("params", "params"), ("a<b>", "")])
def test_axes_that_no_trial_has_are_a_message(pages: Pages, axes: tuple[str, str]) -> None:
    figure, *_ = pages.front(full(pages), axes, "light", None)
    if axes[1] == "":
        assert figure is no_update
    elif "no_such_value" in axes:
        assert figure.layout.annotations[0].text == "no trial is complete yet"
    else:
        assert figure.data


@given(points=st.integers(0, 10**6), seen=st.dictionaries(st.sampled_from(("points", "members")), JSON))
def test_a_small_figure_is_always_sent(points: int, seen: dict[str, Any]) -> None:
    wanted = {"axes": list(AXES), "scheme": "light", "members": [1], "points": min(points, 4999)}
    assert worth_drawing(seen, wanted)


@pytest.mark.parametrize("seen", [None, [], [[1, 2, "running"]], {"a": 1}, "x", 7])
def test_an_old_state_of_the_list_is_replaced(pages: Pages, seen: Any) -> None:
    table, state = pages.studies(seen)
    assert table is not no_update
    assert len(state) == 4
    assert pages.studies(state) == (no_update, no_update)


def post(client: FlaskClient, output: str, inputs: list[Any], states: list[Any]) -> int:
    """The status of one callback over HTTP."""
    outputs = [
        {"id": name, "property": field}
        for name, field in (part.split(".") for part in output.strip(".").split("..."))
    ]
    body = {
        "output": output,
        "outputs": outputs if len(outputs) > 1 else outputs[0],
        "inputs": inputs,
        "state": states,
        "changedPropIds": [],
    }
    return client.post("/_dash-update-component", json=body).status_code


def test_a_page_is_served_over_http(client: FlaskClient) -> None:
    where = {"id": "where", "property": "pathname", "value": "/study/full"}
    assert post(client, "page.children", [where], []) == 200


def test_a_click_without_a_trial_is_no_error_over_http(client: FlaskClient) -> None:
    click = {"id": "front", "property": "clickData", "value": {"points": []}}
    study = {"id": "study", "property": "data", "value": None}
    assert post(client, "panel.children", [click], [study]) in (200, 204)


def test_a_poll_before_the_page_is_open_is_no_error_over_http(client: FlaskClient) -> None:
    inputs = [
        {"id": name, "property": field, "value": None}
        for name, field in (("poll", "n_intervals"), ("x", "value"), ("y", "value"), ("scheme", "data"))
    ]
    states = [{"id": name, "property": "data", "value": None} for name in ("study", "seen")]
    assert post(client, "..front.figure...line.children...seen.data..", inputs, states) in (200, 204)
