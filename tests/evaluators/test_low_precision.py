"""Training with bfloat16: the largest ready-made space learns, and every layer option, without a warning."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluators.supernet.training import SupernetTraining
from evaluators.training.recipe import Recipe
from search_spaces.language.space import Space
from search_spaces.network.norms.base import Norm
from search_spaces.spaces import spaces
from tests.evaluators import tiny
from tests.search_spaces.test_options_and_norms import CASES, space_of

STEPS = 3


def losses(space: Space, folder: Path, precision: str) -> list[float]:
    """The losses of the first steps; a slow path of PyTorch would say so, which is an error here."""
    recipe, task = Recipe(precision=precision), tiny.task(folder, length=33)
    training = SupernetTraining(space, task, steps=STEPS, seed=0, batch=1, recipe=recipe)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [training.learn()[0] for _ in range(STEPS)]


def check(space: Space, folder: Path) -> None:
    low, exact = losses(space, folder, "bfloat16"), losses(space, folder, "float32")
    assert low != exact
    assert low == pytest.approx(exact, rel=8 * torch.finfo(torch.bfloat16).eps)


def test_the_supernet_of_hybrid_lm_learns_in_bfloat16(tmp_path: Path) -> None:
    check(spaces["hybrid_lm"](), tmp_path)


@CASES
def test_every_layer_option_learns_in_bfloat16(name: str, value: Any, norm: Norm, tmp_path: Path) -> None:
    small = space_of(name, value, norm)
    check(Space(replace(small.root, vocab=256)), tmp_path)
