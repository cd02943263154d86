"""The source belongs to the study: what each command does after the space file was edited or is gone."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import SettingError
from foundation.registry import Registry
from nas import cli
from nas.commands import search as search_command
from nas.objectives.base import objectives
from nas.study.open_study import open_study as open_named
from nas.study.search import search
from nas.study.source_changes import changed
from nas.study.source_files import files_of
from nas.study.source_loading import NeedsSource
from nas.study.study import open_study
from nas.study.user_files import run_file, user_modules
from search_spaces.blocks.base import blocks
from search_spaces.network.model import build
from search_spaces.scenario import Scenario
from tests.own_source import BEGIN, SPACE, moved, write

REGISTRIES: tuple[Registry[Any], ...] = (blocks, objectives)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NAS_STORE", raising=False)
    before = [dict(registry._things) for registry in REGISTRIES if len(registry)]
    yield
    _forget(before)
    search_command._current.clear()


def _forget(before: list[dict[str, Any]]) -> None:
    """Let this process know of users' files as little as a new one."""
    for module in user_modules():
        del sys.modules[module.__name__]
    for registry, things in zip(REGISTRIES, before, strict=True):
        registry._things = dict(things)


def nas(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """A command, as a process of its own would run it: its exit code and what it prints."""
    before = [dict(registry._things) for registry in REGISTRIES if len(registry)]
    path = list(sys.path)
    try:
        code = cli.run(command.split())
    finally:
        _forget(before)
        sys.path[:] = path
    printed = capsys.readouterr()
    return code, " ".join(f"{printed.out}\n{printed.err}".split())


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study `s` over `own/mine.py`."""
    folder = tmp_path_factory.mktemp("begun")
    write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        before = [dict(registry._things) for registry in REGISTRIES if len(registry)]
        assert cli.run(BEGIN.split()) == 0
        _forget(before)
    return folder


def edited(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


def both(*changes: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: [change(folder) for change in changes]


EDITED = "was edited since study s was begun"
MISSING = "needs the copy of its source: .*no such file; pass --space"
DAMAGED = "is damaged: its SHA-256 is not that of the record; pass --space"
FINE = ""
EQUATION = edited("own/helpers.py", "return mixer", "return mixer.double()")
GONE = lambda folder: shutil.rmtree(folder / "own")  # noqa: E731
MOVED = lambda folder: (folder / "own").rename(folder / "elsewhere")  # noqa: E731
LOST = lambda folder: shutil.rmtree(folder / "studies" / "s" / "source")  # noqa: E731
WRONG = edited("studies/s/source/helpers.py", "return mixer", "return 1")
STRANGE = lambda folder: (folder / "studies/s/source/json.py").write_text("1 / 0")  # noqa: E731

CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda folder: None,
    "a comment": edited("own/mine.py", "layer =", "# the layer\nlayer ="),
    "the equation": EQUATION,
    "the tree": edited("own/lib/choices.py", "(8, 16)", "(8, 24)"),
    "a mistake": edited("own/mine.py", "import helpers", "import helpers, gone"),
    "moved": MOVED,
    "renamed": lambda folder: (folder / "own/mine.py").rename(folder / "own/other.py"),
    "deleted": GONE,
    "the copy lost": LOST,
    "the copy damaged": WRONG,
    "something beside the copy": STRANGE,
    "all lost": both(GONE, LOST),
}

AGAIN = "search own/mine.py --name s"
RUNNING = (
    "export s 0 -o out",
    "validate s --scratch-networks 3 --train-steps 1 --random-baseline 0",
)
"""Commands that run the study's own copy."""

REFUSED: dict[str, dict[str, str]] = {
    "nothing": {},
    "a comment": {},
    "the equation": {"resume s": f"{EDITED} .built of helpers.py.*--keep-source", AGAIN: EDITED},
    "the tree": {"resume s": rf"{EDITED} .WIDTHS of lib/choices\.py", AGAIN: EDITED},
    "a mistake": {"resume s": rf"{EDITED} .mine\.py", AGAIN: r"mine\.py:3: ModuleNotFoundError"},
    "moved": {AGAIN: "no such file"},
    "renamed": {AGAIN: "no such file"},
    "deleted": {AGAIN: "no such file"},
    "the copy lost": dict.fromkeys(("resume s", *RUNNING), MISSING),
    "the copy damaged": dict.fromkeys(("resume s", *RUNNING), DAMAGED),
    "something beside the copy": dict.fromkeys(("resume s", *RUNNING), "json.py is not part of the source"),
    "all lost": {**dict.fromkeys(("resume s", *RUNNING), MISSING), AGAIN: "no such file"},
}
"""By change, the commands that are refused, and what they say; all others go well."""

READING = (
    "ls",
    "front s",
    "front s --json",
    "best s -o bits_per_byte",
    "show s 0",
    "diff s 0 3",
    "lineage s 3",
    "report s",
)
"""Commands that run nothing: what is on record says all that they print."""

COMMANDS = (*READING, "cp s t", "rm t -y", "resume s", *RUNNING, AGAIN)


@pytest.mark.parametrize("change", CHANGES)
def test_what_each_command_does_after_a_change(
    change: str, begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    if "report" not in [command.name for command in cli.app.registered_commands]:
        cli.mount_plugins()
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    moved(tmp_path, begun)
    CHANGES[change](tmp_path)
    for command in COMMANDS:
        code, said = nas(command, capsys)
        refusal = REFUSED[change].get(command)
        assert code == (0 if refusal is None else 2), (command, said)
        assert re.search(refusal or FINE, said), (command, said)
    assert not user_modules()


def study(folder: Path, begun: Path, *changes: Callable[[Path], object]) -> None:
    shutil.copytree(begun, folder, dirs_exist_ok=True)
    moved(folder, begun)
    for change in changes:
        change(folder)


def test_an_edited_study_goes_on_under_the_source_it_was_begun_with(
    begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study(tmp_path, begun, EQUATION)
    code, said = nas("resume s --keep-source --trials 5", capsys)
    assert code == 0, said
    assert "mixer.double()" not in (tmp_path / "studies/s/source/helpers.py").read_text()


def test_a_lost_copy_is_made_again_of_a_file_that_is_named(
    begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study(tmp_path, begun, LOST, MOVED)
    assert nas("show s 0 --space elsewhere/mine.py", capsys)[0] == 0
    assert nas("resume s --space elsewhere/mine.py", capsys)[0] == 0
    assert (tmp_path / "studies/s/source/lib/choices.py").is_file()
    assert nas("resume s", capsys)[0] == 0


def test_reading_says_the_layers_without_running_the_source(
    begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study(tmp_path, begun, GONE, LOST)
    assert re.search(r"d(8|16): Attention\+Mine", nas("front s", capsys)[1])
    assert re.search(r"d(8|16): Attention\+Mine", nas("best s -o bits_per_byte", capsys)[1])
    assert "Mine(expansion=1)" in nas("show s 0", capsys)[1]
    assert "Mine(expansion=1)" in nas("diff s 0 3", capsys)[1]
    assert '"type": "Mine"' in nas("front s --json", capsys)[1]
    assert nas("report s", capsys)[0] == 0
    report = (tmp_path / "studies" / "s" / "report.html").read_text()
    assert "Attention + Mine" in report
    assert "Composition of the front" in report


def test_python_compares_networks_of_own_blocks_and_builds_none_without_the_source(
    begun: Path, tmp_path: Path
) -> None:
    study(tmp_path, begun)
    opened = open_named("s", tmp_path / "studies" / "studies.db")
    assert "Mine(expansion=1)" in str(opened.compare(0, 3))
    spec = opened.spec(opened.trial(0))
    for ask in (
        spec.check,
        lambda: spec.cost(Scenario()),
        lambda: build(spec),
        lambda: spec.layers[0].check(8),
    ):
        with pytest.raises(
            SettingError, match=r"Mine was read without the code that defines it.*with_source"
        ):
            ask()
    with pytest.raises(NeedsSource, match=r"over its classes Mine, which only its source defines") as error:
        _ = opened.space
    assert "did you mean" not in str(error.value)
    opened.store.close()


def test_another_file_is_no_replacement(
    begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study(tmp_path, begun, EQUATION)
    for changes, says in ((), "built of helpers.py"), ((LOST,), "another SHA-256 of helpers.py"):
        for change in changes:
            change(tmp_path)
        code, said = nas("resume s --space own/mine.py", capsys)
        assert (code, f"not the source that study s was begun with: {says}" in said) == (2, True), said
    assert "names a file" in nas("show s 0 --space laptop", capsys)[1]


def test_a_copied_study_has_its_source(
    begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study(tmp_path, begun, GONE)
    assert nas("cp s --to other/o.db", capsys)[0] == 0
    shutil.rmtree(tmp_path / "studies")
    code, said = nas("show s 0 --store other/o.db", capsys)
    assert code == 0, said
    assert "Mine(" in said


def test_directions_of_own_objectives_are_on_record(begun: Path) -> None:
    """The front of a study whose source was not run is the same."""
    assert "depth" not in objectives
    opened = open_study("s", begun / "studies" / "studies.db")
    depth = opened.objectives[1]
    assert (depth.name, depth.unit, depth.maximise) == ("depth", "layers", True)
    opened.store.close()


def test_only_what_is_imported_belongs_to_a_source(tmp_path: Path) -> None:
    names = {"helpers.py", "late.py", "lib/choices.py", "mine.py"}
    assert set(files_of(write(tmp_path))) == names


def test_changes_are_told_by_what_they_define() -> None:
    before = {"mine.py": SPACE.encode(), "b.py": b"x = 1\nprint(x)\n"}
    assert changed(
        before, {**before, "mine.py": SPACE.replace("note: int = 0", "note: int = 1").encode()}
    ) == ["Mine of mine.py"]
    assert changed(before, {**before, "b.py": b'"""Now documented."""\n\nx = 1  # one\nprint(x)\n'}) == []
    assert changed(before, {**before, "b.py": b"x = 1\nprint(x, 2)\n"}) == ["b.py"]
    assert changed(before, {"mine.py": SPACE.encode()}) == ["b.py"]


@pytest.mark.slow
def test_exports_carry_blocks_of_their_own(
    begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study(tmp_path, begun, GONE)
    assert nas("export s 0 -o out", capsys)[0] == 0
    assert sorted(path.name for path in (tmp_path / "out/code").rglob("*.py")) == [
        "choices.py",
        "helpers.py",
        "late.py",
        "mine.py",
    ]
    code, said = nas("generate out -n 2", capsys)
    assert (code, "Mine of out/code/mine.py" in said, "--trust-code" in said) == (2, True, True), said
    for _ in range(2):
        code, said = nas("generate out -n 2 --trust-code", capsys)
        assert code == 0, said
    edited("out/code/helpers.py", "return mixer", "return 1")(tmp_path)
    assert "helpers.py is damaged" in nas("generate out -n 2 --trust-code", capsys)[1]
    code, said = nas("export s 3 -o out --force", capsys)
    assert code == 0, said
    assert nas("generate out -n 2 --trust-code", capsys)[0] == 0


def test_a_study_of_a_program_is_resumed_by_command_where_it_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    space = str(tmp_path / "own" / "mine.py")
    search(space, name="s", objectives=["params", "weight_bytes"], trials=2, finalists=0).store.close()
    shutil.rmtree(tmp_path / "own")
    code, printed = nas("resume s --trials 3", capsys)
    assert code == 0, printed
    with open_study("s", "studies/studies.db").store as store:
        assert sum(store.counts(store.study("s"), "search").values()) == 3


def test_a_file_may_also_be_imported_by_its_name(tmp_path: Path) -> None:
    write(tmp_path)
    sys.path.insert(0, str(tmp_path / "own"))
    import_module("mine")
    run_file(tmp_path / "own" / "mine.py")
    del sys.modules["mine"]
    import_module("mine")
    del sys.modules["mine"]
