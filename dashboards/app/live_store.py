"""All studies of a store in memory; where the store's file is replaced, those of the new one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dashboards.facts.reading import Reading
from foundation.errors import NasError, StoreError, UnknownName
from nas.store import Store, StudyRecord
from nas.store.location import sqlite_path
from nas.store.unreadable import Unreadable
from nas.study.study import Study

LIST_READ_SECONDS = 0.5
"""Time that one request for the list spends on reading new studies; the rest is read in the background."""

LARGE_STUDY = 5000
"""A study with more trials than this is read in the background."""


class LiveStore:
    """All studies of a store, each read when it is first requested.

    Studies of more than `large_study` trials are read in the background. Where another file has taken the
    place of the store's, it is opened, and what was read of the former forgotten.
    """

    def __init__(self, store: Store, *, large_study: int = LARGE_STUDY) -> None:
        self.large_study = large_study
        self._store, self._path = store, sqlite_path(store.url)
        self._file = _identity(self._path)
        self._lock = threading.RLock()
        self.unreadable: tuple[Unreadable, ...] = ()
        self._live: dict[str, Reading] = {}
        self._reader: threading.Thread | None = None

    @property
    def store(self) -> Store:
        """The store that is at its place now.

        Raises:
            StoreError: nothing is there any more, or what is there cannot be read.
        """
        with self._lock:
            file = _identity(self._path)
            if self._path is not None and file is None:
                raise StoreError(f"there is no store at {self._path} any more")
            if file != self._file:
                self._store = Store(self._store.url, read_only=True)
                self._file, self._live = file, {}
            return self._store

    def all(self) -> list[Reading]:
        """Every study that can be read, newest first; slow ones are read in the background.

        The others are in `unreadable` afterwards.

        Raises:
            StoreError: the store cannot be read.
        """
        unreadable: list[Unreadable] = []
        studies = []
        for record in self.store.studies(unreadable.append):
            try:
                studies.append(self._live_study(record))
            except StoreError as error:  # its settings are damaged
                unreadable.append(Unreadable("study", record.name, str(error)))
        self.unreadable = tuple(unreadable)
        began = time.monotonic()
        for live in studies:
            if not live.read and (time.monotonic() - began > LIST_READ_SECONDS or self._is_large(live)):
                continue
            live.refresh()
        self._read_later([live for live in studies if not live.read])
        return studies

    @property
    def known(self) -> tuple[Reading, ...]:
        """The studies that were asked for by now, as they were read."""
        with self._lock:
            return tuple(self._live.values())

    def records(self) -> list[StudyRecord]:
        """The records of the studies that can be read, newest first.

        Raises:
            StoreError: the store cannot be read.
        """
        return self.store.studies(lambda unreadable: None)

    def names(self) -> list[str]:
        """Their names."""
        return [record.name for record in self.records()]

    def study(self, name: str) -> Reading:
        """The study called `name`, read to its last trial, or if it is large as far as it was read by now.

        Raises:
            UnknownName: there is no such study.
            StoreError: the store cannot be read.
        """
        return self._followed(self._live_study(self.store.study(name)))

    def by_key(self, key: str) -> Reading:
        """The study that a page shows; see `study`.

        Raises:
            UnknownName: it was deleted; another may have its name.
            StoreError: the store cannot be read.
        """
        name = key.partition("@")[0]
        record = self.store.study(name)
        if key_of(record) != key:
            raise UnknownName(f"study {name!r} was deleted, and another has its name: load the page again")
        return self._followed(self._live_study(record))

    def _followed(self, live: Reading) -> Reading:
        if live.read or not self._is_large(live):
            live.refresh()
        else:
            self._read_later([live])
        return live

    def _is_large(self, live: Reading) -> bool:
        return sum(self.store.counts(live.study.record).values()) > self.large_study

    def _read_later(self, waiting: Sequence[Reading]) -> None:
        def read() -> None:
            with suppress(NasError):  # the page that shows the study tries again, and says what is wrong
                for live in waiting:
                    live.refresh()

        if waiting and (self._reader is None or not self._reader.is_alive()):
            self._reader = threading.Thread(target=read, name="study reader", daemon=True)
            self._reader.start()

    def _live_study(self, record: StudyRecord) -> Reading:
        with self._lock:
            key = key_of(record)
            if key not in self._live:
                self._live[key] = Reading(Study(self._store, record))
            return self._live[key]


def key_of(record: StudyRecord) -> str:
    """What tells a study from all others that ever had its name or its number."""
    return f"{record.name}@{record.created!r}"


def _identity(path: Path | None) -> tuple[int, int] | None:
    """What tells the file at a path from another one; None where there is none."""
    try:
        found = os.stat(path) if path is not None else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found else None
