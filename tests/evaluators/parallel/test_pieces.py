"""Checkpoints in pieces: any box is read from any cutting, and what is damaged is never believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluators.training.parallel import pieces
from evaluators.training.parallel.pieces import Piece
from foundation.errors import EvaluationFailed, FileError, SettingError

ABOUT = {"spec": "{}", "seed": 0}


def write(folder: Path, step: int, parts: list[dict[str, Piece]]) -> None:
    for rank, part in enumerate(parts):
        pieces.write_part(folder, step, rank, part)
    pieces.write_index(folder, step, len(parts), ABOUT)


def whole(values: torch.Tensor) -> dict[str, Piece]:
    return {"weight/a": Piece(values, (0,) * values.dim(), tuple(values.shape))}


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), cuts=st.data())
def test_any_box_is_read_from_any_cutting(
    rows: int, columns: int, cuts: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    values = torch.arange(rows * columns, dtype=torch.float32).reshape(rows, columns)
    row, column = cuts.draw(st.integers(0, rows)), cuts.draw(st.integers(0, columns))
    boxes = [
        (slice(0, row), slice(0, column)),
        (slice(0, row), slice(column, columns)),
        (slice(row, rows), slice(0, columns)),
    ]
    parts = [
        {"weight/a": Piece(values[box], (box[0].start, box[1].start), (rows, columns))}
        for box in boxes
        if values[box].numel()
    ]
    write(folder, 1, parts)
    low = cuts.draw(st.integers(0, rows - 1)), cuts.draw(st.integers(0, columns - 1))
    shape = cuts.draw(st.integers(1, rows - low[0])), cuts.draw(st.integers(1, columns - low[1]))
    with pieces.open_pieces(folder, 1) as stored:
        box = stored.box("weight/a", low, shape)
        assert torch.equal(box, values[low[0] : low[0] + shape[0], low[1] : low[1] + shape[1]])
        assert torch.equal(stored.whole("weight/a"), values)


def test_a_box_that_nobody_wrote_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 1, [{"weight/a": Piece(torch.ones(2, 3), (0, 0), (4, 3))}])
    with pieces.open_pieces(tmp_path, 1) as stored, pytest.raises(FileError, match="holds 6 of 12 values"):
        stored.whole("weight/a")


def test_two_checkpoints_are_kept_and_the_last_is_taken(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write(tmp_path, step, [whole(torch.full((2,), float(step)))])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-2", "step-3"]
    assert pieces.latest(tmp_path, ABOUT) == 3


def test_one_without_its_index_was_not_finished(tmp_path: Path) -> None:
    write(tmp_path, 1, [whole(torch.ones(2))])
    pieces.write_part(tmp_path, 2, 0, whole(torch.ones(2)))
    assert pieces.latest(tmp_path, ABOUT) == 1


@pytest.mark.parametrize("what", ["part", "index", "missing", "swapped"])
def test_a_damaged_one_is_left_out(what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2):
        write(tmp_path, step, [whole(torch.full((64,), float(step)))])
    part, index = tmp_path / "step-2" / "part-0.safetensors", tmp_path / "step-2" / pieces.INDEX
    if what == "part":
        content = bytearray(part.read_bytes())
        content[-3] ^= 1
        part.write_bytes(bytes(content))
    elif what == "index":
        index.write_text("{")
    elif what == "missing":
        part.unlink()
    else:
        part.write_bytes((tmp_path / "step-1" / "part-0.safetensors").read_bytes())
    assert pieces.latest(tmp_path, ABOUT) == 1
    assert "it is left out" in caplog.text


def test_that_of_another_training_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 1, [whole(torch.ones(2))])
    with pytest.raises(SettingError, match="a training with another seed; name another folder"):
        pieces.latest(tmp_path, {**ABOUT, "seed": 1})


def test_a_weight_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(EvaluationFailed, match="weight/a is not finite after step 4"):
        pieces.write_part(tmp_path, 4, 0, whole(torch.tensor([1.0, float("nan")])))


def test_there_is_nothing_pickled(tmp_path: Path) -> None:
    write(tmp_path, 1, [whole(torch.ones(2))])
    names = sorted(path.name for path in (tmp_path / "step-1").iterdir())
    assert names == ["index.json", "part-0.safetensors"]
    assert json.loads((tmp_path / "step-1" / pieces.INDEX).read_text())["training"] == ABOUT
