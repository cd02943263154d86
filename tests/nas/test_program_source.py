"""Studies that a script or a notebook began: its blocks, objectives and rules belong to the study."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nas.study.source_definitions import definitions
from tests.forks import Ended, Fork, run_main
from tests.own_source import moved

SCRIPT = """
from dataclasses import dataclass
import nas, helpers
from search_spaces import Decoder, Layer, Space, one_of, repeat
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import blocks
from search_spaces.blocks.swiglu import SwiGLU

print("the script runs")

@blocks.add
@dataclass(frozen=True, kw_only=True)
class Mine(SwiGLU):
    def build(self, d_model):
        return helpers.built(super().build(d_model))

def depth(spec):
    return len(spec.layers)

def narrow(spec):
    return spec.d_model < 24

attention = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
layer = Layer(sequence_mixer=attention, channel_mixer=Mine(expansion=1))
root = Decoder(d_model=one_of(8, 16, 24), layers=repeat(layer, depths=(1, 2)))
"""
SEARCH = """study = nas.search(
    Space(root, constraints=[narrow]), name="s", objectives=[depth, "params"], trials=2, finalists=0,
    progress=False,
)
print(len(study.trials()), "trials")
"""
HELPERS = "def built(mixer):\n    return mixer\n"
BARE = SCRIPT + SEARCH
GUARDED = f'{SCRIPT}if __name__ == "__main__":\n' + "".join(f"    {line}\n" for line in SEARCH.splitlines())


def write(folder: Path, script: str = BARE) -> Path:
    (folder / "first.py").write_text(script)
    (folder / "helpers.py").write_text(HELPERS)
    return folder / "first.py"


def as_program(script: str, folder: str) -> None:
    """What `python SCRIPT` does, in a fork of a warm process."""
    os.chdir(folder)
    sys.path.insert(0, str(Path(script).parent))
    from nas.cli import _print_error

    try:
        runpy.run_path(script, run_name="__main__")
    except Exception as error:
        _print_error(f"{type(error).__name__}: {error}")
        sys.exit(1)


def as_command(folder: str, words: tuple[str, ...]) -> None:
    os.chdir(folder)
    run_main(words)


def program(folder: Path, script: str = "first.py") -> Ended:
    return Fork(as_program, str(folder / script), str(folder)).wait()


def nas_in(folder: Path, words: str) -> Ended:
    return Fork(as_command, str(folder), tuple(words.split()), environment={"COLUMNS": "200"}).wait()


def edited(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.slow
def test_a_script_and_the_command_line_share_a_study(tmp_path: Path) -> None:
    """In real processes: no command runs the script again, and each has its blocks and objectives."""
    script = write(tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}

    def run(*words: str) -> str:
        ended = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ended.returncode == 0, ended
        return ended.stdout + ended.stderr

    assert "2 trials" in run(str(script))
    assert {path.name for path in (tmp_path / "studies/s/source").iterdir()} == {"first.py", "helpers.py"}
    script.unlink()
    (tmp_path / "helpers.py").unlink()
    shown = run("-m", "nas.cli", "show", "s", "0")
    assert "Mine(expansion=1)" in shown
    resumed = run("-m", "nas.cli", "resume", "s", "--trials", "3")
    assert "3 distinct architectures scored" in resumed
    assert "the script runs" not in shown + resumed


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("begun")
    write(folder)
    assert program(folder).returncode == 0
    return folder


def again(begun: Path, folder: Path) -> Path:
    """The same in another folder, as if the script had been run there."""
    shutil.copytree(begun, folder, dirs_exist_ok=True)
    moved(folder, begun)
    return folder


EDITED = "was edited since study s was begun"


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("first.py", "trials=2", "trials=3", ""),
        ("first.py", "def narrow", "# a comment\ndef narrow", ""),
        ("first.py", 'print("the script runs")', "print(2)", ""),
        ("first.py", "len(spec.layers)", "-len(spec.layers)", "(depth of first.py)"),
        ("first.py", "spec.d_model < 24", "spec.d_model < 16", "(narrow of first.py)"),
        ("first.py", "helpers.built(super().build(d_model))", "super().build(d_model)", "(Mine of first.py"),
        ("helpers.py", "return mixer", "return mixer.double()", "(built of helpers.py)"),
    ],
)
def test_what_counts_as_an_edit(
    file: str, old: str, new: str, says: str, begun: Path, tmp_path: Path
) -> None:
    folder = again(begun, tmp_path)
    edited(folder / file, old, new)
    ended, resumed = program(folder), nas_in(folder, "resume s")
    if not says:
        assert (ended.returncode, resumed.returncode) == (0, 0), (ended, resumed)
        assert nas_in(folder, "show s 0").returncode == 0
        return
    for refused in (ended, resumed):
        assert EDITED in refused.stderr, refused
        assert says in refused.stderr, refused
    assert "--keep-source" in resumed.stderr
    assert nas_in(folder, "resume s --keep-source --trials 3").returncode == 0


def test_a_guard_changes_nothing(begun: Path, tmp_path: Path) -> None:
    folder = again(begun, tmp_path)
    write(folder, GUARDED)
    ended = program(folder)
    assert (ended.returncode, "2 trials" in ended.stdout) == (0, True), ended
    assert nas_in(folder, "resume s --trials 3").returncode == 0


def test_blocks_beside_the_script(tmp_path: Path) -> None:
    """Of the script nothing is kept then, so all of it may change."""
    write(tmp_path)
    (tmp_path / "mine.py").write_text(SCRIPT)
    (tmp_path / "first.py").write_text("import nas\nfrom mine import *\n" + SEARCH)
    assert program(tmp_path).returncode == 0
    assert {path.name for path in (tmp_path / "studies/s/source").iterdir()} == {"mine.py", "helpers.py"}
    (tmp_path / "other.py").write_text("import nas\nfrom mine import *\n" + SEARCH.replace("=2", "=3"))
    ended = program(tmp_path, "other.py")
    assert (ended.returncode, "3 trials" in ended.stdout) == (0, True), ended
    assert nas_in(tmp_path, "resume s --trials 4").returncode == 0


REGISTERED = """
import nas
from nas.objectives.base import objectives
from nas.strategies.base import strategies
from nas.strategies.random import RandomSearch
from search_spaces.spaces import spaces

