import os
import shutil
import sqlite3
import subprocess
import sys

import pytest

from foundation.errors import StoreError
from nas.store import Store, database
from nas.store.schema import HEAD
from tests.store.made import complete, study_in, trial


def filled(path):
    with Store(path) as store:
        study = study_in(store)
        store.save(study, [complete(0), trial(1)])
    return study


def set_version(path, version):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [version])
    connection.close()


@pytest.mark.parametrize("name", ["studies.db", "100% #1 ?.db", "é a.db"])
def test_a_path_and_a_url_are_the_same_place(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = filled(name)
    for place in (name, tmp_path / name):
        with Store(place, read_only=True) as store:
            assert store.studies() == [study]
            assert store.url == str(place)
    with Store("sqlite:///plain.db") as store:
        assert store.url == "plain.db"
    # also a reader takes away the two files that SQLite keeps beside a database while it is open
    assert {file.name for file in tmp_path.iterdir()} == {name, "plain.db"}


def test_a_reopened_store_remembers(tmp_path):
    study = filled(tmp_path / "studies.db")
    with Store(tmp_path / "studies.db") as store:
        assert store.study("small") == study
        assert store.trials(study) == [complete(0), trial(1)]


def test_a_store_that_is_forgotten_closes_itself(tmp_path):
    store = Store(tmp_path / "studies.db")
    study_in(store)
    del store
    assert [file.name for file in tmp_path.iterdir()] == ["studies.db"]


def test_the_last_to_close_leaves_one_file(tmp_path):
    path = tmp_path / "studies.db"
    study = filled(path)
    writer, reader = Store(path), Store(path, read_only=True)
    writer.save(study, [complete(1)])
    writer.close()
    assert reader.trials(study)[1] == complete(1)
    with pytest.raises(StoreError, match="is read-only"):
        reader.save(study, [complete(2)])
    reader.close()
    assert [file.name for file in tmp_path.iterdir()] == ["studies.db"]


def test_opening_what_is_at_head_does_not_import_alembic(tmp_path):
    filled(tmp_path / "studies.db")
    program = f"import sys; from nas.store import Store; Store({str(tmp_path / 'studies.db')!r}).close()"
    program += "; sys.exit('alembic' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_sqlite_is_set_up_for_one_writer_and_many_readers(tmp_path):
    with Store(tmp_path / "studies.db") as store, store._transaction() as connection:
        asked = ["journal_mode", "synchronous", "foreign_keys", "busy_timeout"]
        assert [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in asked] == [
            "wal",
            1,
            1,
            10000,
        ]


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("9999", f"written by a newer nas .schema 9999; this one reads up to {HEAD}.: upgrade nas or use"),
        ("v3.2.0.a", "not a store of nas .its schema is 'v3.2.0.a'.: use another store"),
    ],
)
def test_other_schemas_are_refused_and_left_alone(tmp_path, version, message, read_only):
    path = tmp_path / "studies.db"
    filled(path)
    set_version(path, version)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=message):
        Store(path, read_only=read_only)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_older_schema_is_not_migrated_by_a_reader(tmp_path):
    filled(tmp_path / "studies.db")
    set_version(tmp_path / "studies.db", "0000")
    with pytest.raises(StoreError, match="schema 0000 of an older nas: open it once for writing"):
        Store(tmp_path / "studies.db", read_only=True)


def test_strangers_tables_are_not_mixed_up(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE trials (x)")
    connection.close()
    with pytest.raises(StoreError, match=r"other.db is not a store of nas: it holds trials"):
        Store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("trials",)]
    connection.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_no_database_is_named(tmp_path, read_only):
    (tmp_path / "notes.txt").write_text("not a database, but long enough to look like something else" * 20)
    with pytest.raises(StoreError, match=r"notes.txt is not a SQLite database"):
        Store(tmp_path / "notes.txt", read_only=read_only)


