import errno
import json
import os

import pytest

from foundation.errors import FileError
from foundation.files import replacing, write_atomically, write_json


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
    with pytest.raises(FileError, match=r"cannot write .*report.html: No space left on device"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"cannot write .*: (File exists|Not a directory)"):
        write_atomically(tmp_path / "file" / "report.html", "")


def test_a_body_that_raises_changes_nothing(tmp_path):
    path = tmp_path / "table.json"
    write_json(path, {"a": 1})

    def break_off() -> None:
        with replacing(path) as scratch:
            scratch.write_text("half of")
            raise KeyError("a bug")

    with pytest.raises(KeyError):
        break_off()
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["table.json"]
