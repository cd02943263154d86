"""Every page over stores that others could have written: markup in all texts, damage, a newer schema.

What is asked of one page is asked of all of the registry, and of all callbacks that they send.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from threading import Barrier, Thread
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Page

from dashboards.app.exports import Exports
from dashboards.app.live_store import LiveStore
from dashboards.app.server import make_app
from dashboards.app.shell import Shell
from dashboards.pages import pages
from foundation.errors import NasError, StoreError
from nas.store import Store
from nas.study.study import Study
from tests.dashboards.browser import CHROMIUM, Heard, browser, served, window
from tests.dashboards.made import make_study
from tests.dashboards.sent import callback, every_callback, page_at, path_of, post, sent_by

MARKUP = "<img src=x onerror=hacked=1><script>hacked=1</script><a href='javascript:hacked=1'>here</a>"
"""What would run, or be a link that runs, where it were no text."""

EVIL = "../../evil"
SIGN = "img src=x onerror"
"""A part of the markup that texts show where they show it."""

INJECTED = "document.querySelectorAll('img[src=x], [onerror], a[href^=\"javascript:\" i]').length"
QUIET = "document.readyState === 'complete' && document.querySelector('h1')"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "studies.db"
    with Store(path) as store:
        make_study(store, "full", trials=45)
        make_study(store, "other", trials=3, complete=False)
    return path


@pytest.fixture(scope="module")
def hostile(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with markup in every text that a page may show, and names that would lead out of a folder."""
    path = Path(shutil.copy(whole, tmp_path_factory.mktemp("hostile")))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE studies SET name = ? WHERE name = 'other'", (MARKUP,))
        database.execute(
            "UPDATE trials SET worker = ?, memo_json = ?", (MARKUP, json.dumps({MARKUP: MARKUP}))
        )
        database.execute("UPDATE trials SET reason = ? WHERE state IN ('failed', 'infeasible')", (MARKUP,))
        database.execute("UPDATE trials SET state = 'running', finished = NULL WHERE number = 44")
        for table, column in (("trials", "values_json"), ("measurements", "value_json")):
            rows = database.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
            changed = [(json.dumps(_marked(json.loads(text))), row) for row, text in rows]
            database.executemany(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", changed)
        database.execute("UPDATE trials SET digest = ? WHERE number = 5", (EVIL,))
        (config,) = database.execute("SELECT config_json FROM studies WHERE name = 'full'").fetchone()
        database.execute(
            "UPDATE studies SET config_json = ? WHERE name = 'full'",
            (json.dumps(_facts(json.loads(config))),),
        )
    return path


def _marked(plain: dict[str, Any]) -> dict[str, Any]:
    """Values whose sources are markup, and one more with such a name."""
    if "value" in plain:
        return {**plain, "source": MARKUP}
    first = next(iter(plain.values()), {"value": 1.0, "source": ""})
    return {**{name: _marked(value) for name, value in plain.items()}, MARKUP: _marked(first)}


def _facts(config: dict[str, Any]) -> dict[str, Any]:
    """The texts of what steps wrote down, and the names that a space and its settings have."""
    facts = config.get("facts", {})
    facts["corpus"]["name"] = facts["table"]["machine"] = MARKUP
    facts["table"]["notes"] = [MARKUP]
    config["space"]["name"] = MARKUP
    return config


@pytest.fixture(scope="module")
def client(hostile: Path) -> FlaskClient:
    return make_app(hostile).server.test_client()


@pytest.fixture(scope="module")
def site(hostile: Path) -> Iterator[str]:
    with served(make_app(hostile)) as address:
        yield address


@pytest.fixture(scope="module")
def shown() -> Iterator[Page]:
    with browser() as opened:
        yield window(opened)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
@pytest.mark.parametrize("name", list(pages))
def test_markup_of_a_store_is_text_on_every_page(shown: Page, site: str, name: str) -> None:
    heard = Heard(shown.context)
    shown.goto(f"{site}{path_of(name, 'full')}")
    shown.wait_for_function(QUIET)
    shown.wait_for_load_state("networkidle")
    shown.evaluate("document.querySelectorAll('details').forEach(more => more.open = true)")
    if name in ("studies", "front"):
        shown.wait_for_function("sign => document.body.innerText.includes(sign)", arg=SIGN)
    assert shown.evaluate(INJECTED) == 0
    assert shown.evaluate("typeof hacked") == "undefined"
    assert heard.errors == []


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
@pytest.mark.parametrize("path", ["/study/{}", "/study/full/network/{}", "/{}", "/study/full?x={}&over={}"])
def test_markup_of_an_address_is_text(shown: Page, site: str, path: str) -> None:
    heard = Heard(shown.context)
    shown.goto(site + path.format(*[quote(MARKUP, safe="")] * 2), wait_until="networkidle")
    assert shown.evaluate(INJECTED) == 0
    assert shown.evaluate("typeof hacked") == "undefined"
    assert [error for error in heard.errors if "404" not in error] == []


def test_every_callback_of_a_hostile_study_is_answered(client: FlaskClient) -> None:
    for body in every_callback(client, "full"):
        assert post(client, body).status_code in (200, 204), body


JUNK: dict[type, tuple[Any, ...]] = {
    str: ("", MARKUP, EVIL, "\x00", "full@1.0/9", "9" * 5000),
    int: (-1, 2**62, 10**400),
    float: (-1e308, 1e308, 10**400),
    list: ([[]], [None] * 7, [{"a": MARKUP}], [["x", 0, 10**400]] * 9, [["decode_ms", 1e-308, 3.0]]),
    dict: ({"a": []}, {"revision": "x", "asked": {}, "points": MARKUP}),
}
ROUNDS = max(map(len, JUNK.values()))
KEYS = ("-study.data", "-which.data")
"""What tells a callback which study or network it is about: without it the rest is not looked at."""


@pytest.mark.parametrize("at", [*range(ROUNDS), None])
def test_junk_of_the_right_kind_is_survived_by_every_callback(whole: Path, at: int | None) -> None:
    """All values at once, and those that name the study apart; what is of another kind is refused before."""
    with Store(whole, read_only=True) as store:
        kinds = Shell(LiveStore(store)).kinds()
    client = make_app(whole).server.test_client()
    for body in every_callback(client, "other"):
        for names_study in (False, True):
            changed = deepcopy(body)
            for each in (*changed["inputs"], *changed["state"]):
                name = f"{each['id']}.{each['property']}"
                if name.endswith(KEYS) is names_study:
                    junk = JUNK[kinds[name]]
                    each["value"] = None if at is None else junk[at % len(junk)]
            answer = post(client, changed)
            assert answer.status_code in (200, 204, 400), (changed, answer.text[:200])


def test_an_export_stays_in_its_folder(hostile: Path, client: FlaskClient, tmp_path: Path) -> None:
    """The names of studies are checked, and those of networks are digests that are computed."""
    with Store(hostile, read_only=True) as store:
        assert [record.name for record in store.studies(lambda unreadable: None)] == ["full"]
        study = Study(store, store.study("full"))
        assert study.trial(5).digest != EVIL
        job = Exports(f"sqlite:///{hostile}").start(study, EVIL, "nas")
        while job.ended is None:
            time.sleep(0.01)
    assert EVIL in job.error
    assert not list(hostile.parent.rglob("evil*"))
    bodies = [body for body in sent_by(client, "/study/full/network") if "network-zip" in body["output"]]
    for to in (EVIL, "nas,../../evil", "/etc", "..", ""):
        for body in bodies:
            body["state"][0]["value"] = to
            assert "no format" in post(client, body).get_json()["response"]["network-progress"]["children"]


def damage(path: Path) -> None:
    """Zeros over the second half of the file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def newer(path: Path) -> None:
    """As a later version of this project would leave it."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")


