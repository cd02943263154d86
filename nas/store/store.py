"""The store: what a search writes and everybody reads.

    with Store("studies/studies.db") as store:
        study = store.create_study("s", space_digest=space.digest, space_json=text, config={})
        store.save(study, [trial])
        store.trials(study)

One connection is held open, behind a lock, so a store may be shared by threads. Every call is one
transaction: it happens as a whole or not at all, whatever dies in the middle.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import DatabaseError, InterfaceError

from foundation.errors import StoreError, UnknownName
from foundation.registry import nearest
from foundation.wording import argument
from nas.store import statements
from nas.store.database import checkpoint, explained, open_database
from nas.store.folders import alone_in, clear, is_left_over
from nas.store.location import parse_location, shown, sqlite_path
from nas.store.news import NEWS, TrialNews, news_name, news_of
from nas.store.records import Measurement, StudyRecord, StudyRows
from nas.store.rows import (
    TRIAL_COLUMNS,
    config_text,
    measurement_name,
    measurement_of,
    measurement_row,
    study_name,
    study_of,
    trial_name,
    trial_of,
    trial_row,
)
from nas.store.schema import measurements, studies, trials
from nas.store.study_paths import check_study_name, study_folder
from nas.store.unreadable import OnUnreadable, readable, refuse
from nas.study.trial import CANDIDATE, Fidelity, Trial, TrialState

MOST_VARIABLES = 500
"""Values of one statement: SQLite may have been built to take no more than 999."""

_open: weakref.WeakSet[Store] = weakref.WeakSet()
"""The stores of this process that are open."""


def open_stores() -> list[Store]:
    """The stores of this process that are open, to be closed before it ends."""
    return list(_open)


class Store:
    """Studies, trials and measurements in one database, brought to the newest schema when opened.

    `url` is a SQLite file or any SQLAlchemy URL of SQLite or PostgreSQL. With `read_only`, nothing is
    created, migrated or written. A study may be given as its record or its id.

    Raises:
        StoreError: the database is missing, damaged, full, locked, or of a newer nas.
    """

    def __init__(self, url: str | Path, *, read_only: bool = False) -> None:
        location = parse_location(url)
        self.url = shown(location)
        self._connection, close = open_database(location, read_only=read_only)
        self._upsert = statements.upsert(self._connection.dialect.name)
        self._names: dict[int, str] = {}
        self._lock = threading.RLock()
        self._close = weakref.finalize(self, close)
        self._file = None if read_only else sqlite_path(location)
        _open.add(self)

    def close(self) -> None:
        """Release the database, whose file then holds everything; closing twice is fine."""
        with self._lock:
            self._close()
            _open.discard(self)

    def checkpoint(self) -> None:
        """Bring what was written into the database's own file, in the middle of anything; see `close`."""
        if self._file is not None:
            checkpoint(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def create_study(
        self, name: str, *, space_digest: str, space_json: str, config: Mapping[str, Any]
    ) -> StudyRecord:
        """A new study, or the one of this name, unchanged, if it is over the same space.

        Raises:
            SettingError: the name cannot be that of a folder.
            StoreError: a study of this name is over another space.
        """
        check_study_name(name)
        self._clear_leftovers(name)
        row = {
            "name": name,
            "created": time.time(),
            "space_digest": space_digest,
            "space_json": space_json,
            "config_json": config_text(config),
        }
        with self._transaction() as connection:
            connection.execute(statements.insert_study(connection.dialect.name), row)
            row_of_name = connection.execute(select(studies).where(studies.c.name == name)).one()
        existing = self._study_of(row_of_name)
        if existing.space_digest != space_digest:
            raise StoreError(
                f"study {name!r} holds space {existing.space_digest}, not {space_digest}: choose another name"
                f" ({argument('seed_from', name)} begins with its networks), go on with it (`nas resume"
                f" {name}`), or remove it (`nas rm {name}`)"
            )
        return self._noted(existing)

    def study(self, name: str) -> StudyRecord:
        """The study of a name.

        Raises:
            UnknownName: there is none.
            StoreError: it cannot be read.
        """
        with self._transaction() as connection:
            named = select(studies).where(studies.c.name == str(name))
            row = connection.execute(named).one_or_none() if isinstance(name, str) else None
            if row is None:
                names = [str(known) for known in connection.scalars(select(studies.c.name))]
                raise UnknownName(f"no study {name!r} in {self.url}; {nearest(name, names)}")
        return self._study_of(row)

    def studies(self, on_unreadable: OnUnreadable = refuse) -> list[StudyRecord]:
        """All studies, newest first.

        Raises:
            StoreError: one cannot be read, unless `on_unreadable` is to hear of it.
        """
        newest_first = select(studies).order_by(studies.c.created.desc(), studies.c.id.desc())
        with self._transaction() as connection:
            rows = connection.execute(newest_first).all()
        return [self._noted(study) for study in readable(rows, study_of, study_name, on_unreadable)]

    def holds(self, name: str) -> bool:
        """Whether there is a study of this name, readable or not."""
        with self._transaction() as connection:
            return connection.scalar(select(studies.c.id).where(studies.c.name == name)) is not None

    def require(self, name: str) -> None:
        """Raise `UnknownName`, with the nearest, where there is no study of this name, readable or not."""
        if not self.holds(name):
            self.study(name)

    def taken(self, name: str) -> StoreError:
        """What is to be raised where a study has this name already."""
        return StoreError(f"there is a study {name!r} in {self.url} already: choose another name")

    def delete_study(self, name: str) -> None:
        """Forget a study with its trials and measurements; its files stay: see `nas.store.moving`.

        Raises:
            UnknownName: there is none.
        """
        with self._transaction() as connection:
            found = connection.execute(delete(studies).where(studies.c.name == name)).rowcount
        if not found:
            self.study(name)  # which says so

    def rows(self, name: str) -> StudyRows:
        """All that stands in the database about a study, as it stands there.

        Raises:
            UnknownName: there is none.
        """
        self.require(name)
        with self._transaction() as connection:
            row = connection.execute(select(studies).where(studies.c.name == name)).one()
            parts = (select(table).where(table.c.study_id == row.id) for table in (trials, measurements))
            about = [[dict(part._mapping) for part in connection.execute(query)] for query in parts]
        return StudyRows(dict(row._mapping), *about)

    def add_rows(self, name: str, rows: StudyRows) -> None:
        """Add a study of this name with what `rows` of another returned: as a whole or not at all.

        Raises:
            StoreError: the name is taken.
        """
        with self._transaction() as connection:
            row = {key: value for key, value in rows.study.items() if key != "id"} | {"name": name}
            if connection.execute(statements.insert_study(connection.dialect.name), row).rowcount == 0:
                raise self.taken(name)
            study_id = connection.scalar(select(studies.c.id).where(studies.c.name == name))
            for table, parts in ((trials, rows.trials), (measurements, rows.measurements)):
                values = [{**part, "study_id": study_id} for part in parts]
                for value in values:
                    value.pop("id", None)
                if values:
                    connection.execute(insert(table), values)

    def rename_study(self, name: str, new: str) -> None:
        """Give a study another name; its files stay: see `nas.store.moving`.

        Raises:
            UnknownName: there is none of this name.
            StoreError: the new name is taken.
        """
        if self.holds(new):
            raise self.taken(new)
        with self._transaction() as connection:
            change = update(studies).where(studies.c.name == name).values(name=new)
            found = connection.execute(change).rowcount
        if not found:
            self.study(name)  # which says so

    def update_config(self, study: StudyRecord | int, config: Mapping[str, Any]) -> None:
        """Replace the settings of a study."""
        change = update(studies).where(studies.c.id == _id(study)).values(config_json=config_text(config))
        with self._transaction(study) as connection:
            if connection.execute(change).rowcount == 0:
                raise StoreError(f"study {self._name(study)} is no longer in {self.url}")

    def save(self, study: StudyRecord | int, trials: Iterable[Trial]) -> None:
        """Record the latest state of trials, replacing what was recorded of them: all of them or none.

        Raises:
            ValueError: a number is not finite.
        """
        study_id = _id(study)
        rows = [trial_row(study_id, trial) for trial in trials]
        if rows:
            with self._transaction(study) as connection:
                connection.execute(self._upsert, rows)

    def trials(
        self,
        study: StudyRecord | int,
        stage: str | None = "search",
        *,
        since: int = 0,
        digest: str | None = None,
        on_unreadable: OnUnreadable = refuse,
    ) -> list[Trial]:
        """The trials of a stage (of all for None) from number `since` on, in the order asked.

        With a `digest` those of one architecture.

        Raises:
            StoreError: one cannot be read, unless `on_unreadable` is to hear of it.
        """
        query = _trials_of(study).where(trials.c.number >= since)
        if stage is not None:
            query = query.where(trials.c.stage == stage)
        if digest is not None:
            query = query.where(trials.c.digest == digest)
        return self._trials(query.order_by(trials.c.stage, trials.c.number), on_unreadable)

    def next_number(self, study: StudyRecord | int, stage: str) -> int:
        """A number that no trial of a stage has, whether it can be read or not, and none before it."""
        query = select(trials.c.number).where(trials.c.study_id == _id(study), trials.c.stage == stage)
        with self._transaction() as connection:
            numbers = connection.scalars(query).all()
        return 1 + max((number for number in numbers if isinstance(number, int)), default=-1)

    def trials_changed_since(
        self, study: StudyRecord | int, revision: int, *, on_unreadable: OnUnreadable = refuse
    ) -> tuple[list[Trial], int]:
        """The trials of all stages saved after `revision` (0 for all), and the revision to ask from next.

        Raises:
            StoreError: one cannot be read, unless `on_unreadable` is to hear of it.
        """
        with self._transaction(study) as connection:
            rows = connection.execute(
                statements.CHANGED, {"of_study": _id(study), "known_revision": revision}
            ).all()
        changed = list(readable(rows, trial_of, trial_name, on_unreadable))
        return changed, max((row.revision for row in rows if isinstance(row.revision, int)), default=revision)

    def news(
        self,
        study: StudyRecord | int,
        revision: int,
        *,
        at_most: int,
        on_unreadable: OnUnreadable = refuse,
    ) -> tuple[list[TrialNews], int, bool]:
        """What became of up to `at_most` trials saved after `revision`, in the order saved.

        Also the revision to ask from next, and whether there is more.

        Raises:
            StoreError: one cannot be read, unless `on_unreadable` is to hear of it.
        """
        asked = {"of_study": _id(study), "known_revision": revision, "at_most": at_most}
        with self._transaction(study) as connection:
            rows = connection.execute(NEWS, asked).all()
        found = list(readable(rows, news_of, news_name, on_unreadable))
        until = max((row.revision for row in rows if isinstance(row.revision, int)), default=revision)
        return found, until, len(rows) == at_most and until > revision

    def trials_numbered(
        self,
        study: StudyRecord | int,
        numbers: Iterable[int],
        stage: str = "search",
        *,
        on_unreadable: OnUnreadable = refuse,
    ) -> list[Trial]:
        """The trials of a stage with these numbers, in the order of the numbers; unknown ones are left out.

        Raises:
            StoreError: one cannot be read, unless `on_unreadable` is to hear of it.
        """
        wanted, found = sorted(set(numbers)), list[Trial]()
        for start in range(0, len(wanted), MOST_VARIABLES):
            some = trials.c.number.in_(wanted[start : start + MOST_VARIABLES])
            asked = _trials_of(study).where(trials.c.stage == stage, some)
            found += self._trials(asked.order_by(trials.c.number), on_unreadable)
        return found

    def find(
        self, study: StudyRecord | int, digest: str, *, fidelity: Fidelity, seed: int, stage: str = "search"
    ) -> Trial | None:
        """The first complete trial of this architecture, scored this way."""
        query = _trials_of(study).where(
            trials.c.digest == digest,
            trials.c.stage == stage,
            trials.c.seed == seed,
            trials.c.evaluator == fidelity.evaluator,
            trials.c.steps == fidelity.steps,
            trials.c.state == TrialState.COMPLETE.value,
        )
        return next(iter(self._trials(query.order_by(trials.c.number).limit(1))), None)

    def counts(self, study: StudyRecord | int, stage: str | None = "search") -> dict[TrialState, int]:
        """How many candidates of a stage (of all for None) stand how; states without any are left out.

        A trial that trains a candidate further is none of its own.
        """
        further = trials.c.memo_json.contains(f'"{CANDIDATE}":', autoescape=True)
        query = select(trials.c.state, func.count()).where(trials.c.study_id == _id(study), ~further)
        if stage is not None:
            query = query.where(trials.c.stage == stage)
        with self._transaction() as connection:
            rows = connection.execute(query.group_by(trials.c.state)).all()
        known = {state.value: state for state in TrialState}
        return {known[state]: count for state, count in rows if state in known}

    def add_measurements(self, study: StudyRecord | int, new: Iterable[Measurement]) -> None:
        """Add numbers about architectures.

        Raises:
            ValueError: a number is not finite.
        """
        rows = [measurement_row(_id(study), measurement) for measurement in new]
        if rows:
            with self._transaction(study) as connection:
                connection.execute(insert(measurements), rows)

    def measurements(
        self,
        study: StudyRecord | int,
        digest: str | None = None,
        name: str | None = None,
        on_unreadable: OnUnreadable = refuse,
    ) -> list[Measurement]:
        """The measurements of a study, or of one architecture, or of one name, oldest first.

        Raises:
            StoreError: one cannot be read, unless `on_unreadable` is to hear of it.
        """
        query = select(measurements).where(measurements.c.study_id == _id(study))
        if digest is not None:
            query = query.where(measurements.c.digest == digest)
        if name is not None:
            query = query.where(measurements.c.name == name)
        with self._transaction() as connection:
            rows = connection.execute(query.order_by(measurements.c.id)).all()
        return list(readable(rows, measurement_of, measurement_name, on_unreadable))

    def last_measurement(self, study: StudyRecord | int) -> int:
        """A number that grows as measurements are added to a study; 0 where there is none."""
        query = select(func.max(measurements.c.id)).where(measurements.c.study_id == _id(study))
        with self._transaction() as connection:
            return connection.execute(query).scalar() or 0

    def _trials(self, query: Select[Any], on_unreadable: OnUnreadable = refuse) -> list[Trial]:
        with self._transaction() as connection:
            rows = connection.execute(query).all()
        return list(readable(rows, trial_of, trial_name, on_unreadable))

    def _study_of(self, row: Row[Any]) -> StudyRecord:
        return self._noted(next(readable([row], study_of, study_name)))

    def _clear_leftovers(self, name: str) -> None:
        """Remove the files that a killed copy or removal left under a name that no study has."""
        folder = study_folder(self.url, name)
        if is_left_over(folder) and not self.holds(name):
            with alone_in(folder):
                clear(folder)

    def _noted(self, record: StudyRecord) -> StudyRecord:
        self._names[record.id] = record.name
        return record

    def _name(self, study: StudyRecord | int | None) -> str:
        """A study's name for an error, which must not ask the database that has just failed."""
        return study.name if isinstance(study, StudyRecord) else self._names.get(study or 0, "NAME")

    @contextmanager
    def _transaction(self, study: StudyRecord | int | None = None) -> Iterator[Connection]:
        try:
            with self._lock, self._connection.begin():
                yield self._connection
        except (DatabaseError, InterfaceError) as error:
            raise explained(error, self.url, self._name(study)) from error
        except UnicodeEncodeError as error:
            raise StoreError(
                f"{self.url} holds nothing that is not Unicode, as {error.object[:80]!a}"
            ) from None


def _id(study: StudyRecord | int) -> int:
    return study if isinstance(study, int) else study.id


def _trials_of(study: StudyRecord | int) -> Select[Any]:
    return select(*TRIAL_COLUMNS).where(trials.c.study_id == _id(study))
