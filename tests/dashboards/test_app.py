"""The pages over a store that is searched, damaged, replaced or removed meanwhile."""

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

from dashboards.app.front_view import MANY_POINTS, first_axes, worth_drawing
from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.server import make_app
from dashboards.app.shell import Shell
from dashboards.facts.networks import quantity
from dashboards.facts.progress import progress_facts, state_of
from dashboards.facts.reading import Reading
from dashboards.pages.front import Front
from dashboards.pages.studies import Studies
from foundation.errors import StoreError
from nas.store import Store
from nas.study.study import Study
from nas.study.trial import Trial, TrialState
from tests.dashboards.made import make_study

AXES = ("decode_ms", "bits_per_byte", None, None, None)
NOTHING = (no_update,) * 5


@pytest.fixture
def shell(made_store: Path) -> Iterator[Shell]:
    with Store(made_store, read_only=True) as store:
        yield Shell(LiveStore(store))


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "studies.db") as store:
        make_study(store, "s", trials=20, complete=False)
        yield store


def shown(component: Any) -> str:
    return json.dumps(component, default=lambda part: part.to_plotly_json())


def front_of(shell: Shell) -> Front:
    page = shell.pages["front"]
    assert isinstance(page, Front)
    return page


def studies_of(store: Store) -> Studies:
    return Studies(LiveStore(store))


def drawn(front: Front, study: str, seen: Any = None, axes: Any = AXES, **asked: Any) -> Any:
    return front.draw(axes=axes, bounds=[None] * 6, kept=[], study=study, seen=seen, **asked)


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
    inputs = {
        tuple(each.values()) for d in client.get("/_dash-dependencies").get_json() for each in d["inputs"]
    }
    assert inputs >= {("where", "pathname"), ("front-poll", "n_intervals"), ("front-plot", "clickData")}


def test_a_missing_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        make_app(tmp_path / "none.db")


def test_the_list_shows_every_study(shell: Shell) -> None:
    text = shown(shell.page("/"))
    for name in ("full", "two", "one", "empty"):
        assert f"/study/{name}" in text
    assert "80 of 80" in text
    assert "not started" in text
    assert " ms" in text


def test_the_list_is_searched_and_sorted(shell: Shell) -> None:
    text = shown(shell.page("/", "?find=WORKER+lost"))
    assert "/study/full" in text  # the reason of its failures
    assert "/study/empty" not in text
    text = shown(shell.page("/", "?order=name"))
    places = [text.index(f"/study/{name}") for name in ("empty", "full", "one", "two")]
    assert places == sorted(places)
    assert "No study is like that" in shown(shell.page("/", "?find=nothing+like+it"))


def test_an_empty_store_shows_how_to_fill_it(tmp_path: Path) -> None:
    with Store(tmp_path / "none.db") as store:
        assert "nas search laptop --name first" in shown(Shell(LiveStore(store)).page("/"))


def test_the_list_is_not_sent_again_without_news(growing: Store) -> None:
    studies = studies_of(growing)
    table, seen = studies.update("", "newest", None)
    assert "20 of 20" in shown(table)
    assert studies.update("", "newest", seen) == (no_update, no_update)
    another(growing, 900)
    table, later = studies.update("", "newest", seen)
    assert later != seen


def test_a_study_page_offers_all_quantities_and_the_end_of_the_front(shell: Shell) -> None:
    text = shown(shell.page("/study/full"))
    assert "decode latency per token" in text
    assert "prefill work" in text
    study = key_of(shell.live.store.study("empty"))
    assert "Nothing is scored yet" in shown(front_of(shell).panel(None, None, study))


def test_an_unknown_study_is_answered_with_the_nearest(shell: Shell) -> None:
    assert "did you mean 'full'?" in shown(shell.page("/study/fulll"))


def test_a_poll_without_news_answers_nothing_and_reads_nothing(shell: Shell) -> None:
    front, study = front_of(shell), key_of(shell.live.store.study("full"))
    figure, line, *_, seen = drawn(front, study)
    assert figure.layout.xaxis.title.text == "decode latency per token, measured (ms)"
    assert "distinct architectures scored" in line
    began = time.perf_counter()
    for _ in range(10):
        assert drawn(front, study, json.loads(json.dumps(seen))) == NOTHING
    assert (time.perf_counter() - began) / 10 < 0.05
    assert len(json.dumps(seen)) < 400  # every poll sends it


def test_a_page_of_a_study_that_was_deleted_says_so(growing: Store) -> None:
    shell = Shell(LiveStore(growing))
    front, key = front_of(shell), key_of(growing.study("s"))
    *_, seen = drawn(front, key)
    growing.delete_study("s")
    figure, line, *_ = drawn(front, key, seen)
    assert figure is no_update
    assert line.startswith("gone: no study 's'")
    assert "no study 's'" in shown(front.panel(0, seen, key))
    assert "There is no such page" in shown(shell.page("/study/s"))
    make_study(growing, "s", trials=3, complete=False)
    assert "was deleted, and another has its name" in drawn(front, key, seen)[1]
    assert "3 of 3" in shown(shell.page("/"))