def other(path: Path) -> None:
    """A database of something else."""
    path.unlink()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE trials (x)")


WRONG = {"damage": damage, "cut": cut, "newer": newer, "other": other}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_store_that_goes_wrong_is_told_of_on_every_page(whole: Path, tmp_path: Path, wrong: str) -> None:
    path = Path(shutil.copy(whole, tmp_path))
    client = make_app(path).server.test_client()
    sent = every_callback(client, "full")
    spare = Path(shutil.copy(whole, tmp_path / "spare.db"))
    WRONG[wrong](spare)
    spare.replace(path)
    for body in sent:
        answer = post(client, body)
        assert answer.status_code in (200, 204), (wrong, body["output"], answer.text[:300])
    for name in pages:
        text = post(client, page_at(path_of(name, "full"))).text
        assert "Traceback" not in text
        if wrong in ("cut", "newer", "other"):
            assert "studies.db" in text, (wrong, name)


@pytest.mark.parametrize("wrong", ["cut", "newer", "other"])
def test_a_dashboard_over_a_wrong_store_does_not_start(whole: Path, tmp_path: Path, wrong: str) -> None:
    path = Path(shutil.copy(whole, tmp_path))
    WRONG[wrong](path)
    with pytest.raises(StoreError) as told:
        make_app(path)
    assert isinstance(told.value, NasError)
    assert len(str(told.value).splitlines()) == 1


READERS = 200


@pytest.mark.slow
def test_two_hundred_readers_at_once_are_all_answered(whole: Path) -> None:
    """Each asks for what is new among the studies, and for a part of a page."""
    app = make_app(whole)
    first = sent_by(app.server.test_client(), "/study/other")
    ready, found = Barrier(READERS), list[tuple[int, ...]]()
    news = callback(
        "..studies-list.children...studies-seen.data..",
        {"studies-poll.n_intervals": 1, "studies-find.value": "", "studies-order.value": "newest"},
        {"studies-seen.data": 7},
    )

    def read(number: int) -> None:
        client = app.server.test_client()
        bodies = [news, first[number % len(first)]]
        ready.wait()
        found.append((client.get("/").status_code, *(post(client, body).status_code for body in bodies)))

    readers = [Thread(target=read, args=(number,)) for number in range(READERS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert found == [(200,) * 3] * READERS
