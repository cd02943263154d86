"""Fused kernels: used only where they were proved, and equal to the plain forms (on a CPU they only read)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from search_spaces.ops import attention, block_sparse, fused


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "paths", {})
    torch._dynamo.reset()


def test_no_kernel_is_used_unless_it_was_proved() -> None:
    q = torch.empty(1, 2, 300, 64)
    assert not fused.calls_kernel("windowed attention", q)
    assert set(fused.enable("cpu")) == set(fused.forms) == {"windowed attention", "block-sparse attention"}
    assert all(path.startswith("plain:") for path in fused.paths.values())


def test_a_layout_is_made_once_for_a_shape_and_serves_training(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    usual = fused.block_layout

    def counted(seen: fused.Seen, count: int, device: torch.device) -> fused.Layout:
        made.append(count)
        return usual(seen, count, device)

    monkeypatch.setattr(fused, "block_layout", counted)
    device = torch.device("cpu")
    with torch.inference_mode():
        first = attention._layout(301, 70, 1, 3, device), block_sparse._layout(302, (16, 3, 1, 2), device)
    again = attention._layout(301, 70, 1, 3, device), block_sparse._layout(302, (16, 3, 1, 2), device)
    assert made == [301, 302]
    assert first == again
    assert not any(part.is_inference() for layout in first for part in layout)
    attention._layout(303, 70, 1, 3, device)
    assert made[2:] == [303]


@pytest.mark.parametrize("size", [16, 48, 128, 256])
def test_what_the_kernel_computes_of_a_layout_is_what_is_seen(size: int) -> None:
    pattern, count, device = block_sparse.BlockPattern(size, 2, 1, 1), 1300, torch.device("cpu")
    token = torch.arange(count)
    table = block_sparse._table(-(-count // size), tuple(pattern), device)
    whole = size % fused.BLOCK == 0
    seen = block_sparse._earlier if whole else partial(block_sparse._seen, table=table, size=size)
    layout = dict(zip(fused.NAMES, block_sparse._layout(count, tuple(pattern), device), strict=True))
    blocks = -(-count // fused.BLOCK)
    found = torch.zeros(blocks * fused.BLOCK, blocks * fused.BLOCK, dtype=torch.bool)
    for kind in ("kv", "full_kv"):
        for i in range(blocks):
            listed = layout[f"{kind}_indices"][0, 0, i, : layout[f"{kind}_num_blocks"][0, 0, i]]
            for j in listed.tolist():
                rows, columns = (torch.arange(fused.BLOCK) + place * fused.BLOCK for place in (i, j))
                inside = (rows[:, None] < count) & (columns < count)
                kept = seen(rows.clamp(max=count - 1)[:, None], columns.clamp(max=count - 1))
                found[rows[:, None], columns] = inside & (kept if kind == "kv" else torch.tensor(True))
    assert torch.equal(found[:count, :count], block_sparse.sees(token[:, None], token, pattern))


# PyTorch warns that the kernel is a plain one where nothing is compiled behind it
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_call_only_calls_the_kernel_on_heads_as_their_projection_writes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[str] = []
    strides: list[tuple[int, ...]] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        called.extend(str(node.target) for node in graph.graph.nodes if node.op.startswith("call"))
        strides.extend(x.stride() for x in inputs if x.ndim == 4 and x.is_floating_point())
        return graph.forward

    monkeypatch.setattr(fused, "calls_kernel", lambda name, q: torch.compiler.is_dynamo_compiling())
    heads = [torch.randn(1, 200, 2, 16).transpose(1, 2) for _ in range(3)]
    attend = torch.compile(partial(attention.attend, window=70), backend=backend, dynamic=False)
    attend(*heads)
    assert called == ["flex_attention", "<built-in function getitem>"]
    assert strides == [heads[0].stride()] * 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernels are for CUDA")
def test_the_kernels_agree_with_the_plain_forms_on_a_gpu() -> None:
    assert set(fused.enable("cuda").values()) == {fused.KERNEL}


# PyTorch's compiler imports modules of its own that PyTorch has deprecated
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_kernel_that_differs_or_fails_is_not_used() -> None:
    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return q

    def fails(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        raise NotImplementedError("no such kernel")

    path = fused._verified(lambda q, k, v: 1.1 * q, plain, "cpu")
    assert path.startswith("plain: FlexAttention is off by")
    assert fused._verified(fails, plain, "cpu").startswith("plain: FlexAttention does not run here")
    assert fused._verified(lambda q, k, v: q + 0, plain, "cpu") == fused.KERNEL


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("count", [129, 300])
@pytest.mark.parametrize(
    ("fast", "plain", "settings"),
    [
        (attention.attend, attention.attend_plainly, {"window": 70, "global_tokens": 3}),
        (attention.attend, attention.attend_plainly, {"window": 20, "dilation": 3}),
        (
            block_sparse.attend_in_blocks,
            block_sparse.attend_in_blocks_plainly,
            {"pattern": block_sparse.BlockPattern(16, 3, 1, 2)},
        ),
        (
            block_sparse.attend_in_blocks,
            block_sparse.attend_in_blocks_plainly,
            {"pattern": block_sparse.BlockPattern(128, 1, 1, 0)},
        ),
    ],
    ids=["window", "dilation", "blocks", "whole blocks"],
)
def test_the_kernel_computes_the_pattern(
    fast: Callable[..., Tensor],
    plain: Callable[..., Tensor],
    settings: dict[str, object],
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fused, "calls_kernel", lambda name, q: torch.compiler.is_dynamo_compiling())
    dice = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, count, 16, generator=dice) for heads in (4, 2, 2))
    with torch.no_grad():
        compiled = torch.compile(lambda q, k, v: fast(q, k, v, **settings), dynamic=False)
        torch.testing.assert_close(compiled(q, k, v), plain(q, k, v, **settings))
