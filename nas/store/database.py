"""Opening a database: its settings, its schema, and its errors in words.

Opening one whose schema is the newest reads one row and does not import Alembic.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, NoSuchModuleError

from foundation.errors import StoreError
from foundation.wording import argument
from nas.store.location import check_file, shown, sqlite_path
from nas.store.schema import HEAD

BUSY_SECONDS = 10.0
"""How long to wait for another process that is writing."""

LOG_SECONDS = 1.0
"""How long to wait, at the end, for another process that is reading: the log is complete without the file."""

LONGEST_TEXT = 2**25
"""The longest text of a record, in bytes: SQLite refuses to read a longer one before it takes memory."""

CAUSES = {
    "database or disk is full": "database or disk is full: {place}; the study is intact up to the last trial,"
    " free space and run `nas resume {study}`",
    "disk I/O error": "disk I/O error: {place}; the study is intact up to the last trial, check the disk and"
    " its free space and run `nas resume {study}`",
    "readonly database": "{place} is read-only, so nothing can be written to it",
    "database is locked": "{place} is locked by another process that writes to it: wait for it or stop it",
    "unable to open database file": "cannot open {place}: not a file that can be read and written, or its"
    " folder cannot be",
    "file is not a database": "{place} is not a SQLite database",
    "malformed": "{place} is damaged: {cause}",
    "string or blob too big": "{place} is damaged, or was not written by nas: it holds a text of more than"
    f" {LONGEST_TEXT // 2**20} MiB",
    "FOREIGN KEY constraint failed": "study {study} is no longer in {place}: it was deleted meanwhile",
    "violates foreign key constraint": "study {study} is no longer in {place}: it was deleted meanwhile",
}


def explained(error: DBAPIError, place: str, study: str = "NAME") -> StoreError:
    """What the database complained of, in one line that says what to do."""
    cause = (str(error.orig).splitlines() or [type(error.orig).__name__])[0]
    for sign, words in CAUSES.items():
        if sign in cause:
            return StoreError(words.format(place=place, study=study, cause=cause))
    return StoreError(f"{place}: {cause}")


def open_database(url: URL, *, read_only: bool) -> tuple[Connection, Callable[[], None]]:
    """A connection to a database of the newest schema, and the call that closes it for good.

    Raises:
        StoreError: it is missing, damaged, of a newer schema, or cannot be opened.
    """
    _check_folder(url, read_only)
    engine = _engine(url, read_only)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        try:
            connection = stack.enter_context(engine.connect())
            if read_only and engine.dialect.name == "postgresql":
                connection.execution_options(postgresql_readonly=True)
            _bring_to_head(connection, shown(url), read_only)
        except DBAPIError as error:
            raise explained(error, shown(url)) from error
        if not read_only and sqlite_path(url) is not None:
            stack.callback(_empty_log, connection)
        return connection, stack.pop_all().close
    raise AssertionError("unreachable")  # mypy: an exit stack may swallow exceptions, this one does not


def checkpoint(path: Path) -> None:
    """Bring what stands in a SQLite file's log into the file itself, whatever else this process is doing."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=LOG_SECONDS)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _empty_log(connection: Connection) -> None:
    """The same before a connection is closed: SQLite does it by itself only where nobody else reads."""
    with suppress(DBAPIError):
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {1000 * LOG_SECONDS:.0f}")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _check_folder(url: URL, read_only: bool) -> None:
    path = sqlite_path(url)
    if path is None:
        return
    check_file(path, read_only=read_only)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the folder of {path}: {error.strerror}") from error


def _engine(url: URL, read_only: bool) -> Engine:
    path = sqlite_path(url)
    try:
        if url.get_backend_name() == "postgresql":
            return create_engine(url)
        arguments: dict[str, Any] = {"timeout": BUSY_SECONDS, "check_same_thread": False}
        if path is not None and read_only:
            url = url.set(database=f"file:{quote(str(path))}", query=_reading(path))
        engine = create_engine(url, connect_args=arguments)
    except ModuleNotFoundError as error:
        package = "psycopg[binary]" if error.name == "psycopg" else error.name
        raise StoreError(f"{shown(url)} needs a driver: pip install '{package}'") from error
    except NoSuchModuleError as error:
        raise StoreError(f"{shown(url)}: {error}") from error
    event.listen(engine, "connect", _set_up_sqlite)
    if read_only:
        event.listen(engine, "connect", _refuse_to_write)
    return engine


def _reading(path: Path) -> dict[str, str]:
    """SQLite's words for a file that is only read.

    Beside a file in WAL mode even a reader keeps two files, and only who may write takes them away at the
    end: so a reader opens it as a writer does, and is refused to write (`_refuse_to_write`). A file that may
    not be written SQLite opens for reading all the same. In a folder where it cannot keep these two files,
    nobody writes either (there is no WAL), so the file may be taken as unchangeable.
    """
    unchangeable = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    return {"uri": "true", **({"mode": "ro", "immutable": "1"} if unchangeable else {"mode": "rw"})}


def _set_up_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    # text that is not UTF-8 makes one record unreadable, not all
    connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_TEXT)
    connection.execute("PRAGMA foreign_keys = ON")
    # with a WAL: a killed process loses nothing, a power cut at most the last transactions, never the file
    connection.execute("PRAGMA synchronous = NORMAL")


def _refuse_to_write(connection: sqlite3.Connection, _: Any) -> None:
    connection.execute("PRAGMA query_only = ON")


def _bring_to_head(connection: Connection, place: str, read_only: bool) -> None:
    version = _schema_version(connection)
    if version is not None and not (version.isdecimal() and len(version) == len(HEAD)):
        raise StoreError(
            f"{place} is not a store of nas (its schema is {version!r}): use another {argument('store')}"
        )
    if version is not None and version > HEAD:
        raise StoreError(
            f"{place} was written by a newer nas (schema {version}; this one reads up to {HEAD}):"
            f" upgrade nas or use another {argument('store')}"
        )
    if version is None and (others := _tables(connection)):
        raise StoreError(f"{place} is not a store of nas: it holds {', '.join(others[:3])}")
    if read_only and version is None:
        raise StoreError(f"{place} is not a store of nas: it holds no studies")
    if read_only and version != HEAD:
        raise StoreError(
            f"{place} has the schema {version} of an older nas: open it once for writing (`nas resume`)"
        )
    if not read_only:
        _prefer_wal(connection)
    if version != HEAD:
        _migrate(connection)


def _schema_version(connection: Connection) -> str | None:
    with connection.begin():
        if not inspect(connection).has_table("alembic_version"):
            return None
        version = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return None if version is None else str(version)  # SQLite keeps any type in any column


def _tables(connection: Connection) -> list[str]:
    with connection.begin():
        return inspect(connection).get_table_names()


def _prefer_wal(connection: Connection) -> None:
    """Readers and the writer do not wait for each other; SQLite remembers it in the file."""
    if connection.dialect.name == "sqlite":
        with connection.begin():
            if connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete":
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")


def _migrate(connection: Connection) -> None:
    from nas.store.migrate import upgrade  # slow to import, and needed once in the life of a database

    with connection.begin():
        if connection.dialect.name == "sqlite":
            # two processes may open a new file at once: the second waits, and finds the work done
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        upgrade(connection)
