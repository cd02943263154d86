"""Space files import what lies beside them: from any folder, several of them, and on workers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import nas
import nas.study.search as program
from foundation.errors import SettingError
from nas.study.space_files import absolute_source, load_space
from nas.study.study import open_study

SPACE = """from dataclasses import dataclass
from typing import Any
from search_spaces import Space, one_of
import beside_it
from beside_it import Inner

@dataclass(frozen=True)
class Outer:
    inner: Any

def weight(spec):
    import found_late
    return beside_it.scaled(spec.inner.size) + found_late.MORE

space = Space(Outer(one_of(*(Inner(size) for size in beside_it.SIZES))))
"""
BESIDE = """from dataclasses import dataclass

SIZES = {sizes}

@dataclass(frozen=True)
class Inner:
    size: int

def scaled(size):
    return 10.0 * size
"""


def write(folder: Path, *sizes: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "space.py").write_text(SPACE)
    (folder / "beside_it.py").write_text(BESIDE.format(sizes=sizes))
    (folder / "found_late.py").write_text("MORE = 0.5\n")
    return folder / "space.py"


@pytest.fixture(autouse=True)
def _path_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def sizes_of(source: str) -> list[int]:
    space = load_space(source)
    return [space.close(genotype).inner.size for genotype in space.enumerate()]


def test_a_file_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "own", 1, 2)
    monkeypatch.chdir(tmp_path)
    assert sizes_of("own/space.py") == sizes_of(str(file)) == [1, 2]
    source = absolute_source("own/space.py:space")
    monkeypatch.chdir("/")
    assert sizes_of(source) == [1, 2]
    assert Path.cwd() == Path("/")


def test_files_of_one_name_have_neighbours_of_one_name(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", 1, 2), write(tmp_path / "b", 3, 4)
    for _ in range(2):
        assert sizes_of(str(first)) == [1, 2]
        assert sizes_of(str(second)) == [3, 4]
    assert "beside_it" in sys.modules


def test_what_is_installed_is_found_before_what_lies_beside(tmp_path: Path) -> None:
    file = write(tmp_path / "own", 1, 2)
    before = list(sys.path)
    load_space(str(file))
    assert sys.path == [*before, str(file.parent)]


@pytest.mark.parametrize("place", ["own/space.py", "{folder}/own/space.py", "{folder}/own/space.py:space"])
def test_a_path_on_record_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """A store that somebody else made may come with a file beside it, or name one that is there."""
    file = write(tmp_path / "own", 1, 2)
    space = load_space(str(file))
    weight = sys.modules[type(space.root).__module__].weight
    settings = {"trials": 1, "finalists": 0, "strategy": "random", "store": tmp_path / "s.db"}
    place = place.format(folder=tmp_path)
    monkeypatch.setattr(program, "program_source", lambda *parts: (None, []))  # the store has no copy
    study = nas.search(space, name="s", objectives=[weight], source=place, **settings)
    monkeypatch.chdir(tmp_path)
    for module in [name for name in sys.modules if name.startswith("space_file_") or name == "beside_it"]:
        monkeypatch.delitem(sys.modules, module)
    file.write_text("open('it_ran', 'w')")
    again = open_study("s", tmp_path / "s.db")
    assert "Outer(inner=Inner(size=" in str(again.spec(again.trials()[0]))  # a stand-in, for reading
    for run in (again.with_source, again.reloaded_space):
        with pytest.raises(SettingError, match=r"a path on record is not run|over its classes Outer "):
            run()
    assert not Path("it_ran").exists()
    for opened in (study, again):
        opened.store.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_neighbours_reach_the_workers(tmp_path: Path, workers: int) -> None:
    file = write(tmp_path / "own", 1, 2)
    space = load_space(str(file))
    weight = sys.modules[type(space.root).__module__].weight
    study = nas.search(
        space,
        name="s",
        objectives=[weight],
        trials=4,
        finalists=0,
        strategy="random",
        workers=workers,
        store=tmp_path / "s.db",
    )
    assert sorted(study.points(study.complete())) == [(10.5,), (20.5,)]
    study.store.close()


def test_defaults_of_torch_that_a_file_changes_are_its_own(tmp_path: Path) -> None:
    before = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    path = tmp_path / "space.py"
    path.write_text(
        "import torch\n"
        "torch.set_default_dtype(torch.float64)\n"
        "torch.set_default_device('meta')\n"
        "torch.set_grad_enabled(False)\n"
        "from search_spaces import Decoder, one_of\n"
        "space = Decoder(vocab=32, d_model=one_of(16, 32), layers=())\n"
    )
    load_space(str(path))
    assert (torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()) == before


def test_two_files_of_one_folder_stay_known(tmp_path: Path) -> None:
    first = write(tmp_path / "own", 1, 2)
    second = first.with_name("second.py")
    second.write_text(SPACE)
    kinds = [type(load_space(str(file)).root) for file in (first, second)]
    assert [kind.__module__ in sys.modules for kind in kinds] == [True, True]
