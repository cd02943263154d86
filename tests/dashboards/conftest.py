from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import nas
from dashboards.app.live_store import LiveStore
from dashboards.app.shell import Shell
from dashboards.facts import Facts, read_facts
from dashboards.facts.reading import Reading
from nas.store import Store
from nas.study.study import Study, open_study
from tests.dashboards.made import make_study

NAMES = ("full", "two", "one", "empty")


@pytest.fixture(scope="session")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a whole study, one that stopped after its search, one of one trial, and an empty one."""
    path = tmp_path_factory.mktemp("made") / "studies.db"
    with Store(path) as store:
        make_study(store, "full", trials=80)
        make_study(store, "two", trials=30, complete=False, objectives=("bits_per_byte", "decode_ms"))
        make_study(store, "one", trials=1, complete=False)
        make_study(store, "empty", trials=0, complete=False)
    return path


@pytest.fixture
def searched(tmp_path: Path) -> Path:
    """A store with a study `s` that was searched in earnest, with the weights of two steps."""
    path = tmp_path / "s.db"
    settings = {"trials": 4, "train_steps": 2, "finalists": 0, "profile_seconds": 1, "progress": False}
    nas.search("laptop", name="s", store=path, **settings)
    return path


@pytest.fixture
def full(made_store: Path) -> Iterator[Study]:
    study = open_study("full", made_store)
    yield study
    study.store.close()


@pytest.fixture(scope="session")
def all_facts(made_store: Path) -> dict[str, Facts]:
    with Store(made_store, read_only=True) as store:
        return {name: read_facts(Study(store, store.study(name))) for name in NAMES}


@pytest.fixture(scope="module")
def shell(made_store: Path) -> Iterator[Shell]:
    """The pages over that store, which the tests of a file share."""
    with Store(made_store, read_only=True) as store:
        yield Shell(LiveStore(store))


@pytest.fixture(scope="module")
def reading(shell: Shell) -> Reading:
    """What the pages know of the whole study."""
    return shell.live.study("full")
