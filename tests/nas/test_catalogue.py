"""What can be named, and what a file of the user's own adds, are listed alike for every kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evaluators.tasks.base import tasks
from foundation.errors import SpaceError, UnknownName
from foundation.registry import Registry, known_name
from nas import cli
from nas.engines.base import engines
from nas.objectives.base import objectives
from nas.schedulers.base import schedulers
from nas.strategies.base import strategies
from nas.study.own_objectives import named_objectives
from nas.study.user_files import run_file
from search_spaces.blocks.base import blocks
from search_spaces.spaces import spaces

REGISTRIES: tuple[Registry[object], ...] = (
    spaces,
    engines,
    strategies,
    objectives,
    tasks,
    blocks,
    schedulers,
)
KINDS = ("spaces", "engines", "strategies", "objectives", "tasks", "blocks", "schedulers")

EVERYTHING = '''
"""A file of everything."""

from dataclasses import dataclass

from beside import Annealing
from evaluators.tasks.recall import Recall
from evaluators.tasks.base import tasks
from nas.engines.base import engines
from nas.engines.random import RandomChoice
from nas.objectives.base import objectives
from nas.schedulers.base import schedulers
from nas.schedulers.full import Full
from search_spaces import Decoder, Layer, Space
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import blocks
from search_spaces.blocks.swiglu import SwiGLU

@blocks.add
@dataclass(frozen=True, kw_only=True)
class Gated(SwiGLU):
    """A gate of one's own."""

@tasks.add
@dataclass(frozen=True)
class Hard(Recall):
    """Recall of more pairs."""
    name = "hard"
    score_name = "hard_error"
    pairs: int = 8

@engines.add
@dataclass(frozen=True, kw_only=True)
class Blind(RandomChoice):
    """Random choice under another name."""
    name = "blind"

@schedulers.add
class Eager(Full):
    """Everybody to the end."""
    name = "eager"

@objectives.add
def depth(spec):
    """How many layers there are."""
    return len(spec.layers)

layer = Layer(sequence_mixer=Attention(num_heads=2, head_dim=8), channel_mixer=Gated())
mine = Space(Decoder(d_model=16, layers=(layer,)), name="own")
'''
BESIDE = '''
from nas.strategies.base import strategies
from nas.strategies.random import RandomSearch

@strategies.add
class Annealing(RandomSearch):
    """Random draws that cool down."""
    name = "annealing"
