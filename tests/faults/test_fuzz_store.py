"""Rows of a store with anything in them: only errors of ours, and the other studies stay to be seen."""

from __future__ import annotations

import json
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboards.app.live_store import LiveStore
from dashboards.app.shell import Shell
from dashboards.facts import read_comparison, read_facts
from dashboards.report.study import report_html
from foundation.errors import NasError
from nas import cli
from nas.store import Store
from nas.study.study import open_study
from tests.faults.stored import STORE, made_studies
from tests.limits import held_memory

pytestmark = pytest.mark.slow  # minutes: `make faults` runs them

MEMORY = 1 << 30
"""Bytes that reading may take beyond what the process holds."""

COLUMNS = {
    "studies": ("name", "created", "space_digest", "space_json", "config_json"),
    "trials": (
        *("stage", "number", "revision", "state", "digest", "evaluator", "steps", "seed", "started"),
        *("finished", "worker", "reused", "reason", "genotype_json", "values_json", "memo_json"),
    ),
    "measurements": ("digest", "name", "created", "scenario_json", "value_json"),
}

numbers = st.sampled_from([0, -1, 2**31, 2**63 - 1, -(2**63), 1e308, -1e-300, 0.5])
plain = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
odd_texts = st.sampled_from(
    [
        "",
        "{",
        "null",
        "[]",
        "NaN",
        '{"a":NaN}',
        '{"a":1e999}',
        "[" * 50_000,
        "1" * 5000,
        "\x1b[31m[red]",
        "../x",
    ]
)
cells = numbers | st.text(max_size=8) | st.binary(max_size=8) | odd_texts | plain.map(json.dumps)


@st.composite
def inside(draw: Callable[..., Any], text: str) -> str:
    """A JSON text with one value, at any depth, that is another one, gone, or called otherwise."""
    whole = json.loads(text)
    place = whole
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return json.dumps(draw(plain))
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans() | st.just(True)):
            place = place[key]
            continue
        how = draw(st.sampled_from(["other", "gone", "renamed"]))
        if how == "other":
            place[key] = draw(plain)
        elif isinstance(place, dict):
            value = place.pop(key)
            if how == "renamed":
                place[draw(st.text(max_size=5))] = value
        return json.dumps(whole)


@st.composite
def changes(draw: Callable[..., Any]) -> tuple[str, str, str, Any]:
    """A table, a column, which row, and the new value of the cell."""
    table = draw(st.sampled_from(sorted(COLUMNS)))
    column = draw(st.sampled_from(COLUMNS[table]))
    row = f"rowid = {_row(table, draw(st.integers(0, 200)))}"
    if column.endswith("_json") and draw(st.booleans()):
        with closing(sqlite3.connect(made_studies() / STORE)) as database:
            text = database.execute(f"SELECT {column} FROM {table} WHERE {row}").fetchone()[0]
        return table, column, row, draw(inside(text))
    return table, column, row, draw(cells)


def _row(table: str, which: int) -> int:
    """The rowid of a record of the study `laptop`."""
    key = "id" if table == "studies" else "study_id"
    query = f"SELECT rowid FROM {table} WHERE {key} = (SELECT id FROM studies WHERE name = 'laptop')"
    with closing(sqlite3.connect(made_studies() / STORE)) as database:
        found = [row[0] for row in database.execute(query)]
    return int(found[which % len(found)])


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> Iterator[None]:
    """A text that is read into gigabytes ends the test, not the machine."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held_memory() + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(change=changes())
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_damaged_record_takes_no_other_away(
    change: tuple[str, str, str, Any], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "s.db"
    copyfile(made_studies() / STORE, path)
    table, column, row, value = change
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        with suppress(sqlite3.IntegrityError):
            database.execute(f"UPDATE {table} SET {column} = ? WHERE {row}", (value,))
        database.commit()
    where = ["--store", str(path)]
    assert cli.run(["ls", *where]) == 0
    listed = capsys.readouterr().out
    assert "second" in listed
    assert "empty" in listed
    for words in (["front", "laptop"], ["show", "laptop", "3"], ["show", "laptop", "0", "--json"]):
        assert cli.run([*words, *where]) in (0, cli.REFUSED, cli.FAILED)
    assert cli.run(["front", "second", *where]) == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    study = None
    with suppress(NasError):
        study = open_study("laptop", path)
        report_html(read_facts(study))
    with suppress(NasError):
        read_comparison([open_study("second", path), open_study("laptop", path)])
    with closing(Store(path, read_only=True)) as store:
        pages = Shell(LiveStore(store))
        shown = str(pages.page("/"))
        assert "second" in shown
        pages.page("/study/laptop")
        assert "distinct" in str(pages.page("/study/second"))
