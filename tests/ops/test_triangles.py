"""Forms for programs of other runtimes: operators that all of them have, and few axes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from search_spaces.network.programs import exported
from search_spaces.ops.delta_rule import delta_rule
from search_spaces.ops.gated_attention import gated_attention
from search_spaces.ops.triangles import unit_triangular_inverse

COUNT = 70  # two chunks, the second one in part


@pytest.mark.parametrize("count", [1, 2, 5, 16, 50])
def test_the_inverse_is_that_of_substitution(count: int) -> None:
    dice = torch.Generator().manual_seed(count)
    for below in (
        torch.rand(2, 3, count, count, generator=dice).double(),
        torch.ones(1, count, count).double(),  # powers of it would be 10^13
    ):
        expected = torch.linalg.solve_triangular(
            below.tril(-1), torch.eye(count).double().expand_as(below), upper=False, unitriangular=True
        )
        torch.testing.assert_close(unit_triangular_inverse(below), expected)


class Operation(nn.Module):
    def __init__(self, call: Callable[..., tuple[Tensor, Tensor | None]]) -> None:
        super().__init__()
        self.call = call

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.call(*inputs, final=True)


@pytest.mark.parametrize("operation", [delta_rule, gated_attention])
def test_exported_chunks_are_the_same_by_plain_operators(
    operation: Callable[..., tuple[Tensor, Tensor | None]],
) -> None:
    dice = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, COUNT, 3, 8, generator=dice) for _ in range(3))
    k = nn.functional.normalize(k, dim=-1)
    b, g = torch.rand(2, COUNT, 3, generator=dice), -torch.rand(2, COUNT, 3, 8, generator=dice)
    inputs = (q, k, v, b, g[..., 0]) if operation is delta_rule else (q, k, v, g)
    module = Operation(operation)
    program = exported(module, inputs)
    for found, expected in zip(program.module()(*inputs), module(*inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    nodes = [node for node in program.graph.nodes if isinstance(node.meta.get("val"), Tensor)]
    assert max(node.meta["val"].dim() for node in nodes) <= 6  # as many as XNNPACK has
    operators = {str(node.target) for node in program.graph.nodes}
    assert not any(name in op for op in operators for name in ("triangular", "diag", "copy_"))
