"""Files of tensors: whole or not at all when they are written, and never trusted when they are read."""

import json
import os
import struct

import pytest
import torch

from foundation.errors import FileError, NoFile
from search_spaces.tensor_files import Stored, open_tensors, write_tensors
from tests.limits import largest_file

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16), "c": torch.ones(0)}


def test_tensors_come_back_with_what_was_said_of_them(tmp_path):
    path = tmp_path / "deep" / "w.safetensors"
    write_tensors(path, TENSORS, {"step": "4"})
    with open_tensors(path) as stored:
        assert stored.metadata == {"step": "4"}
        assert stored.about["b"] == Stored("BF16", (4,))
        assert set(stored) == set(TENSORS)
        for name, tensor in TENSORS.items():
            torch.testing.assert_close(stored[name], tensor)
        with pytest.raises(KeyError):
            stored["d"]
    assert os.listdir(path.parent) == ["w.safetensors"]


def header(text: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(**changes: object) -> bytes:
    plain = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16], **changes}
    return header(json.dumps({"a": plain}).encode(), bytes(16))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged"),
        (b"1234567", "damaged"),
        (header(b"", length=2**63), "it ends 9,223,372,036,854,775,808 bytes before its header does"),
        (header(b"{}", length=3), "it ends 1 bytes before"),
        (header(b" " * (2**23 + 1)), "a header of 8,388,609 bytes"),
        (header(b"[]"), "no header of tensors"),
        (header(b"null"), "no header of tensors"),
        (header(b"\xff\xff"), "no header of tensors"),
        (header(b"[" * 100_000), "nested deeper"),
        (header(b'{"a":' * 100_000), "nested deeper"),
        (header(b'{"a": 1}'), "no header of tensors"),
        (header(b'{"__metadata__": {"a": 1}}'), "metadata that is no text"),
        (header(b'{"__metadata__": []}'), "no header of tensors"),
        (entry(shape=[4e8, 1]), "no shape"),
        (entry(shape=[-2, -2]), "no shape"),
        (entry(shape=[True, 4]), "no shape"),
        (entry(shape=[2**40, 2**40]), "damaged"),
        (entry(shape=[10**30]), "damaged"),
        (entry(shape=4), "no shape"),
        (entry(shape=[2, 3]), "damaged"),
        (entry(dtype="F128"), "damaged"),
        (entry(dtype=None), "damaged"),
        (entry(data_offsets=[0, 2**40]), "damaged"),
        (entry(data_offsets=[8, 24]), "damaged"),
        (entry(data_offsets=[16, 0]), "damaged"),
        (entry() + b"more", "damaged"),
        (entry()[:-1], "damaged"),
    ],
)
def test_a_header_that_lies_is_one_line(tmp_path, content, says):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileError, match=says) as raised, open_tensors(path):
        pass
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_only_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="is a pipe"), open_tensors(tmp_path / "pipe"):
        pass
    with pytest.raises(NoFile), open_tensors(tmp_path / "nothing"):
        pass


def test_a_full_disk_leaves_the_old_tensors(tmp_path):
    path = tmp_path / "w.safetensors"
    write_tensors(path, TENSORS)
    old = path.read_bytes()
    with (
        largest_file(2**16),
        pytest.raises(FileError, match=f"cannot write {path}: .*File too large"),
    ):
        write_tensors(path, {"a": torch.ones(2**16)})
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_tensors_may_be_read_by_whom_other_files_may(tmp_path):
    (tmp_path / "text").touch()
    write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "text").stat().st_mode
