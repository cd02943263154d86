from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dash import no_update

from dashboards.app.live import LiveStudy
from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.server import MANY_POINTS, Pages, clicked_number, first_axes, make_app, worth_drawing
from dashboards.facts.networks import quantity
from foundation.errors import StoreError
from nas.store import Store
from nas.study.trial import Trial, TrialState
from tests.dashboards.made import make_study

AXES = ("decode_ms", "bits_per_byte")


@pytest.fixture
def pages(made_store: Path) -> Iterator[Pages]:
    with Store(made_store, read_only=True) as store:
        yield Pages(store)


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "studies.db") as store:
        make_study(store, "s", trials=20, complete=False)
        yield store


def shown(component: Any) -> str:
    return json.dumps(component, default=lambda part: part.to_plotly_json())


def another(store: Store, number: int, **changes: Any) -> None:
    """Save a trial that beats nothing, unless `changes` say otherwise."""
    record = store.study("s")
    known = store.trials(record)[0]
    store.save(record, [replace(known, number=number, **changes)])


def test_the_layout_builds_and_everything_is_served_from_here(made_store: Path) -> None:
    app = make_app(made_store)
    client = app.server.test_client()
    page = client.get("/").get_data(as_text=True)
    assert "<main" not in page  # drawn in the browser
    assert "http://" not in page
    assert "https://" not in page
    assert client.get("/_dash-layout").status_code == 200
    assert {tuple(d["inputs"][0].values()) for d in client.get("/_dash-dependencies").get_json()} >= {
        ("where", "pathname"),
        ("poll", "n_intervals"),
        ("studies-poll", "n_intervals"),
        ("front", "clickData"),
    }


def test_a_missing_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        make_app(tmp_path / "none.db")


def test_the_list_shows_every_study(pages: Pages) -> None:
    text = shown(pages.page("/"))
    for name in ("full", "two", "one", "empty"):
        assert f"/study/{name}" in text
    assert "80 of 80" in text
    assert "not started" in text
    assert " ms" in text


def test_the_list_is_not_sent_again_without_news(growing: Store) -> None:
    pages = Pages(growing)
    table, seen = pages.studies(None)
    assert "20 of 20" in shown(table)
    assert pages.studies(seen) == (no_update, no_update)
    another(growing, 900)
    table, later = pages.studies(seen)
    assert later != seen


def test_a_study_page_offers_all_quantities_and_the_end_of_the_front(pages: Pages, made_store: Path) -> None:
    text = shown(pages.page("/study/full"))
    assert "decode latency per token" in text
    assert "prefill work" in text
    assert "nas export full" in text
    assert "Nothing is scored yet" in shown(pages.page("/study/empty"))


def test_an_unknown_study_is_answered_with_the_nearest(pages: Pages) -> None:
    assert "did you mean 'full'?" in shown(pages.page("/study/fulll"))


def test_a_poll_without_news_answers_nothing_and_reads_nothing(pages: Pages) -> None:
    pages.page("/study/full")
    study = key_of(pages.live.store.study("full"))
    figure, line, seen = pages.front(study, AXES, "light", None)
    assert figure.layout.xaxis.title.text == "decode latency per token, measured (ms)"
    assert "distinct architectures scored" in line
    began = time.perf_counter()
    for _ in range(10):
        assert pages.front(study, AXES, "light", json.loads(json.dumps(seen))) == (no_update,) * 3
    assert (time.perf_counter() - began) / 10 < 0.05


def test_a_page_of_a_study_that_was_deleted_says_so(growing: Store) -> None:
    pages = Pages(growing)
    pages.page("/study/s")
    key = key_of(growing.study("s"))
    _, _, seen = pages.front(key, AXES, "light", None)
    growing.delete_study("s")
    figure, line, _ = pages.front(key, AXES, "light", seen)
    assert figure is no_update
    assert line.startswith("gone: no study 's'")
    assert "no study 's'" in shown(pages.picked(key, {"points": [{"customdata": 0}]}))
    assert "Unknown study" in shown(pages.page("/study/s"))
    make_study(growing, "s", trials=3, complete=False)
    _, line, _ = pages.front(key, AXES, "light", seen)
    assert "was deleted, and another has its name" in line
    table, _ = pages.studies(None)
    assert "3 of 3" in shown(table)


