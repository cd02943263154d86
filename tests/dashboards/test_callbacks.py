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
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.server import make_app
from dashboards.app.shell import Shell
from dashboards.pages import pages
from dashboards.pages.base import Place, address
from dashboards.pages.front import Front
from dashboards.pages.network import Network
from dashboards.pages.studies import Studies
from dashboards.style.theme import DARK, LIGHT
from nas.store import Store

AXES = ("decode_ms", "bits_per_byte", None, None, None)
NOTHING = (no_update,) * 5
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(("", "7", "a")))
JSON = st.one_of(PLAIN, st.lists(PLAIN, max_size=2), st.dictionaries(st.just("number"), PLAIN))


@pytest.fixture(scope="module")
def front(shell: Shell) -> Front:
    page = shell.pages["front"]
    assert isinstance(page, Front)
    return page


@pytest.fixture(scope="module")
def full(shell: Shell) -> str:
    return key_of(shell.live.store.study("full"))


def text_of(component: Any) -> str:
    return json.dumps(component, default=lambda part: part.to_plotly_json())


def drawn(front: Front, study: str, seen: Any = None, axes: Any = AXES, **asked: Any) -> Any:
    asked = {"bounds": [None] * 6, "kept": [], **asked}
    return front.draw(axes=axes, study=study, seen=seen, **asked)


@pytest.mark.parametrize("path", [None, "", "/", "//", "/study", "/study/"])
def test_an_address_without_words_shows_the_list(shell: Shell, path: str | None) -> None:
    assert '"Studies"' in text_of(shell.page(path))


@pytest.mark.parametrize("path", ["/elsewhere", "/studyfull", "/network", "/study/full/nothing", "/front/x"])
def test_another_address_says_that_there_is_no_such_page(shell: Shell, path: str) -> None:
    assert "There is no such page" in text_of(shell.page(path))


@pytest.mark.parametrize("name", ["<script>", "a/b", "../full", "full%00", "ü", "x" * 500])
def test_an_unknown_study_is_named_as_text(shell: Shell, name: str) -> None:
    text = text_of(shell.page(f"/study/{quote(name, safe='')}"))
    assert "There is no such page" in text
    assert "all studies" in text


@pytest.mark.parametrize("rest", ["<script>", "nothing", "%00", "0" * 400])
def test_an_unknown_network_is_named_as_text(shell: Shell, rest: str) -> None:
    assert "has no scored network" in text_of(shell.page(f"/study/full/network/{quote(rest)}"))


@pytest.mark.parametrize("kind", list(pages.values()), ids=list(pages))
def test_a_page_restores_its_controls_from_its_address(shell: Shell, kind: Any) -> None:
    """A page keeps what is usual, under the words that it is restored by."""
    page = shell.pages[kind.name]
    place = Place(study="full" if page.of_study else "")
    text = text_of(page.layout(place))
    assert not page.linked or f'"{page.usual_id}"' in text
    for control in page.linked.values():
        assert f'"{control.of.partition(".")[0]}"' in text, control


def test_every_input_of_a_callback_is_declared(made_store: Path) -> None:
    app = make_app(made_store)
    kinds = Shell(LiveStore(Store(made_store, read_only=True))).kinds()
    for name, known in app.callback_map.items():
        if "callback" in known:
            sent = {f"{each['id']}.{each['property']}" for each in (*known["inputs"], *known["state"])}
            assert sent <= set(kinds), name


def test_an_address_names_a_page_and_what_is_set_on_it() -> None:
    text = address("network", "a b", "<x>", by="bits", over=["s", "t"])
    assert text == "/study/a%20b/network/%3Cx%3E?by=bits&over=s&over=t"
    place = Place.read(*text.split("?"))
    assert (place.page, place.study, place.rest) == ("network", "a b", "<x>")
    assert place.one("by", ["bits"]) == "bits"
    assert place.one("by", ["family"], "family") == "family"
    assert place.some("over", ["t", "s", "u"]) == ["s", "t"]
    assert address() == "/"
    assert address(study="s") == "/study/s"


@settings(max_examples=40)
@given(path=st.none() | st.text(max_size=30), search=st.none() | st.text(max_size=60))
def test_any_address_is_some_place(path: str | None, search: str | None) -> None:
    place = Place.read(path, search)
    assert place.number("pick") is None or math.isfinite(place.number("pick") or 0.0)


@pytest.mark.parametrize(
    "asked",
    ["pick=nan", "pick=1e999", "x=nothing", "max.decode_ms=x", "over=full&over=two", "&".join("ab" * 99)],
)
def test_what_an_address_asks_for_may_be_anything(shell: Shell, asked: str) -> None:
    assert "front-plot" in text_of(shell.page("/study/full", f"?{asked}"))


