"""Old databases open, migrations make the tables that the code expects, and PostgreSQL takes all of it."""

import io
import json
import sqlite3
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from foundation.errors import StoreError
from nas.store import Measurement, Store, statements
from nas.store.migrate import SCRIPTS
from nas.store.rows import trial_row
from nas.store.schema import HEAD, metadata
from nas.study.plan import Plan
from nas.study.trial import Value
from tests.store.made import complete, study_in, trial

DATABASES = sorted((Path(__file__).parent / "databases").glob("*.sql"))


def test_every_schema_has_its_database():
    scripts = ScriptDirectory(SCRIPTS)
    assert scripts.get_current_head() == HEAD
    assert [path.stem for path in DATABASES] == sorted(script.revision for script in scripts.walk_revisions())


@pytest.mark.parametrize("dump", DATABASES, ids=lambda path: path.stem)
def test_databases_of_all_schemas_are_read(dump, tmp_path):
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    connection.executescript(dump.read_text())
    connection.close()
    with Store(path) as store:
        study = store.study("small")
        assert (study.id, study.created, study.space_digest) == (1, 1700000000.25, "ab12")
        assert study.config == {"plan": {"trials": 3}}
        failed = trial(1, reason="loss is nan")
        assert store.trials(study) == [complete(0, memo={"parents": [1, 2]}), failed]
        assert store.trials(study, "final") == [complete(0, stage="final", reused=0)]
        assert store.trials_changed_since(study, 2)[1] == 3
        measured = Measurement(trial(0).digest, "ttft_ms", {"batch": 1}, Value(3.5, 0.1, "measured"), 4.5)
        assert store.measurements(study) == [measured]
        store.save(study, [complete(1)])
        assert store.trials(study)[1] == complete(1)
        study_in(store, "another")


def opened_as(version, config, tmp_path):
    """The configuration of a study after a database of an older version was opened."""
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    connection.executescript((Path(__file__).parent / "databases" / f"{version}.sql").read_text())
    text = config if isinstance(config, str) else json.dumps(config, separators=(",", ":"))
    connection.execute("INSERT INTO studies VALUES (2, 'plan', 0, 'ab12', '{}', ?)", [text])
    connection.commit()
    connection.close()
    with Store(path) as store:
        assert store.study("small").config == {"plan": {"trials": 3}}
        return store.study("plan").config


@pytest.mark.parametrize("allowed", ["true", "false"])
def test_plans_that_allowed_a_rough_table_or_not_are_of_today(allowed, tmp_path):
    """Whoever did not allow one has a good table: rough ones are refused only where that is asked for."""
    data = '"allow_rough_table": true,"other": [1]'
    config = opened_as(
        "0001", {"plan": {"allow_rough_table": allowed == "true", "data": data, "trials": 3}}, tmp_path
    )
    assert config == {"plan": {"strict_table": False, "data": data, "trials": 3}}
    assert not Plan.from_plain(config["plan"]).strict_table


def test_plans_in_older_words_are_of_today(tmp_path):
    """Every setting keeps its value under its new name; those inside of engines keep their names."""
    plan = {
        "batch": 3,
        "device": "cuda:0",
        "estimate": None,
        "length": 9,
        "on": "phone",
        "rungs": [1, 2],
        "steps": 7,
        "strategy_settings": {"steps": 5},
        "tables": ["a.json"],
        "windows": 11,
        "trials": 3,
        "recipe": {"supernet": {"soft": 0.5, "networks": 3}},
    }
    now = Plan.from_plain(opened_as("0002", {"plan": plan, "facts": {"steps": 1}}, tmp_path)["plan"])
    assert (now.train_batch, now.train_on, now.window, now.validation_windows) == (3, "cuda:0", 9, 11)
    assert (now.time_on, now.finalist_steps, now.train_steps) == ("phone", (1, 2), 7)
    assert (now.settings, now.latency_tables) == ({"steps": 5}, ("a.json",))
    assert (now.recipe.supernet.distill, now.recipe.supernet.networks) == (0.5, 3)


def test_a_record_that_cannot_be_read_survives_a_migration(tmp_path):
    for number, text in enumerate(('{"plan": [1]}', "{", "[]", '{"plan": {"recipe": 3}}')):
        folder = tmp_path / str(number)
        folder.mkdir()
        with suppress(StoreError):  # only this record, after the others were compared
            opened_as("0002", text, folder)


def test_migrations_make_the_tables_of_the_code(tmp_path):
    with Store(tmp_path / "studies.db") as store, store._transaction() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        made = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'studies'").scalar()
        assert (
            made.split()
            == str(CreateTable(metadata.tables["studies"]).compile(dialect=sqlite.dialect())).split()
        )


def test_postgresql_is_spoken():
    dialect = postgresql.dialect(paramstyle="named")
    keys = list(trial_row(1, trial(0)))
    upsert = str(statements.upsert("postgresql").compile(dialect=dialect, column_keys=keys))
    assert "ON CONFLICT (study_id, stage, number) DO UPDATE SET revision = excluded.revision" in upsert
    assert "(SELECT coalesce(max(trials.revision), " in upsert
    insert = str(statements.insert_study("postgresql").compile(dialect=dialect))
    assert insert.endswith("ON CONFLICT (name) DO NOTHING")
    tables = [str(CreateTable(table).compile(dialect=dialect)) for table in metadata.sorted_tables]
    assert "id SERIAL NOT NULL" in tables[0]
    assert "created DOUBLE PRECISION NOT NULL" in tables[0]


def test_migrations_are_written_for_postgresql_too():
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("path_separator", "os")
    config.attributes["dialect_name"] = "postgresql"
    with redirect_stdout(io.StringIO()) as said:
        command.upgrade(config, "head", sql=True)
    assert "created DOUBLE PRECISION NOT NULL" in said.getvalue()
    assert f"UPDATE alembic_version SET version_num='{HEAD}'" in said.getvalue()
