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

from sqlalchemy import Connection, Select, delete, func, insert, select, update
from sqlalchemy.exc import DatabaseError, InterfaceError

from foundation.errors import StoreError, UnknownName
from foundation.registry import nearest
from nas.store import statements
from nas.store.database import explained, open_database
from nas.store.location import parse_location, shown
from nas.store.records import Measurement, StudyRecord
from nas.store.rows import (
    TRIAL_COLUMNS,
    config_text,
    measurement_of,
    measurement_row,
    study_of,
    trial_of,
    trial_row,
)
from nas.store.schema import measurements, studies, trials
from nas.store.study_paths import check_study_name, study_folder
from nas.study.trial import Fidelity, Trial, TrialState


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

    def close(self) -> None:
        """Release the database; closing twice is fine."""
        with self._lock:
            self._close()

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
        study_folder(self.url, name)
        row = {
            "name": name,
            "created": time.time(),
            "space_digest": space_digest,
            "space_json": space_json,
            "config_json": config_text(config),
        }
        with self._transaction() as connection:
            connection.execute(statements.insert_study(connection.dialect.name), row)
            existing = study_of(connection.execute(select(studies).where(studies.c.name == name)).one())
        if existing.space_digest != space_digest:
            raise StoreError(
                f"study {name!r} holds space {existing.space_digest}, not {space_digest}:"
                " choose another name or delete it"
            )
        return self._noted(existing)

    def study(self, name: str) -> StudyRecord:
        """The study of a name.

        Raises:
            UnknownName: there is none.
        """
        with self._transaction() as connection:
            row = connection.execute(select(studies).where(studies.c.name == name)).one_or_none()
            if row is None:
                names = connection.scalars(select(studies.c.name)).all()
                raise UnknownName(f"no study {name!r} in {self.url}; {nearest(name, names)}")
        return self._noted(study_of(row))

    def studies(self) -> list[StudyRecord]:
        """All studies, newest first."""
        newest_first = select(studies).order_by(studies.c.created.desc(), studies.c.id.desc())
        with self._transaction() as connection:
            return [self._noted(study_of(row)) for row in connection.execute(newest_first)]

    def delete_study(self, name: str) -> None:
        """Forget a study with its trials and measurements; its files stay.

        Raises:
            UnknownName: there is none.
        """
        record = self.study(name)
        with self._transaction() as connection:
            connection.execute(delete(studies).where(studies.c.id == record.id))

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
        self, study: StudyRecord | int, stage: str | None = "search", *, since: int = 0
    ) -> list[Trial]:
        """The trials of a stage (of all for None) from number `since` on, in the order asked."""
        query = _trials_of(study).where(trials.c.number >= since)
        if stage is not None:
            query = query.where(trials.c.stage == stage)
        return self._trials(query.order_by(trials.c.stage, trials.c.number))

    def trials_changed_since(self, study: StudyRecord | int, revision: int) -> tuple[list[Trial], int]:
        """The trials of all stages saved after `revision` (0 for all), and the revision to ask from next."""
        with self._transaction(study) as connection:
            rows = connection.execute(
                statements.CHANGED, {"of_study": _id(study), "known_revision": revision}
            ).all()
        return [trial_of(row) for row in rows], rows[-1].revision if rows else revision

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
        """How many trials of a stage (of all for None) stand how; states without trials are left out."""
        query = select(trials.c.state, func.count()).where(trials.c.study_id == _id(study))
        if stage is not None:
            query = query.where(trials.c.stage == stage)
        with self._transaction() as connection:
            rows = connection.execute(query.group_by(trials.c.state)).all()
        return {TrialState(state): count for state, count in rows}

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
        self, study: StudyRecord | int, digest: str | None = None, name: str | None = None
    ) -> list[Measurement]:
        """The measurements of a study, or of one architecture, or of one name, oldest first."""
        query = select(measurements).where(measurements.c.study_id == _id(study))
        if digest is not None:
            query = query.where(measurements.c.digest == digest)
        if name is not None:
            query = query.where(measurements.c.name == name)
        with self._transaction() as connection:
            return [measurement_of(row) for row in connection.execute(query.order_by(measurements.c.id))]

    def _trials(self, query: Select[Any]) -> list[Trial]:
        with self._transaction() as connection:
            rows = connection.execute(query).all()
        return [trial_of(row) for row in rows]

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


def _id(study: StudyRecord | int) -> int:
    return study if isinstance(study, int) else study.id


def _trials_of(study: StudyRecord | int) -> Select[Any]:
    return select(*TRIAL_COLUMNS).where(trials.c.study_id == _id(study))