'''
ADDED = {
    "spaces": ("mine", "1 architecture"),
    "engines": ("blind", "Random choice under another name."),
    "strategies": ("annealing", "Random draws that cool down."),
    "objectives": ("depth", "How many layers there are"),
    "tasks": ("hard", "Recall of more pairs."),
    "blocks": ("Gated", "A gate of one's own."),
    "schedulers": ("eager", "Everybody to the end."),
}


@pytest.fixture(autouse=True)
def _registries_as_they_were() -> Iterator[None]:
    before = [(registry, {name: registry[name] for name in registry}) for registry in REGISTRIES]
    yield
    for registry, things in before:
        registry._things = things


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "beside.py").write_text(BESIDE)
    (tmp_path / "mine.py").write_text(EVERYTHING)
    monkeypatch.chdir(tmp_path)
    return Path("mine.py")  # short, so that a table has room for it


def printed(*words: str) -> str:
    result = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("command", KINDS)
def test_what_a_file_adds_is_listed_with_the_file(command: str, file: Path) -> None:
    name, about = ADDED[command]
    lines = [line for line in printed(command, "--from", str(file)).splitlines() if name in line]
    assert any(about in line and str(file) in line for line in lines)
    library = printed(command).splitlines()[-1].split()[0]
    assert library not in printed(command, "--from", str(file))


@pytest.mark.parametrize("command", KINDS)
def test_one_of_a_file_is_explained(command: str, file: Path) -> None:
    name, about = ADDED[command]
    assert about in printed(command, name.upper(), "--from", str(file))
    with pytest.raises(UnknownName, match=rf"unknown .* of .*mine.py '{name}s'; did you mean '{name}'"):
        CliRunner().invoke(cli.app, [command, f"{name}s", "--from", str(file)], catch_exceptions=False)


@pytest.mark.parametrize("command", KINDS)
def test_a_file_that_adds_nothing_is_refused_with_what_to_write(command: str, tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("one = 1\n")
    with pytest.raises(Exception, match=r"empty.py defines no \w+: put @\w+.add on"):
        CliRunner().invoke(cli.app, [command, "--from", str(tmp_path / "empty.py")], catch_exceptions=False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("objectives Decode_MS", "decode_ms (ms): time per new token"),
        ("objectives bits_per_BYTE", "the score of the task language"),
        ("tasks Recall", "-o recall_error"),
        ("strategies NSGA2", "--setting population=24"),
        ("engines Darts", "Differentiable search"),
        ("spaces LapTop", "laptop: "),
        ("blocks swiglu", "from search_spaces.blocks.swiglu import SwiGLU"),
    ],
)
def test_names_are_found_whatever_their_case(words: str, says: str) -> None:
    assert says in printed(*words.split())


def test_of_names_that_differ_by_case_only_the_exact_one_is_meant() -> None:
    assert known_name("ema", ["EMA", "ema"], "block") == "ema"
    with pytest.raises(UnknownName, match="did you mean"):
        known_name("Ema", ["EMA", "ema"], "block")


def test_the_score_of_a_task_is_an_objective_with_the_task(file: Path) -> None:
    run_file(file)
    assert objectives["hard_error"].task == "hard"
    assert "hard_error" in list(objectives)
    file.write_text(EVERYTHING.replace("pairs: int = 8", 'score_unit = "permille"'))
    run_file(file)
    assert objectives["hard_error"].unit == "permille"


def test_a_task_whose_score_has_a_taken_name_is_refused(file: Path) -> None:
    file.write_text(EVERYTHING.replace('"hard_error"', '"params"'))
    with pytest.raises(
        SpaceError, match=r"mine\.py:\d+: the score of the task hard is named params, as another"
    ):
        run_file(file)


def test_a_function_is_an_objective_by_its_decorator(file: Path) -> None:
    module = run_file(file)
    depth = objectives["depth"]
    assert depth.about == "How many layers there are"
    assert depth.cheap is not None
    assert depth.cheap(module.mine.root, None).value == 1.0  # type: ignore[arg-type]
    assert named_objectives([module.depth, "params"]) == (["depth", "params"], {})


BROKEN = """
from nas import Value
from nas.objectives.base import Objective, objectives
from nas.strategies.base import strategies
from nas.strategies.random import RandomSearch
from search_spaces.spaces import spaces

@objectives.add
def broken(spec):
    return 1 / 0

objectives.add(Objective(name="plain", unit="", about="no value", cheap=lambda spec, cost_model: 1.0))

@strategies.add
class Bad(RandomSearch):
    name = "bad"
    def propose(self, number, dice):
        raise KeyError("x")

space = spaces["laptop"]()
"""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "-o broken",
            "the objective broken raised ZeroDivisionError: division by zero (broken.py:10)",
        ),
        ("-o plain", "the objective plain returned 1.0, not a nas.Value"),
        ("-o params --strategy bad", "nas: the strategy bad raised KeyError: 'x' (broken.py:18)"),
        (
            "-o params -c broken<1",
            "nas: the objective broken raised ZeroDivisionError",
        ),
    ],
)
def test_what_ones_own_code_raises_is_one_line(
    words: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text(BROKEN)
    code = cli.run(f"search broken.py --name b {words} -o weight_bytes --trials 3 --finalists 0".split())
    captured = capsys.readouterr()
    assert code == 1
    assert says in " ".join((captured.out + captured.err).split())