def test_records_that_cannot_be_read_take_no_others_away(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    with Store(path) as store:
        for name in ("good", "bad"):
            make_study(store, name, trials=10, complete=False)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE studies SET config_json = '{' WHERE name = 'bad'")
        connection.execute("UPDATE trials SET values_json = '[' WHERE number = 3")
    with Store(path, read_only=True) as store:
        pages = Pages(store)
        table, seen = pages.studies(None)
        assert "/study/good" in shown(table)
        assert "study bad cannot be read" in shown(table)
        assert pages.studies(seen) == (no_update, no_update)
        assert "study bad cannot be read" in shown(pages.page("/study/bad"))
        assert "9 distinct architectures scored" in shown(pages.page("/study/good"))
        _, line, state = pages.front(key_of(store.study("good")), AXES, "light", None)
        assert "1 trial cannot be read" in line
        assert pages.front(key_of(store.study("good")), AXES, "light", state) == (no_update,) * 3


def test_a_store_that_is_replaced_or_removed_is_noticed(made_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    shutil.copy(made_store, path)
    with Store(path, read_only=True) as opened:
        pages = Pages(opened)
        _, seen = pages.studies(None)
        key = key_of(pages.live.store.study("full"))
        path.unlink()
        table, state = pages.studies(seen)
        assert "there is no store at" in shown(table)
        assert "there is no store at" in pages.front(key, AXES, "light", None)[1]
        assert "there is no store at" in shown(pages.page("/study/full"))
        with Store(tmp_path / "other.db") as other:
            make_study(other, "new", trials=3, complete=False)
        (tmp_path / "other.db").rename(path)
        table, state = pages.studies(state)
        assert "/study/new" in shown(table)
        assert "/study/full" not in shown(table)
        assert pages.front(key, AXES, "light", None)[1].startswith("gone: no study 'full'")
        path.write_bytes(b"not a database" * 100)
        assert "studies.db is " in shown(pages.studies(state)[0])


def test_other_axes_or_another_face_are_drawn_at_once(pages: Pages) -> None:
    pages.page("/study/full")
    study = key_of(pages.live.store.study("full"))
    _, _, seen = pages.front(study, AXES, "light", None)
    turned, _, _ = pages.front(study, ("params", "state_bytes"), "light", seen)
    assert turned.layout.xaxis.title.text.startswith("parameters")
    dark, _, _ = pages.front(study, AXES, "dark", seen)
    assert dark.layout.template.layout.font.color == "#e6e7e8"


def test_without_axes_nothing_is_drawn(pages: Pages) -> None:
    assert (
        pages.front(key_of(pages.live.store.study("full")), (None, None), "light", None) == (no_update,) * 3
    )


def test_a_click_opens_the_network(pages: Pages) -> None:
    pages.page("/study/full")
    record = pages.live.store.study("full")
    live = pages.live.study("full")
    final = next(trial for trial in live.members if trial.digest in live.finalists)
    text = shown(pages.picked(key_of(record), {"points": [{"customdata": final.number}]}))
    assert f"nas export full {final.digest}" in text
    assert "100 steps from scratch" in text
    assert "measured" in text
    assert pages.picked(key_of(record), None) is no_update
    assert pages.picked(key_of(record), {"points": [{"customdata": 10**6}]}) is no_update


@pytest.mark.parametrize(
    ("click", "number"),
    [(None, None), ({"points": []}, None), ({"points": [{}]}, None), ({"points": [{"customdata": [7]}]}, 7)],
)
def test_click_data_of_any_kind(click: Any, number: int | None) -> None:
    assert clicked_number(click) == number


def test_a_live_study_follows_what_is_written(growing: Store) -> None:
    live = LiveStudy(growing, growing.study("s"))
    first, scored = live.refresh(), live.scored
    assert live.refresh() == first
    best = live.members[0]
    better = {name: replace(value, value=value.value / 1000) for name, value in best.values.items()}
    another(growing, 901, values=better, genotype=best.genotype)
    assert live.refresh() > first
    assert [trial.number for trial in live.members] == [901]
    assert live.scored == scored + 1
    assert live.trial(901) is not None
    dominated = live.trial(best.number)
    assert dominated is not None
    assert dominated.values["bits_per_byte"].samples == ()  # memory is kept for the front


def test_the_front_followed_is_the_front_read_afresh(made_store: Path) -> None:
    with Store(made_store, read_only=True) as store:
        live = LiveStore(store).study("full")
        assert [t.digest for t in live.members] == [t.digest for t in live.study.predicted_front()]
        assert live.summary().front == len(live.members)


def test_a_study_says_whether_it_runs(growing: Store) -> None:
    live = LiveStudy(growing, growing.study("s"))
    live.refresh()
    assert live.state() == "complete"
    running: dict[str, Any] = {"state": TrialState.RUNNING, "values": {}, "started": 1e9, "finished": None}
    another(growing, 902, **{**running, "started": time.time()})
    live.refresh()
    assert live.state() == "running"
    assert live.state(now=time.time() + 3600) == "interrupted"


def test_a_large_study_is_read_in_the_background(growing: Store) -> None:
    live_store = LiveStore(growing, large_study=5)
    (live,) = live_store.all()
    assert live.summary().state in ("being read", "complete")
    assert live_store._reader is not None
    live_store._reader.join(10)
    assert live.summary().state == "complete"
    assert live_store.study("s") is live


def test_a_large_figure_is_sent_again_only_when_it_matters() -> None:
    seen = {"axes": ["a", "b"], "scheme": "light", "members": [1], "measured": 0, "points": MANY_POINTS}
    assert not worth_drawing(seen, {**seen, "points": MANY_POINTS + 1})
    assert worth_drawing(seen, {**seen, "points": 2 * MANY_POINTS})
    assert worth_drawing(seen, {**seen, "members": [1, 2]})
    assert worth_drawing(seen, {**seen, "measured": 1})
    assert worth_drawing({**seen, "points": 10}, {**seen, "points": 11})


def test_quality_goes_up_the_side() -> None:
    assert first_axes([quantity("bits_per_byte"), quantity("params")]) == ("params", "bits_per_byte")
    assert first_axes([quantity("params"), quantity("bits_per_byte")]) == ("params", "bits_per_byte")
    assert first_axes([quantity("params")]) == ("params", "params")


def test_trials_without_values_do_no_harm(growing: Store) -> None:
    record = growing.study("s")
    known: Trial = growing.trials(record)[0]
    growing.save(record, [replace(known, number=903, state=TrialState.FAILED, values={}, reason="lost")])
    live = LiveStudy(growing, record)
    live.refresh()
    assert live.trial(903) is None
    assert live.counts()["failed"] == 1
