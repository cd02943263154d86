"""Which assembler Triton's kernels go through: the first that is right about Hopper's matrix products."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from search_spaces.ops import assembler, dispatch
from search_spaces.ops.assembler import VARIABLE

FOLDER = Path(dispatch.__file__).parent / "kernels"


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A Hopper device, and assemblers nowhere but where a test puts them."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(assembler, "_folders_of", lambda package: [tmp_path / package])
    yield
    assembler.wrong_on.cache_clear()
    assembler.version_of.cache_clear()


def made(path: Path, told: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {told}, V{told}.1'\n")
    path.chmod(0o755)
    return path


def bundled(folder: Path, told: str, name: str = "ptxas") -> Path:
    return made(folder / "triton" / "backends" / "nvidia" / "bin" / name, told)


def test_one_that_is_right_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled(tmp_path, "13.3")
    made(tmp_path / "nvidia" / "cu13" / "bin" / "ptxas", "13.5")
    assert assembler.wrong_on(0) == ""
    assert assembler.in_effect() == "13.3"
    assert VARIABLE not in assembler.os.environ


@pytest.mark.parametrize("told", ["12.8", "12.9", "13.0", "13.2"])
def test_one_of_a_package_replaces_a_wrong_one(
    told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "")  # so that what is set is taken back
    bundled(tmp_path, told)
    bundled(tmp_path, "12.9", "ptxas-blackwell")
    right = made(tmp_path / "nvidia" / "cu13" / "bin" / "ptxas", "13.10")
    assert assembler.wrong_on(0) == ""
    assert assembler.os.environ[VARIABLE] == str(right)
    assert assembler.in_effect() == "13.10"


def test_without_a_right_one_it_says_what_to_install(tmp_path: Path) -> None:
    bundled(tmp_path, "12.8")
    said = assembler.wrong_on(0)
    assert said.startswith("ptxas 12.8 makes wrong code of matrix products on this device")
    assert "pip install 'nvidia-cuda-nvcc>=13.3'" in said


def test_one_that_was_named_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled(tmp_path, "13.5")
    monkeypatch.setenv(VARIABLE, str(made(tmp_path / "mine" / "ptxas", "12.9")))
    assert assembler.wrong_on(0).startswith("ptxas 12.9 makes wrong code")


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 3\n", "no program"])
def test_one_that_does_not_run_is_not_taken(script: str, tmp_path: Path) -> None:
    bundled(tmp_path, "13.5").write_text(script)
    assert assembler.wrong_on(0).startswith("ptxas of an unknown version")


def test_other_devices_take_any(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundled(tmp_path, "12.8")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 0))
    assert assembler.wrong_on(0) == ""


def test_kernels_that_multiply_are_refused_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundled(tmp_path, "12.8")
    monkeypatch.setattr(dispatch, "_proof", lambda *about: "")
    monkeypatch.setattr(dispatch, "load", lambda module: None)
    assert "wrong code" in dispatch._decided("delta_rule", 0, ())
    assert dispatch._decided("scan", 0, ()) == ""


def test_a_machine_without_a_gpu_asks_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_unavailable", lambda: "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: pytest.fail("there is no device"))
    assert dispatch.kernels_on("cuda:0") == "plain: there is no GPU here"


def test_kernels_with_products_of_many_rows_are_registered_as_such() -> None:
    """The sLSTM's and that of outliers have products of 16 rows, which Hopper does as older devices do."""
    with_products = {path.stem for path in FOLDER.glob("*.py") if "tl.dot(" in path.read_text()}
    reaching = {
        path.stem
        for path in FOLDER.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2] in with_products
    }
    for form in dispatch.forms("cpu"):
        module = next(m for p, m in dispatch._primitives.items() if p == form.primitive)
        expected = module in (with_products | reaching) - {"slstm", "outliers"}
        assert (module in dispatch._multiplying) is expected, module
