"""Compiled trainings learn what others do, by every method; what is compiled is work, and names nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from evaluators.training import regions
from evaluators.training.distributed import OnStep, train_distributed
from evaluators.training.execution import EAGER, INDUCTOR, TRACED
from evaluators.training.parallel import run as runs
from evaluators.training.parallel.course import Course
from evaluators.training.parallel.methods.base import methods
from evaluators.training.process_group import ProcessGroup
from evaluators.training.regions import Regions
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from tests.evaluators.parallel.networks import TRANSFORMER, course, losses_alone
from tests.evaluators.parallel.test_training import ON_TWO

# those that the compiler itself sets off
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute"),
]

COUPLED = Decoder(
    vocab=256,
    d_model=16,
    layers=(
        Layer(sequence_mixer=Mamba2(num_heads=2, head_dim=8, state_dim=8), channel_mixer=SwiGLU(expansion=2)),
    ),
)
"""Its norm is a figure of all heads, which processes sum in the middle of a region."""

LONG = {"compile": TRACED, "compile_seconds": 1e4, "dtype": "F32"}
CLOSE = 1e-5

CASES = {
    **{text: (TRANSFORMER, text, pieces, ()) for text, pieces in ON_TWO.items()},
    "fsdp, recomputed": (TRANSFORMER, "fsdp=2", 1, (0, 1)),
    "tp, recomputed": (TRANSFORMER, "tp=2", 2, (1,)),
    "tp, coupled": (COUPLED, "tp=2", 2, ()),
}
"""Network, words, pieces and recomputed layers."""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(regions, "_compiled", {})
    yield
    torch.compiler.reset()


def compiled_together(courses: Sequence[Course]) -> Iterator[tuple[list[float], int]]:
    """The losses of courses of two processes, and how many regions the first one compiled."""
    told: list[float] = []
    train = partial(_compiled_one_by_one, tuple(courses))
    count = courses[0].parallel.count
    train_distributed(train, count, on_step=lambda step, number: told.append(number), share_cpus=True)
    numbers = iter(told)
    for made in courses:
        yield [next(numbers) for _ in range(made.steps)], int(next(numbers))


def _compiled_one_by_one(
    courses: tuple[Course, ...], on_step: OnStep | None, *, process_group: ProcessGroup
) -> None:
    for made in courses:
        regions._compiled.clear()
        with torch._dynamo.config.patch(error_on_recompile=True):
            runs.train_here(made, runs.FIRST, on_step, process_group=process_group)
        if on_step is not None:
            on_step(0, float(sum(run is not None for run in regions._compiled.values())))


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[float], int]]:
    folder = tmp_path_factory.mktemp("compiled")
    courses = [
        course(spec, folder / name, text, accumulate=pieces, recomputed=recomputed, **LONG)
        for name, (spec, text, pieces, recomputed) in CASES.items()
    ]
    return dict(zip(CASES, compiled_together(courses), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_two_compiled_processes_learn_what_one_does(
    name: str, on_two: dict[str, tuple[list[float], int]], tmp_path: Path
) -> None:
    spec, text, *_ = CASES[name]
    alone = losses_alone(course(spec, tmp_path, accumulate=2, dtype="F32"))
    losses, compiled = on_two[name]
    assert losses == pytest.approx(alone, rel=CLOSE)
    # a mixer, a channel mixer, and the head, which the first stage of a pipeline has not
    assert compiled == (2 if "pp" in text else 3)


@pytest.mark.slow
def test_four_compiled_processes_learn_what_one_does(tmp_path: Path) -> None:
    forms = {"dp=2,tp=2": 2, "fsdp=2,tp=2": 2, "dp=2,fsdp=2": 1, "dp=2,pp=2": 2, "pp=2,tp=2": 4}
    alone = losses_alone(course(TRANSFORMER, tmp_path / "alone", accumulate=4, dtype="F32"))
    made = [course(TRANSFORMER, tmp_path / text, text, accumulate=n, **LONG) for text, n in forms.items()]
    for text, (losses, compiled) in zip(forms, compiled_together(made), strict=True):
        assert losses == pytest.approx(alone, rel=CLOSE), text
        assert compiled >= 2, text


def test_what_is_compiled_does_not_name_a_training(tmp_path: Path) -> None:
    whole = losses_alone(course(TRANSFORMER, tmp_path / "whole", steps=4, dtype="F32"))
    made = course(TRANSFORMER, tmp_path / "parts", steps=2, recomputed=(0, 1), **LONG)
    assert made.about() == replace(made, compile=EAGER, compile_seconds=1.0).about()
    with torch._dynamo.config.patch(error_on_recompile=True):  # compiled on the way into a checkpoint
        first = losses_alone(made)
    assert len(regions._compiled) == 3
    assert first + losses_alone(replace(made, steps=4, compile=EAGER)) == pytest.approx(whole, rel=CLOSE)


def test_a_method_that_cannot_be_compiled_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = course(TRANSFORMER, tmp_path, "tp=2", compile=INDUCTOR, compile_seconds=30)
    assert made.backend == INDUCTOR
    assert made.compiles == (
        "every distinct sublayer and the head are compiled once (inductor), for 30 s at most"
    )
    assert replace(made, compile=EAGER).compiles == "nothing is compiled"
    monkeypatch.setattr(methods["tp"], "uncompiled", "its parts talk in code that nobody can trace")
    assert made.backend == EAGER
    assert made.compiles == "nothing is compiled: tp: its parts talk in code that nobody can trace"


def test_what_others_do_not_wish_is_not_compiled(tmp_path: Path) -> None:
    asked: list[bool] = []
    made = course(TRANSFORMER, tmp_path, **LONG)
    training = runs.opened(made, runs.make_grid({}, device="cpu"), runs.FIRST)
    training.regions.agreed = lambda wish: asked.append(wish) or False  # type: ignore[func-returns-value]
    training.learn()
    training.learn()
    assert asked == [True] * 3  # once for each region
    assert not regions._compiled
    assert Regions(TRACED).agreed(True)
