"""Folders with stores and studies that several cases need: each is made once, and copied.

Case("...", "front laptop", prepare=copied(made_studies), ...)
"""

from __future__ import annotations

import atexit
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

from nas.store import Store
from nas.study.trial import TrialState
from tests.dashboards.made import make_study

STORE = "studies/studies.db"


def copied(make: Callable[[], Path], *changes: Callable[[Path], object]) -> Callable[[Path], None]:
    """What puts the content of a situation into a case's folder, and changes it."""

    def prepare(folder: Path) -> None:
        shutil.copytree(make(), folder, dirs_exist_ok=True, symlinks=True)
        for change in changes:
            change(folder)

    return prepare


def sql(*statements: str, store: str = STORE) -> Callable[[Path], None]:
    """What runs statements on the store of a folder."""

    def change(folder: Path) -> None:
        with closing(sqlite3.connect(folder / store)) as database:
            for statement in statements:
                database.execute(statement)
            database.commit()

    return change


@lru_cache
def made_studies() -> Path:
    """A store with the studies `laptop`, `second` and `empty`, made up: with failures, without weights."""
    folder = _new()
    with Store(folder / STORE) as store:
        make_study(store, trials=50, finalists=3)
        make_study(store, "second", trials=20, dice=4, complete=False)
        make_study(store, "empty", trials=0)
    (folder / "studies" / "laptop" / "supernet").mkdir(parents=True)
    (folder / "studies" / "laptop" / "supernet" / "about.json").write_text("{}")
    return folder


@lru_cache
def failed_studies() -> Path:
    """The same with `laptop`, of which every candidate failed."""
    folder = _new()
    shutil.copytree(made_studies(), folder, dirs_exist_ok=True)
    with Store(folder / STORE) as store:
        study = store.study("laptop")
        trials = [t for t in store.trials(study) if t.state is not TrialState.INFEASIBLE]
        reasons = ["out of memory: 2.5 GiB are missing", "out of memory: 3 GiB are missing", "loss is nan"]
        store.save(
            study,
            [
                replace(t, state=TrialState.FAILED, values={}, reason=reasons[i % 3], reused=None)
                for i, t in enumerate(trials)
            ],
        )
    sql("DELETE FROM trials WHERE stage = 'final'", "DELETE FROM measurements")(folder)
    return folder


def _new() -> Path:
    folder = Path(mkdtemp(prefix="nas-situation-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
