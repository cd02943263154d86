from pathlib import Path

import pytest

from foundation.errors import SettingError
from nas.store.study_paths import study_folder


@pytest.mark.parametrize(
    ("store", "folder"),
    [
        ("studies/studies.db", "studies/small"),
        (Path("/data/all.db"), "/data/small"),
        ("studies.db", "small"),
        ("sqlite:///studies/studies.db", "studies/small"),
        ("sqlite:////data/all.db", "/data/small"),
        ("sqlite://", "studies/small"),
        ("postgresql://me@host/studies", "studies/small"),
    ],
)
def test_a_study_has_a_folder_beside_its_database(store, folder):
    assert study_folder(store, "small") == Path(folder)


@pytest.mark.parametrize("name", ["a", "Laptop_2.0-b", "7", "_x", "a" * 100])
def test_names(name):
    assert study_folder("studies.db", name) == Path(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-v", "a/b", "a b", "é", "a\n", "a" * 101, "a\0"])
def test_names_that_are_no_folders(name):
    with pytest.raises(SettingError, match=r"letters, digits, '.', '_' and '-', begins with a letter"):
        study_folder("studies.db", name)


@pytest.mark.parametrize("name", ["studies.db", "studies.db-wal", "studies.db-shm"])
def test_a_study_is_not_named_as_its_database(name):
    with pytest.raises(SettingError, match="choose another name"):
        study_folder("here/studies.db", name)
