"""Many processes learn what one does: every method, combinations of them, and checkpoints between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluators.training.parallel import run as runs
from evaluators.training.parallel.course import Course
from evaluators.training.parallel.network import Holder, Shared
from evaluators.training.parallel.parallel import Parallel
from evaluators.training.recipe import Recipe
from foundation.errors import EvaluationFailed
from search_spaces.network.decoder import Decoder
from search_spaces.zoo import zoo
from tests.evaluators.parallel.networks import (
    HYBRID,
    ROUNDED,
    TRANSFORMER,
    course,
    losses_alone,
    losses_together,
)

ON_TWO = {
    "dp=2": 1,
    "dp=2,dp.zero=1": 1,
    "fsdp=2": 1,
    "fsdp=2,fsdp.reshard=false": 1,
    "tp=2": 2,
    "pp=2": 2,
    "pp=2,pp.schedule=gpipe": 2,
}
"""Methods on two processes, with the pieces that make their batches fall apart as one process's in two do."""

ON_FOUR = {
    "dp=4": 1,
    "dp=4,dp.zero=1": 1,
    "fsdp=4": 1,
    "dp=2,fsdp=2": 1,
    "dp=2,tp=2": 2,
    "fsdp=2,tp=2": 2,
    "dp=2,pp=2": 2,
    "pp=2,tp=2": 4,
}
"""The same on four, whose batches fall apart as one process's in four."""

EXACT = 1e-9


SPECS = {"transformer": TRANSFORMER, "rounded": ROUNDED, "hybrid": HYBRID}

CHAIN = (("fsdp=2", 1), ("dp=2,dp.zero=1", 1), ("tp=2", 2), ("pp=2", 2))
"""Methods by which one training goes on, a step each."""


LOW: dict[str, Any] = {"recipe": Recipe(precision="bfloat16"), "dtype": "F32"}


def check_equal(spec: Decoder, folder: Path, forms: dict[str, int], pieces: int) -> None:
    alone = losses_alone(course(spec, folder / "alone", accumulate=pieces))
    made = [course(spec, folder / text, text, accumulate=count) for text, count in forms.items()]
    for text, losses in zip(forms, losses_together(made), strict=True):
        assert losses == pytest.approx(alone, rel=EXACT), text


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], list[float]]:
    """The losses of every network by every method, and of one by all of them in turn, in one start."""
    folder = tmp_path_factory.mktemp("two")
    courses: dict[tuple[str, str], Course] = {}
    for name, spec in SPECS.items():
        for text, pieces in ON_TWO.items():
            courses[name, text] = course(spec, folder / name / text, text, accumulate=pieces)
    for steps, (text, pieces) in enumerate(CHAIN, start=1):
        again = course(HYBRID, folder / "chain", text, accumulate=pieces, steps=steps)
        courses["chain", text] = again
    courses["bfloat16", "pp=2"] = course(HYBRID, folder / "low", "pp=2", accumulate=2, **LOW)
    return dict(zip(courses, losses_together(list(courses.values())), strict=True))


@pytest.mark.parametrize("text", ON_TWO)
@pytest.mark.parametrize("name", SPECS)
def test_two_processes_learn_what_one_does(
    name: str, text: str, on_two: dict[tuple[str, str], list[float]], tmp_path: Path
) -> None:
    alone = losses_alone(course(SPECS[name], tmp_path, accumulate=2))
    assert alone[0] != alone[-1]
    assert on_two[name, text] == pytest.approx(alone, rel=EXACT)


def test_a_training_goes_on_by_another_method(
    on_two: dict[tuple[str, str], list[float]], tmp_path: Path
) -> None:
    whole = losses_alone(course(HYBRID, tmp_path, steps=len(CHAIN), accumulate=2))
    assert [on_two["chain", text][0] for text, _ in CHAIN] == pytest.approx(whole, rel=EXACT)


