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


@pytest.mark.parametrize("function", ["os.open", "os.fsync", "os.replace", "pathlib.Path.write_bytes"])
def test_whichever_step_fails_the_old_file_stays_and_nothing_is_left_over(tmp_path, monkeypatch, function):
    def full(*arguments: object, **settings: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "table.json"
    write_json(path, [1])
    monkeypatch.setattr(function, full)
    with pytest.raises(FileError, match=r"cannot write .*table.json: No space left on device"):
        write_json(path, [2])
    monkeypatch.undo()
    assert json.loads(path.read_text()) == [1]
    assert os.listdir(tmp_path) == ["table.json"]


def test_a_library_that_writes_nothing_is_an_error(tmp_path):
    path = tmp_path / "weights"
    with pytest.raises(FileError, match="No such file"), replacing(path):
        pass
    assert not path.exists()


def test_the_scratch_file_is_hidden_and_beside_its_place(tmp_path):
    path = tmp_path / "weights.bin"
    with replacing(path) as scratch:
        assert scratch.parent == tmp_path
        assert scratch.name.startswith(".")
        scratch.write_bytes(b"1")
        assert not path.exists()
    assert path.read_bytes() == b"1"
    assert not scratch.exists()


@pytest.mark.parametrize(("indent", "text"), [(1, '{\n "a": [\n  1\n ]\n}\n'), (None, '{"a": [1]}\n')])
def test_json_ends_with_a_newline(tmp_path, indent, text):
    write_json(tmp_path / "a.json", {"a": [1]}, indent=indent)
    assert (tmp_path / "a.json").read_text() == text


def test_what_is_no_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == 1
