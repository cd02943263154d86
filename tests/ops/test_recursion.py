"""Recursions joined pair by pair against loops, alone and inside the operations that carry with them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from search_spaces.ops import (
    decay_attention,
    delta_rule,
    gated_attention,
    mlstm,
    recursion,
    scan,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def launches_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an accelerator would compute, here."""
    for module in (recursion, scan, delta_rule):
        monkeypatch.setattr(module, "counts_launches", lambda x: True)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 16, 31, 33])
@pytest.mark.parametrize("dim", [0, 1])
def test_joined_is_the_loop(count: int, dim: int) -> None:
    shape = (count, 3, 4) if dim == 0 else (3, count, 4)
    a, b, start = draw(*shape).requires_grad_(), draw(*shape, seed=1).requires_grad_(), draw(3, 4, seed=2)
    before, last = recursion.carry(a, b, start, dim)
    after = recursion.joined(a, b, start, dim)
    looped = torch.cat((before.narrow(dim, 1, count - 1), last.unsqueeze(dim)), dim=dim)
    torch.testing.assert_close(after, looped)
    slopes = [torch.autograd.grad(y.sin().sum(), (a, b), retain_graph=True) for y in (after, looped)]
    for slope, expected_slope in zip(*slopes, strict=True):
        torch.testing.assert_close(slope, expected_slope)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_steps_may_be_matrices(count: int) -> None:
    a, b, start = draw(2, count, 3, 3), draw(2, count, 3, 4, seed=1), draw(2, 3, 4, seed=2)
    state, states = start, []
    for t in range(count):
        state = a[:, t] @ state + b[:, t]
        states.append(state)
    joined = recursion.joined(a, b, start, 1, torch.matmul)
    torch.testing.assert_close(joined, torch.stack(states, dim=1))


@pytest.mark.usefixtures("launches_count")
@pytest.mark.parametrize("count", [1, 63, 65, 200, 1000])
class TestOperationsOnAnAccelerator:
    """Each is held to its plain form, and to its gradients."""

    def same(self, fast: Tensor, plain: Tensor, leaves: list[Tensor]) -> None:
        torch.testing.assert_close(fast, plain, rtol=1e-8, atol=1e-10)
        weights = draw(*plain.shape, seed=9)
        for slope, expected_slope in zip(
            torch.autograd.grad((fast * weights).sum(), leaves),
            torch.autograd.grad((plain * weights).sum(), leaves),
            strict=True,
        ):
            torch.testing.assert_close(slope, expected_slope, rtol=1e-7, atol=1e-9)

    def test_scan(self, count: int) -> None:
        a, b = draw(2, count, 3).sigmoid().requires_grad_(), draw(2, count, 3, seed=1).requires_grad_()
        start = draw(2, 3, seed=2).requires_grad_()
        self.same(scan.scan(a, b, start), scan.scan_plainly(a, b, start), [a, b, start])

    def test_decay_attention(self, count: int) -> None:
        q, k, v = (draw(2, count, 2, 3, seed=s).requires_grad_() for s in range(3))
        g, state = -draw(2, count, 2, seed=4).abs().requires_grad_(), draw(2, 2, 3, 3, seed=5)
        fast, last = decay_attention.decay_attention(q, k, v, g, state, final=True)
        plain, end = decay_attention.decay_attention_plainly(q, k, v, g, state)
        self.same(fast, plain, [q, k, v])
        assert last is not None
        torch.testing.assert_close(last, end)

    def test_gated_attention(self, count: int) -> None:
        q, k, v = (draw(2, count, 2, 3, seed=s).requires_grad_() for s in range(3))
        g, state = -draw(2, count, 2, 3, seed=4).abs(), draw(2, 2, 3, 3, seed=5)
        g.requires_grad_()
        fast, last = gated_attention.gated_attention(q, k, v, g, state, final=True)
        plain, end = gated_attention.gated_attention_plainly(q, k, v, g, state)
        self.same(fast, plain, [q, k, v, g])
        assert last is not None
        torch.testing.assert_close(last, end)

    def test_delta_rule(self, count: int) -> None:
        q, v = (draw(2, count, 2, 3, seed=s).requires_grad_() for s in range(2))
        k = torch.nn.functional.normalize(draw(2, count, 2, 3, seed=2), dim=-1).requires_grad_()
        b = draw(2, count, 2, seed=3).sigmoid().requires_grad_()
        g = -draw(2, count, 2, seed=4).abs()
        g.requires_grad_()
        state = draw(2, 2, 3, 3, seed=5)
        fast, last = delta_rule.delta_rule(q, k, v, b, g, state=state, final=True)
        plain, end = delta_rule.delta_rule_plainly(q, k, v, b, g, state=state)
        self.same(fast, plain, [q, k, v, b, g])
        assert last is not None
        torch.testing.assert_close(last, end)

    def test_mlstm(self, count: int) -> None:
        q, k, v = (draw(2, count, 2, 3, seed=s).requires_grad_() for s in range(3))
        w, g = draw(2, count, 2, seed=4), -draw(2, count, 2, seed=5).abs()
        fast, last = mlstm.mlstm(q, k, v, w, g)
        plain, end = mlstm.mlstm_plainly(q, k, v, w, g)
        self.same(fast, plain, [q, k, v])
        for part, expected_part in zip(last, end, strict=True):
            torch.testing.assert_close(part, expected_part)
