"""What holds for every recurrence: its equation, its gradient, pieces, views, rows, dtypes, causality."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.ops.recurrences import RECURRENCES, Memory, Parts, Recurrence, Sizes, normal

LENGTHS = (1, 7, 63, 64, 65, 130)
EVERY = pytest.mark.parametrize("op", RECURRENCES.values(), ids=RECURRENCES)

random_sizes = st.builds(
    Sizes,
    batch=st.integers(1, 3),
    count=st.sampled_from(LENGTHS),
    heads=st.integers(1, 4),
    keys=st.integers(1, 9),
    values=st.integers(1, 9),
)


def assert_near(actual: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    scale = max(1.0, float(expected.detach().abs().max()))
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * scale)


def assert_same_memory(actual: Memory, expected: Memory, tolerance: float = 1e-9) -> None:
    for actual_part, expected_part in zip(actual, expected, strict=True):
        assert_near(actual_part, expected_part, tolerance)


def tokens_of(op: Recurrence, parts: Parts, tokens: slice) -> Parts:
    return {name: part if name in op.constants else part[:, tokens] for name, part in parts.items()}


def rows_of(op: Recurrence, parts: Parts, rows: slice) -> Parts:
    return {name: part if name in op.constants else part[rows] for name, part in parts.items()}


def converted(parts: Parts, dtype: torch.dtype) -> Parts:
    return {name: part.to(dtype) for name, part in parts.items()}


def inside_larger(part: Tensor) -> Tensor:
    """The same values as a slice of a larger tensor whose axes are in memory in reverse."""
    large = torch.full([size + 2 for size in reversed(part.shape)], float("nan"), dtype=part.dtype)
    view = large.permute(*reversed(range(part.ndim)))[tuple(slice(1, 1 + size) for size in part.shape)]
    view.copy_(part)
    return view


def slopes(op: Recurrence, parts: Parts, memory: Memory, *, plainly: bool) -> dict[str, Tensor]:
    """The gradient of a random sum of outputs and memory, by every input and by the memory before."""
    leaves = {name: part.clone().requires_grad_() for name, part in parts.items()}
    before = tuple(part.clone().requires_grad_() for part in memory)
    y, after = (op.plain if plainly else op.fast)(leaves, before)
    total = (y * normal(*y.shape, seed=21)).sum()
    for seed, part in enumerate(op.observed(after), start=22):
        total = total + (part * normal(*part.shape, seed=seed)).sum()
    names = [*leaves, *(f"memory {place}" for place in range(len(before)))]
    grads = torch.autograd.grad(total, [*leaves.values(), *before], allow_unused=True)
    return {name: grad for name, grad in zip(names, grads, strict=True) if grad is not None}


@EVERY
@settings(max_examples=12, deadline=None)
@given(sizes=random_sizes, begins=st.booleans())
def test_the_fast_form_is_the_equation(op: Recurrence, sizes: Sizes, begins: bool) -> None:
    parts, memory = op.inputs(sizes), None if begins else op.memory(sizes)
    (y, after), (expected, expected_after) = op.fast(parts, memory), op.plain(parts, memory)
    assert y.shape[:2] == (sizes.batch, sizes.count)
    assert_near(y, expected)
    assert_same_memory(after, expected_after)


@EVERY
@pytest.mark.parametrize("count", LENGTHS)
def test_gradients_are_those_of_the_equation(op: Recurrence, count: int) -> None:
    sizes = Sizes(count=count)
    parts, memory = op.inputs(sizes), op.memory(sizes)
    fast, plain = (slopes(op, parts, memory, plainly=plainly) for plainly in (False, True))
    assert fast.keys() == plain.keys()
    assert set(parts) <= fast.keys()
    for name, slope in fast.items():
        assert_near(slope, plain[name], 1e-8)


@EVERY
def test_gradients_are_those_of_finite_differences(op: Recurrence) -> None:
    sizes = Sizes(batch=1, count=6, heads=2, keys=2, values=3)
    parts, memory = op.inputs(sizes), op.memory(sizes)
    leaves = [part.requires_grad_() for part in parts.values()]
    held = [part.requires_grad_() for part in memory[:1]]

    def outputs(*tensors: Tensor) -> tuple[Tensor, ...]:
        given_parts = dict(zip(parts, tensors[: len(parts)], strict=True))
        y, after = op.fast(given_parts, (*tensors[len(parts) :], *memory[1:]))
        return y, *op.observed(after)

    assert torch.autograd.gradcheck(outputs, (*leaves, *held), fast_mode=True)


@EVERY
@pytest.mark.parametrize("count", [7, 65, 130])
def test_two_pieces_are_the_whole(op: Recurrence, count: int) -> None:
    sizes = Sizes(count=count)
    parts, before = op.inputs(sizes), op.memory(sizes)
    for memory in (None, before):
        whole, last = op.fast(parts, memory)
        for cut in (1, count // 2, count - 1):
            head, between = op.fast(tokens_of(op, parts, slice(cut)), memory)
            tail, after = op.fast(tokens_of(op, parts, slice(cut, None)), between)
            assert_near(torch.cat((head, tail), dim=1), whole)
            assert_same_memory(after, last)


@EVERY
def test_gradients_through_two_pieces_are_those_of_the_whole(op: Recurrence) -> None:
    sizes = Sizes(count=70)
    leaves = {name: part.requires_grad_() for name, part in op.inputs(sizes).items()}
    whole, _ = op.fast(leaves, None)
    head, between = op.fast(tokens_of(op, leaves, slice(33)), None)
    tail, _ = op.fast(tokens_of(op, leaves, slice(33, None)), between)
    weights = normal(*whole.shape, seed=21)
    by_whole, by_pieces = (
        torch.autograd.grad((y * weights).sum(), list(leaves.values()))
        for y in (whole, torch.cat((head, tail), dim=1))
    )
    for slope, expected in zip(by_pieces, by_whole, strict=True):
        assert_near(slope, expected, 1e-8)


@EVERY
def test_a_memory_of_zeros_is_none(op: Recurrence) -> None:
    sizes = Sizes(count=66)
    parts, zeros = op.inputs(sizes), tuple(torch.zeros_like(part) for part in op.memory(sizes))
    (y, after), (expected, expected_after) = op.fast(parts, zeros), op.fast(parts, None)
    assert_near(y, expected)
    assert_same_memory(after, expected_after)


@EVERY
def test_a_memory_is_used(op: Recurrence) -> None:
    sizes = Sizes(count=3)
    parts = op.inputs(sizes)
    y, fresh = op.fast(parts, op.memory(sizes))[0], op.fast(parts, None)[0]
    assert not torch.allclose(y[:, 0], fresh[:, 0])


@EVERY
@pytest.mark.parametrize("count", [1, 7, 65])
def test_views_into_larger_tensors_are_their_copies(op: Recurrence, count: int) -> None:
    sizes = Sizes(count=count)
    parts, memory = op.inputs(sizes), op.memory(sizes)
    views = {name: inside_larger(part) for name, part in parts.items()}
    y, after = op.fast(views, tuple(map(inside_larger, memory)))
    expected, expected_after = op.fast(parts, memory)
    assert_near(y, expected, 1e-12)
    assert_same_memory(after, expected_after, 1e-12)


@EVERY
def test_gradients_reach_into_larger_tensors(op: Recurrence) -> None:
    sizes = Sizes(count=37)
    parts = op.inputs(sizes)
    gradients = []
    for prepared in (parts, {name: inside_larger(part) for name, part in parts.items()}):
        leaves = {name: part.detach().requires_grad_() for name, part in prepared.items()}
        y, _ = op.fast(leaves, None)
        gradients.append(torch.autograd.grad(y.sin().sum(), list(leaves.values())))
    for slope, expected in zip(*gradients, strict=True):
        assert_near(slope, expected, 1e-12)


@EVERY
@pytest.mark.parametrize("count", [7, 65])
def test_rows_of_a_batch_do_not_see_each_other(op: Recurrence, count: int) -> None:
    sizes = Sizes(batch=3, count=count)
    parts, memory = op.inputs(sizes), op.memory(sizes)
    whole, last = op.fast(parts, memory)
    for row in range(3):
        own = slice(row, row + 1)
        y, after = op.fast(rows_of(op, parts, own), tuple(part[own] for part in memory))
        assert_near(y, whole[own], 1e-12)
        assert_same_memory(after, tuple(part[own] for part in last), 1e-12)


@EVERY
@pytest.mark.parametrize("first", [1, 40, 64, 69])
def test_no_output_depends_on_a_later_token(op: Recurrence, first: int) -> None:
    parts = op.inputs(Sizes(count=70))
    changed = dict(parts)
    for name in parts.keys() - op.constants:
        changed[name] = parts[name].clone()
        changed[name][:, first:] *= 0.5
    y, expected = op.fast(changed, None)[0], op.fast(parts, None)[0]
    assert_near(y[:, :first], expected[:, :first], 1e-12)
    assert not torch.allclose(y[:, first:], expected[:, first:])


@EVERY
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_outputs_have_the_dtype_of_the_inputs_and_memories_are_exact(
    op: Recurrence, dtype: torch.dtype
) -> None:
    parts = converted(op.inputs(Sizes(count=9)), dtype)
    y, after = op.fast(parts, None)
    exact = torch.promote_types(dtype, torch.float32)
    assert y.dtype == (exact if op.exact_outputs else dtype)
    assert {part.dtype for part in after} == {exact if op.exact_memory else dtype}


@EVERY
def test_float32_is_near_float64(op: Recurrence) -> None:
    parts = op.inputs(Sizes(count=130))
    y, after = op.fast(converted(parts, torch.float32), None)
    expected, expected_after = op.fast(parts, None)
    assert_near(y.double(), expected, 1e-4)
    for part, expected_part in zip(op.observed(after), op.observed(expected_after), strict=True):
        assert_near(part.double(), expected_part, 1e-4)


@EVERY
def test_inputs_and_memories_stay_as_they_are(op: Recurrence) -> None:
    sizes = Sizes(count=66)
    parts, memory = op.inputs(sizes), op.memory(sizes)
    copies = [part.clone() for part in (*parts.values(), *memory)]
    leaves = {name: part.requires_grad_() for name, part in parts.items()}
    y, after = op.fast(leaves, memory)
    (y.sum() + sum(part.sum() for part in op.observed(after))).backward()
    for part, copy in zip((*leaves.values(), *memory), copies, strict=True):
        assert torch.equal(part.detach(), copy)


@EVERY
def test_a_memory_does_not_hold_the_sequence(op: Recurrence) -> None:
    if op is RECURRENCES["scan"]:
        pytest.skip("a scan returns all states: blocks copy the last one")
    _, after = op.fast(op.inputs(Sizes(count=130)), None)
    for part in after:
        assert part.untyped_storage().nbytes() <= 2 * part.numel() * part.itemsize


LINEAR = {name: op for name, op in RECURRENCES.items() if op.linear_in}


@pytest.mark.parametrize("op", LINEAR.values(), ids=LINEAR)
def test_outputs_are_linear_in_what_is_remembered(op: Recurrence) -> None:
    sizes = Sizes(count=66)
    parts = op.inputs(sizes)
    added = normal(*parts[op.linear_in].shape, seed=31)
    outputs = [
        op.fast(parts | {op.linear_in: values}, None)[0]
        for values in (parts[op.linear_in], added, 3 * parts[op.linear_in] - added)
    ]
    assert_near(outputs[2], 3 * outputs[0] - outputs[1])