@objectives.add
def depth(spec):
    "How deep it is."
    return len(spec.layers)

@strategies.add
class Mine(RandomSearch):
    name = "mine"

nas.search(
    spaces["laptop"](), name="s", objectives=["depth", "params"], engine="ofa", strategy="mine", trials=2,
    finalists=0,
)
"""


def test_what_a_script_registers_is_kept(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text(REGISTERED)
    ended = program(tmp_path)
    assert ended.returncode == 0, ended
    assert "report: studies/s/report.html" in ended.stderr
    (tmp_path / "first.py").unlink()
    resumed = nas_in(tmp_path, "resume s --trials 3")
    assert resumed.returncode == 0, resumed
    assert "3 distinct architectures scored" in resumed.stdout


def test_a_module_of_a_package_may_be_the_program(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    write(tmp_path / "mine", BARE.replace("import nas, helpers", "import nas\nfrom mine import helpers"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    words = [sys.executable, "-m", "mine.first"]
    run = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run
    assert {path.name for path in (tmp_path / "studies/s/source/mine").iterdir()} == {
        "__init__.py",
        "first.py",
        "helpers.py",
    }
    shown = nas_in(tmp_path, "show s 0")
    assert (shown.returncode, "Mine(expansion=1)" in shown.stdout) == (0, True), shown


EXPORT = """
from nas.study.model_code import code_of, load
from search_spaces.network.model import Model
from search_spaces.network.model_files import save_model

model = Model(study.spec(study.trials()[0]))
for values in model.parameters():
    values.data.fill_(0.01)
