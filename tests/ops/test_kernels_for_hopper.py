"""Kernels compile for a Hopper GPU, within its shared memory; needs Triton, but no GPU."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from search_spaces.ops.mlstm import Cell

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") == "1",
        reason="needs Triton, not interpreted",
    ),
]
SHARED_BYTES = 227 * 1024
DTYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int64: "*i64"}


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Kernels are compiled instead of launched: the bytes of shared memory of each."""
    jit = importlib.import_module("triton.runtime.jit")
    compiler = importlib.import_module("triton.compiler")
    target = importlib.import_module("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    found: dict[str, int] = {}

    def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **more: Any) -> None:
        options = {name: more.pop(name) for name in ("num_warps", "num_stages", "maxnreg") if name in more}
        signature, constants, aligned = {}, {}, {}
        bound = dict(zip([parameter.name for parameter in kernel.params], args, strict=False)) | more
        for place, parameter in enumerate(kernel.params):
            value = bound[parameter.name]
            kind = _kind(value, parameter)
            signature[parameter.name] = kind
            if kind == "constexpr":
                constants[parameter.name] = value
            elif kind.startswith("*") or (not parameter.do_not_specialize and value % 16 == 0):
                aligned[(place,)] = [["tt.divisibility", 16]]
        source = compiler.ASTSource(kernel, signature, constants, aligned)
        binary = compiler.compile(source, target=target, options=options)
        found[kernel.fn.__name__] = max(found.get(kernel.fn.__name__, 0), binary.metadata.shared)

    monkeypatch.setattr(jit.JITFunction, "run", run)
    return found


def _kind(value: Any, parameter: Any) -> str:
    if isinstance(value, Tensor):
        return DTYPES[value.dtype]
    if parameter.is_constexpr or value is None or (value == 1 and not parameter.do_not_specialize):
        return "constexpr"
    return "i32"


def learnt(function: Callable[..., Any], *shapes: tuple[int, ...], dtype: torch.dtype) -> None:
    """Forward and backward on tensors of these shapes; those of few axes are in float32."""
    inputs = [torch.zeros(shape, dtype=dtype if len(shape) == 4 else torch.float32) for shape in shapes]
    outputs = function(*(part.requires_grad_() for part in inputs))
    torch.autograd.backward([y for y in outputs if y.requires_grad], [y for y in outputs if y.requires_grad])


def matrices(name: str, n_dim: int, p_dim: int, low: torch.dtype = torch.bfloat16) -> None:
    """The kernels of one primitive of matrix products, at 2 x 100 tokens and 16 heads."""
    kernel = importlib.import_module(f"search_spaces.ops.kernels.{name}")
    wide, narrow, row = (2, 100, 16, n_dim), (2, 100, 16, p_dim), (2, 100, 16)
    state, heads = (2 * 16, n_dim, p_dim), (16, n_dim)

    def as_state(x: Tensor) -> Tensor:
        return x.unflatten(0, (2, 16))

    def mlstm(q: Tensor, k: Tensor, v: Tensor, w: Tensor, g: Tensor, s: Tensor) -> tuple[Tensor, ...]:
        memory = as_state(s)
        y, cell = kernel.mlstm(q, k, v, w, g, Cell(memory, memory[..., 0], memory[..., 0, 0]))
        return y, cell.memory, cell.normaliser

    if name == "decay_attention":
        learnt(lambda *x: kernel.decay_attention(*x[:4], as_state(x[4]))[:2],
               wide, wide, narrow, row, state, dtype=low)  # fmt: skip
    elif name == "delta_rule":
        learnt(lambda *x: kernel.delta_rule(*x[:5], as_state(x[5]))[:2],
               wide, wide, narrow, row, row, state, dtype=low)  # fmt: skip
    elif name == "mlstm":
        learnt(mlstm, wide, wide, narrow, row, row, state, dtype=low)
    else:
        learnt(lambda *x: kernel.channel_decay(*x[:4], None, as_state(x[4]))[:2],
               wide, wide, narrow, wide, state, dtype=low)  # fmt: skip
        learnt(lambda *x: kernel.channel_decay(*x[:4], x[5], as_state(x[4]))[:2],
               wide, wide, narrow, wide, state, heads, dtype=low)  # fmt: skip


@pytest.mark.parametrize("size", [16, 64, 128])
@pytest.mark.parametrize("name", ["decay_attention", "delta_rule", "gated_attention", "mlstm"])
def test_kernels_of_matrix_products_compile(name: str, size: int, compiled: dict[str, int]) -> None:
    matrices(name, size, size)
    assert {"_outputs", "_gradients"} <= set(compiled)
    assert max(compiled.values()) <= SHARED_BYTES


def test_wide_tiles_of_float32_fit(compiled: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    segments = importlib.import_module("search_spaces.ops.kernels.segments")
    monkeypatch.setattr(segments, "precision", lambda x: "tf32")
    matrices("gated_attention", 128, 128, torch.float32)
    assert max(compiled.values()) <= SHARED_BYTES


def test_other_kernels_compile(compiled: dict[str, int]) -> None:
    scan, selective, experts = (
        importlib.import_module(f"search_spaces.ops.kernels.{name}")
        for name in ("scan", "selective_scan", "experts")
    )
    low = torch.bfloat16
    learnt(lambda a, b, start: [scan.scan(a, b, start)], (2, 99, 48), (2, 99, 48), (2, 48), dtype=low)
    values, few, states = (2, 99, 48), (2, 99, 16), (2, 48, 16)
    learnt(lambda *x: selective.selective_scan(*x, True)[:2],
           values, values, (48, 16), few, few, states, dtype=low)  # fmt: skip
    place = torch.arange(60).view(30, 2)
    for name in experts.NAMES.values():
        learnt(lambda x, up, gates, name=name: [experts.gathered(
            experts.activated(experts.spread(x, place.flatten() // 2, place), up, name), gates, place)],
            (30, 64), (60, 64), (30, 2), dtype=low)  # fmt: skip
    assert {"_forward", "_backward", "_activate_back", "_gather_back"} <= set(compiled)
    assert max(compiled.values()) <= SHARED_BYTES
