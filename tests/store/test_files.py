import errno
import os
from pathlib import Path

import pytest

from nas.store.files import study_folder, write_atomically
from search_spaces.errors import SettingError, StoreError


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


@pytest.mark.parametrize("content", ["é\n", b"\x00\xff"])
def test_files_are_written(tmp_path, content):
    path = tmp_path / "deep" / "report.html"
    for _ in range(2):
        write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(path.parent) == ["report.html"]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "report.html"
    write_atomically(path, "old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*report.html: No space left on device"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot write .*: (File exists|Not a directory)"):
        write_atomically(tmp_path / "file" / "report.html", "")