def test_records_that_cannot_be_read_take_no_others_away(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    with Store(path) as store:
        for name in ("good", "bad"):
            make_study(store, name, trials=10, complete=False)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE studies SET config_json = '{' WHERE name = 'bad'")
        connection.execute("UPDATE trials SET values_json = '[' WHERE number = 3")
        connection.execute("UPDATE trials SET genotype_json = '[' WHERE number = 4")
    with Store(path, read_only=True) as store:
        shell = Shell(LiveStore(store))
        text = shown(shell.page("/"))
        assert "/study/good" in text
        assert "study bad cannot be read" in text
        assert "study bad cannot be read" in shown(shell.page("/study/bad"))
        front, study = front_of(shell), key_of(store.study("good"))
        _, line, *_, state = drawn(front, study)
        assert "9 distinct architectures scored" in line or "8 distinct architectures scored" in line
        assert "cannot be read" in line
        assert drawn(front, study, state) == NOTHING


def test_a_member_whose_genes_are_damaged_makes_way(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    with Store(path) as store:
        make_study(store, "s", trials=20, complete=False)
        whole = [trial.number for trial in Study(store, store.study("s")).predicted_front()]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE trials SET genotype_json = '[' WHERE number = ?", (whole[0],))
    with Store(path, read_only=True) as store:
        live = LiveStore(store).study("s")
        assert whole[0] not in [trial.number for trial in live.members]
        assert live.members
        assert f"search trial {whole[0]}" in live.unreadable


def test_a_store_that_is_replaced_or_removed_is_noticed(made_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    shutil.copy(made_store, path)
    with Store(path, read_only=True) as opened:
        shell = Shell(LiveStore(opened))
        front, studies = front_of(shell), shell.pages["studies"]
        assert isinstance(studies, Studies)
        _, seen = studies.update("", "newest", None)
        key = key_of(shell.live.store.study("full"))
        path.unlink()
        table, state = studies.update("", "newest", seen)
        assert "there is no store at" in shown(table)
        assert "there is no store at" in drawn(front, key)[1]
        assert "there is no store at" in shown(shell.page("/study/full"))
        with Store(tmp_path / "other.db") as other:
            make_study(other, "new", trials=3, complete=False)
        (tmp_path / "other.db").rename(path)
        table, state = studies.update("", "newest", state)
        assert "/study/new" in shown(table)
        assert "/study/full" not in shown(table)
        assert drawn(front, key)[1].startswith("gone: no study 'full'")
        path.write_bytes(b"not a database" * 100)
        assert "studies.db is " in shown(studies.update("", "newest", state)[0])


def test_other_axes_or_another_face_are_drawn_at_once(shell: Shell) -> None:
    front, study = front_of(shell), key_of(shell.live.store.study("full"))
    *_, seen = drawn(front, study)
    turned, *_ = drawn(front, study, seen, ("params", "state_bytes", None, None, None))
    assert turned.layout.xaxis.title.text.startswith("parameters")
    dark, *_ = drawn(front, study, seen, look="dark")
    assert dark.layout.template.layout.font.color == "#e6e7e8"


def test_a_picked_network_is_marked_and_told(shell: Shell) -> None:
    front, record = front_of(shell), shell.live.store.study("full")
    live = shell.live.study("full")
    final = next(trial for trial in live.members if trial.digest in live.finalists)
    text = shown(front.panel(final.number, None, key_of(record)))
    assert f"/study/full/network/{final.digest}" in text
    assert "trained for 100 steps" in text
    assert "measured" in text
    figure, *_ = drawn(front, key_of(record), pick=final.number)
    ring = next(trace for trace in figure.data if trace.name == "picked")
    assert len(ring.x) == 1
    assert not [trace for trace in drawn(front, key_of(record), pick=10**6)[0].data if trace.name == "picked"]


def test_a_live_study_follows_what_is_written(growing: Store) -> None:
    live = Reading(Study(growing, growing.study("s")))
    first, scored = live.refresh(), live.distinct
    assert live.refresh() == first
    best = live.members[0]
    better = {name: replace(value, value=value.value / 1000) for name, value in best.values.items()}
    another(growing, 901, values=better, genotype=best.genotype)
    assert live.refresh() > first
    assert [trial.number for trial in live.members] == [901]
    assert live.distinct == scored  # the same architecture, scored again
    assert live.trial(901) is not None


def test_the_front_followed_is_the_front_read_afresh(made_store: Path) -> None:
    with Store(made_store, read_only=True) as store:
        live = LiveStore(store).study("full")
        front = live.study.predicted_front()
        assert [t.digest for t in live.predicted_members] == [t.digest for t in front]
        assert [t.digest for t in live.members] == [t.digest for t in live.study.front()]
        assert progress_facts(live).front == len(live.members)


def test_a_study_says_whether_it_runs(growing: Store) -> None:
    live = Reading(Study(growing, growing.study("s")))
    live.refresh()
    assert state_of(live)[0] == "complete"
    running: dict[str, Any] = {"state": TrialState.RUNNING, "values": {}, "started": 1e9, "finished": None}
    another(growing, 902, **{**running, "started": time.time()})
    live.refresh()
    assert state_of(live)[0] == "running"
    assert state_of(live, time.time() + 3600)[0] == "interrupted"


def test_a_large_study_is_read_in_the_background(growing: Store) -> None:
    live_store = LiveStore(growing, large_study=5)
    (live,) = live_store.all()
    assert progress_facts(live).state in ("being read", "complete")
    assert live_store._reader is not None
    live_store._reader.join(10)
    assert progress_facts(live).state == "complete"
    assert live_store.study("s") is live


def test_a_large_figure_is_sent_again_only_when_it_matters() -> None:
    seen = {"asked": 1, "look": "light", "members": 1, "measured": 0, "points": MANY_POINTS}
    assert not worth_drawing(seen, {**seen, "points": MANY_POINTS + 1})
    assert worth_drawing(seen, {**seen, "points": 2 * MANY_POINTS})
    assert worth_drawing(seen, {**seen, "members": 2})
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
    live = Reading(Study(growing, record))
    live.refresh()
    assert live.trial(903) is None
    assert live.counts()["failed"] == 1
    assert progress_facts(live).failures == (("lost", 1),)