def test_stages_hand_over_what_autocast_leaves_exact(
    on_two: dict[tuple[str, str], list[float]], tmp_path: Path
) -> None:
    alone = losses_alone(course(HYBRID, tmp_path, accumulate=2, **LOW))
    assert on_two["bfloat16", "pp=2"] == pytest.approx(alone, rel=1e-3)


def test_auxiliary_losses_are_added_up_in_float32() -> None:
    holder = Holder(Shared(HYBRID), precision="bfloat16")
    with torch.no_grad():
        for weight in holder.parameters():
            weight.fill_(0.01)
    logits, auxiliary = holder(torch.zeros(1, 4, dtype=torch.long))
    assert (logits.dtype, auxiliary.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [TRANSFORMER, HYBRID], ids=["transformer", "hybrid"])
def test_four_processes_learn_what_one_does(spec: Decoder, tmp_path: Path) -> None:
    check_equal(spec, tmp_path, ON_FOUR, pieces=4)


OPTIONS = {
    "early_exit": ("dp=2", "fsdp=2", "tp=2,tp.whole=true"),
    "mixture_of_depths": ("dp=2", "fsdp=2", "tp=2", "pp=2"),
    "zamba": ("dp=2,dp.zero=1", "tp=2,tp.whole=true"),
}
"""Published networks with exits, routers, and layers that share their weights and read the embedding."""


@pytest.mark.slow
def test_options_of_layers_learn_the_same(tmp_path: Path) -> None:
    forms = [(name, text) for name, texts in OPTIONS.items() for text in texts]
    pieces = {text: 2 if text[0] in "tp" else 1 for _, text in forms}
    made = [
        course(zoo[name].spec, tmp_path / name / text, text, accumulate=pieces[text]) for name, text in forms
    ]
    found = dict(zip(forms, losses_together(made), strict=True))
    for name, texts in OPTIONS.items():
        alone = losses_alone(course(zoo[name].spec, tmp_path / name / "alone", accumulate=2))
        for text in texts:
            assert found[name, text] == pytest.approx(alone, rel=EXACT), f"{name} by {text}"


def test_recomputed_layers_learn_the_same(tmp_path: Path) -> None:
    kept = losses_alone(course(HYBRID, tmp_path / "kept"))
    again = losses_alone(course(HYBRID, tmp_path / "again", recomputed=(0, 1)))
    assert again == pytest.approx(kept, rel=EXACT)


def test_a_stopped_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = losses_alone(course(HYBRID, tmp_path / "whole", steps=5))
    part = course(HYBRID, tmp_path / "part", steps=2)
    first = losses_alone(part)
    assert first + losses_alone(replace(part, steps=5)) == whole


@pytest.mark.slow
def test_a_training_goes_on_from_two_to_one_to_four_processes(tmp_path: Path) -> None:
    whole = losses_alone(course(HYBRID, tmp_path / "whole", steps=6, accumulate=4))
    made = course(HYBRID, tmp_path / "parts", "dp=2,dp.zero=1", steps=2, accumulate=2)
    losses: list[float] = []
    for steps, parallel, pieces in ((2, "dp=2,dp.zero=1", 2), (4, "", 4), (6, "fsdp=2,tp=2", 2)):
        made = replace(made, steps=steps, parallel=Parallel.parse(parallel), accumulate=pieces)
        runs.run(made, on_step=lambda step, loss: losses.append(loss))
    assert losses == pytest.approx(whole, rel=EXACT)


def test_a_stop_ends_the_training_after_its_step(tmp_path: Path) -> None:
    stop = runs.Stop()
    made = course(TRANSFORMER, tmp_path, steps=100)
    outcome = runs.run(made, on_step=lambda step, loss: stop.ask() if step == 3 else None, stop=stop)
    assert outcome == runs.Outcome(3, stopped=True)


def test_a_loss_that_is_not_finite_ends_it(tmp_path: Path) -> None:
    made = course(TRANSFORMER, tmp_path, recipe=Recipe(clip=None, rate=1e6))
    with pytest.raises(EvaluationFailed, match="the training loss is"):
        runs.run(replace(made, steps=200))
