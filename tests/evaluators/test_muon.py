"""Muon is that of torch, for matrices of several axes, for stacks of them, and for slices of a supernet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evaluators.supernet.recipe import SupernetRecipe
from evaluators.supernet.shrinking import SHRINKING
from evaluators.supernet.training import SupernetTraining
from evaluators.tasks.recall import Recall
from evaluators.training.optimizers.muon import Muon, newton_schulz
from evaluators.training.parallel.course import Course
from evaluators.training.parallel.parallel import Parallel
from evaluators.training.recipe import Recipe
from foundation.errors import SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.scaling import BASE_WIDTH, ELEMENTWISE, Role

RATE = 0.05
CLOSE = {"rtol": 0, "atol": 0.02 * RATE}
"""Newton-Schulz in bfloat16 is only so exact; entries of a step are about 0.2 of the rate."""

ADAMS, FREE = Muon(rms=0.2), Muon(rms=0.2, decay=0)
"""As `match_rms_adamw` of torch, with its weight decay and without."""

sizes = st.integers(2, 40)


def dice(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradients(shape: tuple[int, ...], seed: int = 0, steps: int = 3) -> list[Tensor]:
    return [torch.randn(shape, generator=dice(seed + i)) for i in range(steps)]


def learned(shape: tuple[int, ...], role: Role, told: list[Tensor], muon: Muon = ADAMS) -> Tensor:
    """A parameter that begins with ones, after a step for each of these gradients."""
    weight = nn.Parameter(torch.ones(shape))
    optimizer = muon.make({"w": weight}, {"w": RATE}, {"w": role})
    for gradient in told:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


def by_torch(told: list[Tensor]) -> Tensor:
    """The same with `torch.optim.Muon`, of two axes."""
    weight = nn.Parameter(torch.ones(told[0].shape))
    optimizer = torch.optim.Muon(
        [weight], lr=RATE, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for gradient in told:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


@given(sizes, sizes, st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_a_matrix_learns_as_in_torch(outputs: int, inputs: int, seed: int) -> None:
    told = gradients((outputs, inputs), seed)
    torch.testing.assert_close(
        learned((outputs, inputs), Role("matrix", inputs), told), by_torch(told), **CLOSE
    )


@pytest.mark.parametrize(
    ("shape", "input_axes", "flat"),
    [
        ((3, 4, 12), 1, (12, 12)),
        ((24, 3, 4), 2, (24, 12)),
        ((2, 3, 4, 12), 1, (24, 12)),
        ((12, 7), 1, (12, 7)),
    ],
)
def test_axes_are_flattened_on_the_side_that_they_face(
    shape: tuple[int, ...], input_axes: int, flat: tuple[int, int]
) -> None:
    told = gradients(shape)
    role = Role("matrix", flat[1], input_axes)
    wanted = by_torch([gradient.reshape(flat) for gradient in told])
    torch.testing.assert_close(learned(shape, role, told).reshape(flat), wanted, **CLOSE)


def test_experts_are_matrices_of_their_own() -> None:
    told = gradients((4, 6, 16))
    role = Role("matrix", 16, 1, stacked_axes=1)
    wanted = torch.stack([by_torch([gradient[i] for gradient in told]) for i in range(4)])
    torch.testing.assert_close(learned((4, 6, 16), role, told), wanted, **CLOSE)


def test_matrices_learn_together_as_they_do_alone() -> None:
    shapes = {"a": (8, 16), "b": (16, 8), "c": (8, 16), "d": (5, 16), "e": (2, 4, 16)}
    roles = {name: Role("matrix", shape[-1]) for name, shape in shapes.items()}
    weights = {name: nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}
    told = {name: gradients(shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    optimizer = ADAMS.make(weights, dict.fromkeys(weights, RATE), roles)
    for step in range(3):
        for name, weight in weights.items():
            weight.grad = told[name][step].clone()
        optimizer.step()
    for name, weight in weights.items():
        torch.testing.assert_close(weight.detach(), learned(shapes[name], roles[name], told[name]), **CLOSE)


@given(sizes, sizes, st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_a_step_has_the_mean_square_of_one_of_adam(outputs: int, inputs: int, seed: int) -> None:
    role = Role("matrix", inputs)
    step = learned((outputs, inputs), role, gradients((outputs, inputs), seed, 1), FREE) - 1
    assert 0.13 < float(step.square().mean().sqrt()) / RATE < 0.25


def test_wide_matrices_keep_the_norm_of_their_steps_where_rates_fall_with_the_width() -> None:
    def norm(width: int) -> float:
        weight = nn.Parameter(torch.zeros(width, width))
        rate = RATE * BASE_WIDTH / width
        optimizer = ADAMS.make({"w": weight}, {"w": rate}, {"w": Role("matrix", width)})
        (weight.grad,) = gradients((width, width), steps=1)
        optimizer.step()
        return float(torch.linalg.matrix_norm(weight.detach(), ord=2))

    assert norm(4 * BASE_WIDTH) == pytest.approx(norm(BASE_WIDTH), rel=0.15)


@given(st.integers(2, 30), st.integers(0, 20), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_singular_values_become_alike(rows: int, more: int, seed: int) -> None:
    (random,) = gradients((rows, rows + more), seed, 1)
    left, _, right = torch.linalg.svd(random, full_matrices=False)
    values = torch.logspace(-1.5, 0, rows)
    found = torch.linalg.svdvals(newton_schulz((left * values @ right)[None]).float())
    assert 0.6 < float(found.min()) <= float(found.max()) < 1.25


@given(st.integers(0, 99), st.integers(2, 12), st.integers(2, 12))
@settings(deadline=None, max_examples=30)
def test_a_step_moves_with_entries_that_are_sorted(seed: int, outputs: int, inputs: int) -> None:
    told, role = gradients((outputs, inputs), seed), Role("matrix", inputs)
    rows, columns = (torch.randperm(n, generator=dice(seed)) for n in (outputs, inputs))
    sorted_first = learned((outputs, inputs), role, [each[rows][:, columns] for each in told])
    torch.testing.assert_close(
        sorted_first, learned((outputs, inputs), role, told)[rows][:, columns], **CLOSE
    )


def test_of_a_slice_only_the_slice_moves_as_if_it_were_alone() -> None:
    whole = [torch.zeros(12, 10) for _ in range(3)]
    slices = gradients((6, 5))
    for gradient, read in zip(whole, slices, strict=True):
        gradient[:6, :5] = read
    found = learned((12, 10), Role("matrix", 10), whole, FREE)
    torch.testing.assert_close(found[:6, :5], learned((6, 5), Role("matrix", 5), slices, FREE), **CLOSE)
    assert torch.equal(found[6:], torch.ones(6, 10))
    assert torch.equal(found[:, 5:], torch.ones(12, 5))


def test_what_was_read_before_and_is_not_now_stays() -> None:
    first, second = gradients((8, 8), steps=2)
    second[4:] = 0
    role, muon = Role("matrix", 8), FREE
    once, twice = learned((8, 8), role, [first], muon), learned((8, 8), role, [first, second], muon)
    assert torch.equal(once[4:], twice[4:])
    assert not torch.equal(once[:4], twice[:4])


@pytest.mark.parametrize("gradient", [torch.zeros(6, 6), torch.full((6, 6), 1e-30)])
def test_tiny_gradients_make_no_numbers_that_are_none(gradient: Tensor) -> None:
    assert learned((6, 6), Role("matrix", 6), [gradient]).isfinite().all()


def test_all_else_learns_by_adamw() -> None:
    shapes = {"embedding": (9, 8), "gain": (8,), "taps": (3, 4, 2)}
    roles = {"embedding": Role("embedding", 8), "gain": Role("readout", 8), "taps": ELEMENTWISE}

    def after(name: str) -> Mapping[str, Tensor]:
        weights = {name: nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}
        recipe = Recipe().with_settings({"optimizer": name})
        optimizer = recipe.optimizer.make(weights, dict.fromkeys(weights, RATE), roles)
        for step in range(3):
            for weight in weights.values():
                weight.grad = gradients(tuple(weight.shape))[step]
            optimizer.step()
        return weights

    one, other = after("muon"), after("adamw")
    assert all(torch.equal(one[name], other[name]) for name in shapes)


def test_a_rate_may_be_a_tensor() -> None:
    told = gradients((6, 8))
    weight = nn.Parameter(torch.ones(6, 8))
    optimizer = ADAMS.make({"w": weight}, {"w": RATE}, {"w": Role("matrix", 8)})
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(RATE)
    for gradient in told:
        weight.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(weight.detach(), learned((6, 8), Role("matrix", 8), told))


def test_kinds_that_no_network_of_a_step_has_do_not_move() -> None:
    layer = Layer(
        sequence_mixer=one_of(Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=4), ShortConv()),
        channel_mixer=MoE(num_experts=one_of(2, 4), expansion=1, top_k=1),
    )
    space = Space(Decoder(vocab=12, d_model=one_of(8, 12), layers=(layer,)), name="small")
    task = Recall(tokens=12, length=9, pairs=2, sequences=200, windows=8)
    recipe = Recipe(optimizer=Muon(), supernet=SupernetRecipe(networks=1))
    training = SupernetTraining(space, task, steps=6, seed=0, batch=4, recipe=recipe)
    before = {name: weight.detach().clone() for name, weight in training.supernet.weights.items()}
    training.learn()
    read = {name for name, weight in training.supernet.weights.items() if weight.grad is not None}
    assert 0 < len(read) < len(before)
    for name, weight in training.supernet.weights.items():
        assert torch.equal(weight.detach(), before[name]) == (name not in read), name


def test_a_supernet_is_not_sorted_by_what_is_not_kept() -> None:
    with pytest.raises(SettingError, match="which muon does not keep: choose sort=norm"):
        Recipe(optimizer=Muon(), supernet=SupernetRecipe(phases=SHRINKING))
    assert Recipe.from_word("muon").with_settings({"supernet.phases": "shrinking"}).supernet.sorts


@pytest.mark.parametrize("words", ["fsdp=2", "tp=2", "dp=2,dp.zero=1"])
def test_parts_of_matrices_are_not_made_orthogonal(words: str, tmp_path: Path) -> None:
    layer = Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=2, head_dim=4))
    spec = to_json(Decoder(vocab=12, d_model=8, layers=(layer,)))
    task = Recall(tokens=12, length=9, pairs=2, sequences=200, windows=8)
    course = Course(
        spec=spec,
        task=task,
        steps=2,
        folder=str(tmp_path),
        origin="",
        recipe=Recipe(optimizer=Muon()),
        parallel=Parallel.parse(words),
    )
    with pytest.raises(SettingError, match=r"makes steps of whole matrices, which .* cuts: use dp or pp"):
        course.check()
    replace(course, recipe=Recipe()).check()
    replace(course, parallel=Parallel.parse("dp=2")).check()
