"""Mamba's scan: blocked, with its gradient written out, against its recurrence under autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.ops import scan
from search_spaces.ops import selective_scan as op

LENGTHS = (1, 2, 5, 31, 32, 33, 63, 64, 65, 130)
NAMES = ("u", "dt", "a", "b", "c", "state")


def parts(count: int, batch: int = 2, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Random inputs of 5 channels and 3 states."""
    dice = torch.Generator().manual_seed(count)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=dice, dtype=torch.float64)

    made = {
        "u": draw(batch, count, 5),
        "dt": F.softplus(draw(batch, count, 5) - 1),
        "a": -draw(5, 3).exp(),
        "b": draw(batch, count, 3),
        "c": draw(batch, count, 3),
        "state": draw(batch, 5, 3),
    }
    return {name: part.to(dtype) for name, part in made.items()}


def run(made: dict[str, Tensor], plainly: bool = False) -> tuple[Tensor, Tensor]:
    form = op.selective_scan_plainly if plainly else op.selective_scan
    u, dt, a, b = (made[name] for name in ("u", "dt", "a", "b"))
    return form(u, dt, a, b, c=made["c"], state=made.get("state"))


@pytest.fixture(params=["scanned", "joined, as on an accelerator"])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "scanned":
        monkeypatch.setattr(op, "counts_launches", lambda x: True)
        monkeypatch.setattr(op, "LONG_BLOCK", 50)
    return request.param


def gradients(made: dict[str, Tensor], plainly: bool) -> list[Tensor]:
    """Slopes of everything, through the outputs and through the last state."""
    leaves = {name: part.detach().clone().requires_grad_() for name, part in made.items()}
    dice = torch.Generator().manual_seed(99)
    loss = torch.zeros((), dtype=torch.float64)
    for result in run(leaves, plainly):
        mix = torch.randn(result.shape, generator=dice, dtype=torch.float64)
        loss = loss + (result * mix).sum()
    return list(torch.autograd.grad(loss, list(leaves.values())))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("count", LENGTHS)
def test_it_is_its_recurrence(cut: str, count: int, batch: int) -> None:
    made = parts(count, batch)
    for state in (made["state"], None):
        made = {name: part for name, part in made.items() if name != "state"}
        made |= {} if state is None else {"state": state}
        for actual, expected in zip(run(made), run(made, plainly=True), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", LENGTHS)
def test_its_gradients_are_those_of_the_recurrence(cut: str, count: int) -> None:
    made = parts(count)
    actual, expected = gradients(made, plainly=False), gradients(made, plainly=True)
    for name, slope, expected_slope in zip(NAMES, actual, expected, strict=True):
        torch.testing.assert_close(
            slope, expected_slope, rtol=1e-10, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_gradcheck(cut: str) -> None:
    made = [part.requires_grad_() for part in parts(35, batch=1).values()]
    call = lambda *leaves: run(dict(zip(NAMES, leaves, strict=True)))  # noqa: E731
    assert torch.autograd.gradcheck(call, made, fast_mode=True)


def test_a_sequence_may_be_read_in_pieces(cut: str) -> None:
    made = parts(70)
    whole, last = run(made)
    state, outputs = made["state"], []
    for piece in (slice(0, 37), slice(37, 38), slice(38, 70)):
        cut_out = {name: part[:, piece] for name, part in made.items() if name not in ("a", "state")}
        y, state = run(cut_out | {"a": made["a"], "state": state})
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("strength", [0.0, 1e-6, 30.0, 1e4])
def test_extreme_decays_are_exact(cut: str, strength: float) -> None:
    made = parts(70, dtype=torch.float32)
    made["a"] = torch.full_like(made["a"], -strength)
    exact = {name: part.double() for name, part in made.items()}
    for actual, expected in zip(run(made), run(exact, plainly=True), strict=True):
        assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()
    expected_slopes = gradients(exact, plainly=True)
    for name, actual, expected in zip(NAMES, gradients(made, plainly=False), expected_slopes, strict=True):
        assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max() + 1e-30, name


def test_bfloat16_sums_in_float32(cut: str) -> None:
    made = parts(130, dtype=torch.bfloat16)
    made["a"] = made["a"] * 0.01
    y, last = run(made)
    assert y.dtype == last.dtype == torch.float32
    expected, expected_last = run({name: part.double() for name, part in made.items()}, plainly=True)
    assert (y - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (last - expected_last).abs().max() < 1e-5 * expected_last.abs().max()


def test_it_does_not_change_what_it_is_given(cut: str) -> None:
    made = parts(40)
    before = {name: part.clone() for name, part in made.items()}
    gradients(made, plainly=False)
    leaves = {name: part.requires_grad_() for name, part in made.items()}
    run(leaves)[0].sum().backward()
    for name, part in before.items():
        assert torch.equal(part, leaves[name].detach()), name


def test_with_one_state_it_is_the_diagonal_scan() -> None:
    made = parts(65)
    a, ones = made["a"][:, :1], torch.ones(2, 65, 1, dtype=torch.float64)
    y, _ = op.selective_scan(made["u"], made["dt"], a, ones, c=ones)
    h = scan.scan((made["dt"] * a[:, 0]).exp(), made["dt"] * made["u"])
    torch.testing.assert_close(y, h, rtol=1e-12, atol=1e-12)


def test_only_states_between_blocks_are_kept_for_the_gradient() -> None:
    count, kept = 512, 0

    def keep(part: Tensor) -> Tensor:
        nonlocal kept
        kept += part.numel()
        return part

    made = parts(count, batch=1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda part: part):
        run({name: part.requires_grad_() for name, part in made.items()})
    inputs = sum(part.numel() for part in made.values())
    assert kept <= inputs + 5 * 3 * count // op.BLOCK