save_model(model, "out", {}, code=code_of(model.spec))
print(type(load("out").spec.layers[0].channel_mixer) is Mine)  # its own code needs no trust
"""


def test_an_exported_model_repeats_nothing_of_the_script(tmp_path: Path) -> None:
    write(tmp_path, BARE + EXPORT)
    ended = program(tmp_path)
    assert ended.returncode == 0, ended
    assert ended.stdout.endswith("True\n")
    shutil.rmtree(tmp_path / "studies")
    refused = nas_in(tmp_path, "generate out -n 2")
    assert "Mine of out/code/first.py" in refused.stderr
    written = nas_in(tmp_path, "generate out -n 2 --trust-code")
    assert (written.returncode, "the script runs" in f"{written}") == (0, False), written
    assert not (tmp_path / "studies").exists()


RESUME = """
import nas
study = nas.open("s").resume(trials=3)
print(len(study.trials()), "trials in all")
copied = study.copy("t")
copied.resume(trials=4, progress=False)
study.remove()
print(len(nas.open("t").trials()), "trials of the copy")
"""


def test_a_study_goes_on_from_python_as_by_command(begun: Path, tmp_path: Path) -> None:
    folder = again(begun, tmp_path)
    (folder / "later.py").write_text(RESUME)
    ended = program(folder, "later.py")
    assert ended.returncode == 0, ended
    assert ended.stdout.splitlines() == ["3 trials in all", "4 trials of the copy"]
    assert ended.stderr.splitlines()[-1] == "report: studies/s/report.html"
    assert not (folder / "studies" / "s").exists()
    for words, says in (
        ("resume(trails=3)", "cannot go on with another trails; did you mean 'trials'"),
        ("resume(seed=3)", "cannot go on with another seed"),
        ("resume(also_train=[0])", "also_train: study t trains no finalists"),
        ("resume(trials=0.5)", "trials must be a whole number"),
        ("copy()", "name the copy, or say with to"),
        ("copy('t')", "there is a study 't'"),
    ):
        (folder / "later.py").write_text(f"import nas\nnas.open('t').{words}")
        refused = program(folder, "later.py")
        assert (refused.returncode, says in refused.stderr) == (1, True), refused
    (folder / "first.py").write_text(SCRIPT + "nas.open('t').resume(trials=5)")
    assert "this program defines what study t is made of: call nas.search again" in program(folder).stderr


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (BARE.replace("return helpers", "return 1 or helpers"), "more of its promises)"),
        (BARE.replace('"params"', '"parms"'), "did you mean 'params'"),
        (BARE.replace("[narrow]", "[lambda spec: False]"), "none of its 6 architectures is allowed"),
        (BARE.replace("trials=2", 'trials=2, constraints=["params<1"]'), "params"),
        (BARE.replace("trials=2", "trials=-2"), "trials must be at least 0"),
        (BARE.replace("progress=False", 'progress="no"'), "progress is a bool"),
        (BARE.replace('"params"', "lambda spec: 1"), "write a function with def"),
        (
            BARE.replace('"params"', '"bits_per_byte"').replace("trials=2", 'trials=2, data="no.txt"'),
            "no.txt",
        ),
    ],
)
def test_a_failed_start_leaves_nothing(script: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path, script)
    ended = program(tmp_path)
    assert (ended.returncode, says in ended.stderr) == (1, True), ended
    assert {each.name for each in tmp_path.iterdir()} - {"__pycache__"} == {path.name, "helpers.py"}


def test_a_study_without_trials_begins_anew_with_what_the_script_says_now(tmp_path: Path) -> None:
    script = write(tmp_path, BARE.replace("trials=2", "trials=0"))
    assert program(tmp_path).returncode == 0
    edited(script, "trials=0", "trials=2, seed=3")
    edited(script, "len(spec.layers)", "-len(spec.layers)")
    ended = program(tmp_path)
    assert (ended.returncode, "2 trials" in ended.stdout) == (0, True), ended
    assert "-len(spec.layers)" in (tmp_path / "studies/s/source/first.py").read_text()


def test_a_start_that_only_failed_does_not_keep_the_name(tmp_path: Path) -> None:
    script = write(
        tmp_path, BARE.replace("len(spec.layers)", "len(spec.layrs)").replace("trials=2", "trials=40")
    )
    ended = program(tmp_path)
    assert (ended.returncode, "layrs" in ended.stderr) == (1, True), ended
    edited(script, "layrs", "layers")
    edited(script, "progress=False", "progress=True")
    ended = program(tmp_path)
    assert ended.returncode == 0, ended
    assert "study s had nothing but failures under another source: it begins anew" in ended.stderr
    edited(script, "len(spec.layers)", "-len(spec.layers)")
    assert EDITED in program(tmp_path).stderr


def test_what_no_file_defines_is_said_once_where_it_matters(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text(HELPERS)
    code = BARE.replace(" progress=False,\n", "\n")
    run = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    ended = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended
    said = [
        line for line in ended.stderr.splitlines() if "Mine, depth and narrow: defined at a prompt" in line
    ]
    assert len(said) == 1, ended.stderr
    assert nas_in(tmp_path, "front s").returncode == 0
    shown = nas_in(tmp_path, "show s 0")
    assert (shown.returncode, "Mine(" in shown.stdout) == (0, True), shown
    exported = nas_in(tmp_path, "export s 0 -o out")
    assert (exported.returncode, "was started in Python" in exported.stderr) == (2, True), exported


def test_a_file_that_is_read_for_its_space_begins_no_search(tmp_path: Path) -> None:
    write(tmp_path)
    ended = nas_in(tmp_path, "search first.py --name t -o params --finalists 0 --trials 2")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 2), ended
    assert 'put it under `if __name__ == "__main__":`' in ended.stderr
    assert not (tmp_path / "studies").exists()


CUT = """from __future__ import annotations
import nas, torch; from os import path
from nas.objectives.base import objectives
W = []; nas.search(1)
for i in range(3):
    W.append(i)
@blocks.add
@dataclass
class Mine(SwiGLU):
    n: int = W[0]
    def build(self, d):
        return helper(d)
try:
    import fast
except ImportError:
    fast = None
def helper(d):
    return fast or torch.x(d)
def other(): pass
def unused(): pass
objectives.add(Objective(name="d", cheap=other))
study = nas.search(Mine())
Mine.note = 3
if __name__ == "__main__":
    W = [5]
"""
KEPT = """from __future__ import annotations
import nas, torch
from nas.objectives.base import objectives
W = []
for i in range(3):
    W.append(i)
@blocks.add
@dataclass
class Mine(SwiGLU):
    n: int = W[0]
    def build(self, d):
        return helper(d)
try:
    import fast
except ImportError:
    fast = None
def helper(d):
    return fast or torch.x(d)
def other(): pass

objectives.add(Objective(name="d", cheap=other))

Mine.note = 3
"""


def test_of_a_script_the_definitions_are_kept_on_their_lines() -> None:
    kept = definitions(CUT.encode(), ["Mine"])
    assert kept.decode() == KEPT
    assert definitions(kept, ["Mine"]) == kept
    assert definitions(CUT.replace("\n", "\r\n").encode(), ["Mine"]) == kept
    assert definitions(b"no python (", ["Mine"]) == b"no python ("
