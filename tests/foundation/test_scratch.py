"""What killed writers leave behind is removed by the next one, and nothing that is still being written."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from foundation.files import replacing, write_atomically
from foundation.scratch import scratch_folder
from tests.forks import Fork, until


def write_and_wait(path: str) -> None:
    with replacing(path) as scratch:
        scratch.write_bytes(b"half")
        time.sleep(60)


def fill_and_wait(folder: str) -> None:
    with scratch_folder(Path(folder)) as scratch:
        (scratch / "deep").mkdir()
        (scratch / "deep" / "train.bin").write_bytes(b"half")
        time.sleep(60)


def scratches(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith(".new")]


@pytest.mark.parametrize("writer", [write_and_wait, fill_and_wait])
def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path, writer):
    fork = Fork(writer, str(tmp_path / "file" if writer is write_and_wait else tmp_path))
    until(
        lambda: bool(
            list(tmp_path.rglob("*.new/deep/train.bin" if writer is fill_and_wait else "*.new/file"))
        ),
        fork,
    )
    write_atomically(tmp_path / "other", "whole")
    assert len(scratches(tmp_path)) == 1  # it still writes
    fork.kill()
    write_atomically(tmp_path / "other", "whole")
    assert os.listdir(tmp_path) == ["other"]


def test_writers_do_not_take_each_other_for_dead(tmp_path):
    with (
        scratch_folder(tmp_path) as first,
        scratch_folder(tmp_path) as second,
        replacing(tmp_path / "a") as third,
    ):
        third.write_text("a")
        assert all(path.exists() for path in (first, second, third))
    assert os.listdir(tmp_path) == ["a"]


def test_only_what_is_called_like_a_scratch_is_removed(tmp_path):
    names = {".0123456789ab.new", ".0123456789ab.newer", "0123456789ab.new", ".x.new", ".0123456789AB.new"}
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / ".aaaaaaaaaaaa.new").symlink_to(tmp_path / ".x.new")
    write_atomically(tmp_path / "file", "whole")
    assert set(os.listdir(tmp_path)) == names - {".0123456789ab.new"} | {"file", ".aaaaaaaaaaaa.new"}
