"""Which configuration a kernel is launched with: chosen once, remembered on disk, and never a wrong one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from foundation.errors import SettingError
from search_spaces.ops import dispatch
from search_spaces.ops.kernels import tuning
from search_spaces.ops.kernels.tuning import Launch, launch

SLOW, FAST, WRONG, BROKEN, IDLE = (Launch(4), Launch(8, 3, 128), Launch(2), Launch(16), Launch(1))
TIMES = {SLOW: 2.0, FAST: 1.0, WRONG: 0.1, BROKEN: 0.1, IDLE: 0.1}


class Kernel:
    """Doubles x, in its right configurations."""

    fn = SimpleNamespace(__module__="search_spaces.ops.kernels.doubling", __name__="_outputs")

    def __init__(self) -> None:
        self.launched: list[Launch] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self._run

    def _run(self, x: Tensor, y: Tensor, *, num_warps: int, num_stages: int, **more: Any) -> None:
        how = Launch(num_warps, num_stages, more.get("maxnreg"))
        self.launched.append(how)
        if how == BROKEN:
            raise RuntimeError("out of resource: shared memory")
        if how != IDLE:
            y.copy_(x * (3 if how == WRONG else 2))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    """A kernel on what is said to be a GPU."""

    def milliseconds(run: Callable[[Launch], None], how: Launch) -> float:
        run(how)
        return TIMES[how]

    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    monkeypatch.setattr(tuning, "_index_of", lambda y: 0)
    monkeypatch.setattr(tuning, "_name", lambda index: "device.json")
    monkeypatch.setattr(tuning, "_milliseconds", milliseconds)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setitem(sys.modules, "triton.errors", SimpleNamespace(TritonError=RuntimeError))
    monkeypatch.setattr(tuning, "_chosen", {})
    monkeypatch.setattr(tuning, "_launched", {})
    monkeypatch.setattr(tuning, "_known", set())
    return Kernel()


def used(kernel: Kernel, x: Tensor | None = None, programs: int = 100, **tiles: int) -> Launch:
    """The configuration of one call, which must be right."""
    x = torch.arange(3.0) if x is None else x
    y = torch.empty_like(x)
    launch(kernel, (programs,), (x, y), (y,), (SLOW, WRONG, BROKEN, IDLE, FAST), **tiles)
    assert torch.equal(y.nan_to_num(), (2 * x).nan_to_num())
    return kernel.launched[-1]


def new_process() -> Kernel:
    tuning._chosen.clear()
    tuning._launched.clear()
    tuning._known.clear()
    return Kernel()


def test_the_fastest_of_those_that_are_right_is_taken_and_remembered(kernel: Kernel, tmp_path: Path) -> None:
    assert used(kernel, L=64) == FAST
    tried = len(kernel.launched)
    assert used(kernel, L=64) == FAST
    assert len(kernel.launched) == tried + 1
    later = new_process()
    assert used(later, L=64) == FAST
    assert later.launched == [FAST]
    assert json.loads((tmp_path / "kernels" / "device.json").read_text()) == {KEY: list(FAST)}


def test_choices_are_by_tiles_dtypes_and_the_number_of_programs_up_to_two(kernel: Kernel) -> None:
    def key(*grid: int, dtype: torch.dtype = torch.float32, **tiles: int) -> str:
        return tuning._key(tuning._form(0, kernel, grid, (torch.zeros(1, dtype=dtype), 3), tiles))

    keys = {
        key(*grid, dtype=dtype, L=length)
        for grid in ((64, 1), (64, 2))
        for dtype in (torch.float32, torch.bfloat16)
        for length in (16, 64)
    }
    assert len(keys) == 8
    assert key(65, 1) == key(127, 1)
    assert key(64, L=1, N=2) == key(64, N=2, L=1)


def test_a_launch_that_was_made_before_puts_nothing_into_words(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    used(kernel, L=64)
    monkeypatch.setattr(tuning, "_key", lambda form: pytest.fail("a key was made"))
    assert used(kernel, L=64) == FAST


def test_a_choice_among_other_configurations_is_another(kernel: Kernel) -> None:
    used(kernel, L=64)
    x, y = torch.arange(3.0), torch.empty(3)
    launch(kernel, (100,), (x, y), (y,), (SLOW,), L=64)
    assert kernel.launched[-1] == SLOW


KEY = "doubling._outputs L=64 float32 programs<128"
CHOICES = ([True, 3, None], [64, 3, 128], [8, 3], [8, 3, "128"], 8, {"warps": 8})


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "null", "\x80" * 9, *(json.dumps({KEY: choice}) for choice in CHOICES)]
)
def test_a_damaged_or_foreign_file_is_made_again(kernel: Kernel, tmp_path: Path, content: str) -> None:
    path = tmp_path / "kernels" / "device.json"
    path.parent.mkdir()
    path.write_bytes(content.encode("latin-1"))
    assert used(kernel, L=64) == FAST
    assert used(new_process(), L=64) == FAST
    assert json.loads(path.read_text())[KEY] == list(FAST)


def test_what_other_processes_chose_meanwhile_is_kept(kernel: Kernel, tmp_path: Path) -> None:
    used(kernel, L=16)
    path = tmp_path / "kernels" / "device.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "another": [4, 1, None]}))
    used(kernel, L=64)
    assert len(json.loads(path.read_text())) == 3


def test_without_a_place_for_a_cache_the_process_remembers(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "file"))
    assert used(kernel) == FAST
    tried = len(kernel.launched)
    assert used(kernel) == FAST
    assert len(kernel.launched) == tried + 1


def test_nothing_is_chosen_in_a_proof_in_a_graph_by_numbers_that_are_none_or_when_told_so(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tuning.untuned():
        assert used(kernel) == SLOW
    assert used(kernel, torch.tensor([torch.nan, 1.0])) == SLOW
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        assert used(kernel) == SLOW
    with monkeypatch.context() as patch:
        patch.setenv(dispatch.VARIABLE, dispatch.UNTUNED)
        assert used(kernel) == SLOW
    assert not (tmp_path / "kernels").exists()
    assert used(kernel) == FAST


def test_a_word_that_means_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "plian")
    with pytest.raises(SettingError, match="NAS_KERNELS is 'plian'; it may be plain or untuned, or not set"):
        dispatch._unavailable()