def test_a_link_restores_axes_bounds_and_selection(shell: Shell) -> None:
    text = text_of(shell.page("/study/full", "?x=params&max.decode_ms=0.6&pick=17&over=two&log=x"))
    plain = {each["props"].get("id"): each["props"] for each in components(json.loads(text))}
    assert plain["front-x"]["value"] == "params"
    assert plain["front-bound-1"]["value"] == 0.6
    assert plain["front-pick"]["data"] == 17
    assert plain["front-over"]["value"] == ["two"]
    assert plain["front-log"]["value"] == ["x"]


def test_what_bounds_nothing_is_usual_and_so_is_in_no_address(shell: Shell) -> None:
    text = text_of(shell.page("/study/full", ""))
    plain = {each["props"].get("id"): each["props"] for each in components(json.loads(text))}
    usual = plain[shell.pages["front"].usual_id]["data"]
    bounds = {name for name in usual if name.startswith("bound")}
    assert len(bounds) == sum(str(name).startswith("front-bound-") for name in plain)
    assert all(plain[f"front-bound-{name.removeprefix('bound')}"]["value"] == usual[name] for name in bounds)


def components(plain: Any) -> Iterator[dict[str, Any]]:
    if isinstance(plain, list):
        for each in plain:
            yield from components(each)
    elif isinstance(plain, dict) and "props" in plain:
        yield plain
        yield from components(plain["props"].get("children"))


@settings(max_examples=25, deadline=None)
@given(data=JSON)
def test_any_data_of_a_point_are_a_trial_or_none(front: Front, full: str, data: Any) -> None:
    assert isinstance(front.panel(data, None, full), list)


def test_a_click_in_a_study_that_is_not_there_says_so(front: Front) -> None:
    assert "no study 'nowhere'" in text_of(front.panel(0, None, "nowhere@1.0"))


@pytest.mark.parametrize(
    "seen", [None, {}, {"revision": -1}, {"asked": None}, {"revision": "x", "asked": [], "look": 3}, [], 7]
)
def test_a_state_of_another_version_is_drawn_anew(front: Front, full: str, seen: Any) -> None:
    figure, line, *_, state = drawn(front, full, seen)
    assert figure.data
    assert line
    assert drawn(front, full, state) == NOTHING


@pytest.mark.parametrize(
    ("scheme", "ink"),
    [("light", LIGHT.ink), ("dark", DARK.ink), (None, LIGHT.ink), ("", LIGHT.ink), ("sepia", LIGHT.ink)],
)
def test_an_unknown_colour_scheme_is_the_light_one(
    front: Front, full: str, scheme: str | None, ink: str
) -> None:
    figure, *_, state = drawn(front, full, look=scheme)
    assert figure.layout.template.layout.font.color == ink
    assert state["look"] in ("light", "dark")


@pytest.mark.parametrize("axes", [(None, None), (None, "params"), ("params", None), ("", "params")])
def test_without_both_axes_nothing_is_drawn(front: Front, full: str, axes: tuple[Any, Any]) -> None:
    assert drawn(front, full, axes=(*axes, None, None, None)) == NOTHING


@pytest.mark.parametrize("axes", [("no_such_value", "params"), ("params", "params"), ("a<b>", "params")])
def test_axes_that_no_trial_has_are_a_message(front: Front, full: str, axes: tuple[str, str]) -> None:
    figure, *_ = drawn(front, full, axes=(*axes, None, None, None))
    if axes[0] == "params":
        assert figure.data
    else:
        assert figure.layout.annotations[0].text == "no network has both of these numbers"


@settings(max_examples=12, deadline=None)
@given(
    bounds=st.lists(JSON, max_size=7),
    kept=st.lists(st.none() | st.lists(JSON, max_size=4), max_size=7),
    log=JSON,
    over=JSON,
    table=JSON,
    pick=JSON,
    more=st.lists(st.sampled_from([None, "params", "x", 3, []]), min_size=3, max_size=3),
)
def test_controls_may_hold_anything(front: Front, full: str, more: list[Any], **asked: Any) -> None:
    figure, *_ = drawn(front, full, axes=(*AXES[:2], *more), **asked)
    assert figure is not no_update


@pytest.mark.parametrize("seen", [None, [], [[1, 2, "running"]], {"a": 1}, "x", 7])
def test_an_old_state_of_the_list_is_replaced(shell: Shell, seen: Any) -> None:
    studies = shell.pages["studies"]
    assert isinstance(studies, Studies)
    table, state = studies.update("", "newest", seen)
    assert table is not no_update
    assert studies.update("", "newest", state) == (no_update, no_update)


@pytest.mark.parametrize("number", ["", "x", "-1", "999999", "9" * 40, "\u00b2"])
def test_a_drawing_of_no_network_is_empty(shell: Shell, full: str, number: str) -> None:
    page = shell.pages["network"]
    assert isinstance(page, Network)
    assert page.drawn("family", "", "dark", f"{full}/{number}") == ([], [])
    assert "no study" in text_of(page.drawn("family", "", "dark", "gone@1.0/0"))
    assert page.drawn(None, None, None, None) == ([], [])