def test_damage_is_named(tmp_path):
    path = tmp_path / "studies.db"
    study = filled(path)
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    message = r"studies.db is damaged: database disk image is malformed"
    with pytest.raises(StoreError, match=message), Store(path) as store:
        store.trials(study)


def test_a_reader_creates_nothing(tmp_path):
    with pytest.raises(StoreError, match=r"there is no store at .*gone/studies.db"):
        Store(tmp_path / "gone" / "studies.db", read_only=True)
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match=r"empty.db is not a store of nas: it holds no studies"):
        Store(tmp_path / "empty.db", read_only=True)
    assert [file.name for file in tmp_path.iterdir()] == ["empty.db"]


def test_a_reader_cannot_write(tmp_path):
    study = filled(tmp_path / "studies.db")
    with Store(tmp_path / "studies.db", read_only=True) as store:
        with pytest.raises(StoreError, match=r"studies.db is read-only, so nothing can be written to it"):
            store.save(study, [complete(1)])
        assert store.trials(study) == [complete(0), trial(1)]


def test_a_reader_needs_no_writable_folder(tmp_path, monkeypatch):
    folder = tmp_path / "archive"
    study = filled(folder / "studies.db")
    # the tests may run as root, who may write anywhere
    monkeypatch.setattr(database.os, "access", lambda path, mode: False)
    with Store(folder / "studies.db", read_only=True) as store:
        assert store.trials(study) == [complete(0), trial(1)]
        assert os.listdir(folder) == ["studies.db"]


def test_a_folder_is_no_database(tmp_path):
    with pytest.raises(StoreError, match=r"is a folder: name a file in it, e.g. .*/studies.db"):
        Store(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file is a file, so .*/file/studies.db cannot lie in it"):
        Store(tmp_path / "file" / "studies.db")


def test_a_locked_database_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    path = tmp_path / "studies.db"
    study = filled(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Store(path) as store:
        with pytest.raises(StoreError, match=r"studies.db is locked by another process that writes"):
            store.save(study, [complete(1)])
        other.close()
        store.save(study, [complete(1)])
        assert store.trials(study) == [complete(0), complete(1)]


def test_full_database_keeps_what_was_saved(tmp_path):
    with Store(tmp_path / "studies.db") as store:
        study = study_in(store)
        with store._transaction() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 60")
        _save_until_full(store, study)


def test_full_disk_keeps_what_was_saved(tmp_path):
    size = ["-o", "size=600k", "-t", "tmpfs", "none", str(tmp_path)]
    if not shutil.which("mount") or subprocess.run(["mount", *size], capture_output=True).returncode:
        pytest.skip("only root may make a small disk")
    try:
        with Store(tmp_path / "studies.db") as store:
            _save_until_full(store, study_in(store))
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def _save_until_full(store, study):
    """Pairs of trials, so that a half-written transaction would show."""
    memo, saved = {"padding": "x" * 5000}, []
    message = "(database or disk is full|disk I/O error): .*the study is intact .*run `nas resume small`"

    def fill():
        for number in range(0, 1000, 2):
            pair = [trial(number, memo=memo), trial(number + 1, memo=memo)]
            store.save(study, pair)
            saved.extend(pair)

    with pytest.raises(StoreError, match=message):
        fill()
    assert len(saved) > 10
    assert store.trials(study) == saved
    with Store(store.url, read_only=True) as reader:
        assert reader.trials(study) == saved


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/studies", "a SQLite file or a PostgreSQL database, not 'mysql'"),
        ("sqlite+nosuch:///x.db", "sqlite.nosuch"),
        ("://", "cannot read the store's URL"),
        ("postgresql+pg8000://me:secret@host/x", r"me:\*\*\*@host/x needs a driver: pip install 'pg8000'"),
    ],
)
def test_urls_that_cannot_be_opened(url, message):
    with pytest.raises(StoreError, match=message):
        Store(url)


def test_a_missing_driver_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"me:\*\*\*@host/x needs a driver: pip install 'psycopg\[binary\]'"):
        Store("postgresql://me:secret@host/x")
