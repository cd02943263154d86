import errno
import json
import os

import pytest

from foundation.errors import FileError, NoFile, SettingError
from foundation.files import (
    names_in_output,
    parse_json,
    read_bytes,
    read_json,
    replacing,
    require_room,
    write_atomically,
    write_json,
)
from tests.limits import largest_file


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
        assert scratch.parent.parent == tmp_path
        assert scratch.parent.name.startswith(".")
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


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.mkdir(), "is a folder, not a file"),
        (os.mkfifo, "is a pipe, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
        (lambda path: path.write_bytes(b"[" + b" " * 2**20 + b"]"), "is too large: 1,048,578 bytes"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b'["\xff"]'), r"is not text in UTF-8 \(byte 2\)"),
        (lambda path: path.touch(), "is damaged or not JSON: Expecting value"),
    ],
)
def test_only_whole_files_of_a_bounded_size_are_read(tmp_path, make, says):
    make(tmp_path / "a.json")
    with pytest.raises(FileError, match=says) as raised:
        read_json(tmp_path / "a.json", at_most=2**20)
    assert "a.json" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("path", ["nowhere.json", "file/inside.json"])
def test_a_missing_file_is_an_error_of_its_own(tmp_path, path):
    (tmp_path / "file").touch()
    with pytest.raises(NoFile, match=f"{path}: no such file"):
        read_bytes(tmp_path / path, at_most=1)


def test_a_path_that_no_system_has_is_an_error(tmp_path):
    with pytest.raises(FileError, match="null byte"):
        read_bytes(f"{tmp_path}/a\0b", at_most=1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1e999", "the number 1e999 is not finite"),
        ("1" * 5000, "a number of 5,000 digits"),
        ('{"a": 1, "b": 2, "b": 3}', "'b' is there twice"),
        (r'["\ud800"]', r"half of a character: '\\ud800'"),
        ("[" * 100_000, "nested deeper than 64 levels"),
        ('{"a":' * 100_000, "nested deeper than 64 levels"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper than 64 levels"),
        ("[" * 65 + "]" * 65, "nested deeper than 64 levels"),
        ('"' + '\\"[' * 100_000, "Unterminated string"),
        ('"' * 99_999, "Extra data"),
        ("[1, 2", "Expecting"),
    ],
)
def test_json_from_elsewhere_is_not_trusted(text, says):
    with pytest.raises(ValueError, match=says):
        parse_json(text)


@pytest.mark.parametrize(
    "plain", [{"a": ["[[[[" * 100, '}\\"{', "é😀\n"]}, [[]] * 1000, -1.5e300, 10**39, None]
)
@pytest.mark.parametrize("ascii", [True, False])
def test_json_that_is_whole_is_read(plain, ascii):
    assert parse_json(json.dumps(plain, ensure_ascii=ascii)) == plain


def test_depth_is_counted_in_lists_and_objects():
    deep = "[" * 32 + '{"a":' * 32 + "0" + "}" * 32 + "]" * 32
    assert parse_json(deep, depth=64)
    with pytest.raises(ValueError, match="nested deeper than 63"):
        parse_json(deep, depth=63)


def test_a_disk_that_is_full_is_one_line(tmp_path):
    write_json(tmp_path / "a.json", [1])
    with largest_file(1000), pytest.raises(FileError, match=r"cannot write .*a.json: File too large"):
        write_json(tmp_path / "a.json", "a" * 2000)
    assert read_json(tmp_path / "a.json") == [1]
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_has_room_where_it_is_absent_empty_or_holds_what_may_go(tmp_path):
    def is_model(folder):
        return (folder / "config.json").exists()

    for folder in (tmp_path / "new", tmp_path):
        require_room(folder, "a model")
    (tmp_path / ".0123456789ab.new").mkdir()
    (tmp_path / "waiting").touch()
    require_room(tmp_path, "a model", is_model, left=("waiting",))
    with pytest.raises(SettingError, match=f"^{tmp_path} is not empty: choose another folder for a model$"):
        require_room(tmp_path, "a model")
    with pytest.raises(SettingError, match=r"is not empty and holds no model: choose another folder$"):
        require_room(tmp_path, "a model", is_model, replaces=True)
    (tmp_path / "config.json").touch()
    require_room(tmp_path, "a model", is_model, replaces=True)
    with pytest.raises(SettingError, match="holds a model: choose another folder, or replace it with force"):
        require_room(tmp_path, "a model", is_model)


def test_a_folder_that_cannot_be_written_is_refused_beforehand(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert names_in_output(tmp_path, "for a model") == {"file"}
    assert names_in_output(tmp_path / "new" / "deep", "for a model") == set()
    with pytest.raises(SettingError, match=r"file cannot be a folder for a model: Not a directory"):
        names_in_output(tmp_path / "file", "for a model")
    with pytest.raises(SettingError, match=r"deep cannot be a folder for a model: Not a directory"):
        names_in_output(tmp_path / "file" / "deep", "for a model")
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(SettingError, match=rf"new cannot be a folder for a model: {tmp_path} may not be"):
        names_in_output(tmp_path / "new", "for a model")
