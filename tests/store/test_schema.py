"""Old databases open, migrations make the tables that the code expects, and PostgreSQL takes all of it."""

import io
import json
import sqlite3
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

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


@pytest.mark.parametrize("allowed", ["true", "false"])
def test_plans_that_allowed_a_rough_table_or_not_are_of_today(allowed, tmp_path):
    """Whoever did not allow one has a good table: rough ones are refused only where that is asked for."""
    path, data = tmp_path / "old.db", '"allow_rough_table": true,"other": [1]'
    config = {"plan": {"allow_rough_table": allowed == "true", "data": data, "trials": 3}}
    connection = sqlite3.connect(path)
    connection.executescript((Path(__file__).parent / "databases" / "0001.sql").read_text())
    text = json.dumps(config, separators=(",", ":"))
    connection.execute("INSERT INTO studies VALUES (2, 'plan', 0, 'ab12', '{}', ?)", [text])
    connection.commit()
    connection.close()
    with Store(path) as store:
        assert store.study("plan").config == {"plan": {"strict_table": False, "data": data, "trials": 3}}
        assert not Plan.from_plain(store.study("plan").config["plan"]).strict_table
        assert store.study("small").config == {"plan": {"trials": 3}}


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
