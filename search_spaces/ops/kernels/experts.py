"""What stands around the matrix products of routed experts, as Triton kernels: forward and backward.

    rows = x[token]        hidden = f(gate, up)        out[n] = sum over j of gates[n, j] y[place[n, j]]

Every row belongs to one choice of one token, so a token gathers what its experts wrote, and the gradient of
`rows`, instead of adding to it: nothing is summed by atomics. Activation and gating are one pass, and so are
their gradients, which are computed from `gate` and `up` again. The products are PyTorch's grouped ones.

Shapes: N tokens, k choices of a token, R = N k rows in the order of experts, D d_model, F hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from search_spaces.ops.activations import GATED
from search_spaces.ops.kernels.tiles import Dice, relative_errors, unwritten

TOLERANCE = 1e-5
BLOCK = 1024
"""Values of a program."""

NAMES = {function: name for name, function in GATED.items()}


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _gated(g, u, NAME: tl.constexpr):
    """A gated activation, and its derivatives by g and u; see `search_spaces.ops.activations`."""
    if NAME == "clamped_silu":
        low, inner = tl.minimum(g, 7.0), tl.minimum(tl.maximum(u, -7.0), 7.0)
        share = _sigmoid(1.702 * low)
        value = low * share * (inner + 1.0)
        by_g = tl.where(g <= 7.0, share * (1.0 + 1.702 * low * (1.0 - share)) * (inner + 1.0), 0.0)
        by_u = tl.where(tl.abs(u) <= 7.0, low * share, 0.0)
    else:
        if NAME == "silu":
            share = _sigmoid(g)
            by_u = g * share
            slope = share * (1.0 + g * (1.0 - share))
        elif NAME == "gelu":
            share = 0.5 * (1.0 + tl.erf(g * 0.7071067811865476))
            by_u = g * share
            slope = share + g * 0.3989422804014327 * tl.exp(-0.5 * g * g)
        elif NAME == "gelu_tanh":
            share = _sigmoid(1.5957691216057308 * (g + 0.044715 * g * g * g))
            by_u = g * share
            inner = 1.5957691216057308 * (1.0 + 0.134145 * g * g)
            slope = share * (1.0 + g * (1.0 - share) * inner)
        elif NAME == "relu":
            by_u = tl.maximum(g, 0.0)
            slope = tl.where(g > 0.0, 1.0, 0.0)
        else:
            tl.static_assert(NAME == "relu2")
            by_u = tl.maximum(g, 0.0) * tl.maximum(g, 0.0)
            slope = 2.0 * tl.maximum(g, 0.0)
        value, by_g = by_u * u, slope * u
    return value, by_g, by_u


@triton.jit
def _activate(gate, up, hidden, size, NAME: tl.constexpr, B: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    g = tl.load(gate + at, mask=at < size, other=0.0).to(tl.float32)
    u = tl.load(up + at, mask=at < size, other=0.0).to(tl.float32)
    value, _, _ = _gated(g, u, NAME)
    tl.store(hidden + at, value.to(hidden.dtype.element_ty), mask=at < size)


@triton.jit
def _activate_back(gate, up, slopes, to_gate, to_up, size, NAME: tl.constexpr, B: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    g = tl.load(gate + at, mask=at < size, other=0.0).to(tl.float32)
    u = tl.load(up + at, mask=at < size, other=0.0).to(tl.float32)
    slope = tl.load(slopes + at, mask=at < size, other=0.0).to(tl.float32)
    _, by_g, by_u = _gated(g, u, NAME)
    tl.store(to_gate + at, (slope * by_g).to(to_gate.dtype.element_ty), mask=at < size)
    tl.store(to_up + at, (slope * by_u).to(to_up.dtype.element_ty), mask=at < size)


@triton.jit
def _gather(y, gates, place, out, width, K: tl.constexpr, WEIGHED: tl.constexpr, B: tl.constexpr):
    n = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * B + tl.arange(0, B)
    total = tl.zeros((B,), dtype=tl.float32)
    for j in range(K):
        row = tl.load(place + n * K + j).to(tl.int64)
        part = tl.load(y + row * width + column, mask=column < width, other=0.0).to(tl.float32)
        if WEIGHED:
            part *= tl.load(gates + n * K + j).to(tl.float32)
        total += part
    tl.store(out + n * width + column, total.to(out.dtype.element_ty), mask=column < width)


@triton.jit
def _gather_back(y, gates, place, slopes, to_y, to_gates, width, K: tl.constexpr, B: tl.constexpr):
    n = tl.program_id(0).to(tl.int64)
    for j in range(K):
        row = tl.load(place + n * K + j).to(tl.int64)
        gate = tl.load(gates + n * K + j).to(tl.float32)
        products = tl.zeros((B,), dtype=tl.float32)
        for start in range(0, width, B):
            column = start + tl.arange(0, B)
            slope = tl.load(slopes + n * width + column, mask=column < width, other=0.0).to(tl.float32)
            value = tl.load(y + row * width + column, mask=column < width, other=0.0).to(tl.float32)
            products += slope * value
            to = to_y + row * width + column
            tl.store(to, (slope * gate).to(to_y.dtype.element_ty), mask=column < width)
        tl.store(to_gates + n * K + j, tl.sum(products, axis=0).to(to_gates.dtype.element_ty))


def _columns(width: int) -> int:
    return min(BLOCK, triton.next_power_of_2(width))


@torch.library.custom_op("nas::gated_activation", mutates_args=())
def activated(gate: Tensor, up: Tensor, name: str) -> Tensor:
    """The hidden channels [R, F] of products [R, F] by an activation of `GATED`."""
    gate, up = gate.contiguous(), up.contiguous()
    hidden = _hidden(gate, up, name)
    _activate[(triton.cdiv(gate.numel(), BLOCK),)](gate, up, hidden, gate.numel(), NAME=name, B=BLOCK)
    return hidden


@activated.register_fake
def _hidden(gate: Tensor, up: Tensor, name: str) -> Tensor:
    return gate.new_empty(gate.shape)


@torch.library.custom_op("nas::gated_activation_back", mutates_args=())
def activated_back(gate: Tensor, up: Tensor, slopes: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Gradients of the products."""
    gate, up, slopes = gate.contiguous(), up.contiguous(), slopes.contiguous()
    to_gate, to_up = _hidden_back(gate, up, slopes, name)
    size = gate.numel()
    _activate_back[(triton.cdiv(size, BLOCK),)](gate, up, slopes, to_gate, to_up, size, NAME=name, B=BLOCK)
    return to_gate, to_up


@activated_back.register_fake
def _hidden_back(gate: Tensor, up: Tensor, slopes: Tensor, name: str) -> tuple[Tensor, Tensor]:
    to_gate, to_up = unwritten(gate, up)
    return to_gate, to_up


@torch.library.custom_op("nas::gather_rows", mutates_args=())
def gathered(y: Tensor, gates: Tensor | None, place: Tensor) -> Tensor:
    """What each token gets [N, D] of the rows y [R, D] at its places [N, k], weighed by gates [N, k]."""
    y, place = y.contiguous(), place.contiguous()
    gates = None if gates is None else gates.contiguous()
    out, (tokens, choices) = _gathered(y, gates, place), place.shape
    width, columns = y.shape[1], _columns(y.shape[1])
    _gather[(tokens, triton.cdiv(width, columns))](
        y, gates, place, out, width, K=choices, WEIGHED=gates is not None, B=columns
    )
    return out


@gathered.register_fake
def _gathered(y: Tensor, gates: Tensor | None, place: Tensor) -> Tensor:
    dtype = y.dtype if gates is None else torch.promote_types(y.dtype, gates.dtype)
    return y.new_empty(place.shape[0], y.shape[1], dtype=dtype)


@torch.library.custom_op("nas::gather_rows_back", mutates_args=())
def gathered_back(y: Tensor, gates: Tensor, place: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of rows and gates."""
    y, gates, place, slopes = (part.contiguous() for part in (y, gates, place, slopes))
    to_y, to_gates = _gathered_back(y, gates, place, slopes)
    tokens, choices = place.shape
    width, columns = y.shape[1], _columns(y.shape[1])
    _gather_back[(tokens,)](y, gates, place, slopes, to_y, to_gates, width, K=choices, B=columns)
    return to_y, to_gates


@gathered_back.register_fake
def _gathered_back(y: Tensor, gates: Tensor, place: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    to_y, to_gates = unwritten(y, gates)
    return to_y, to_gates


@torch.library.custom_op("nas::spread_rows", mutates_args=())
def spread(x: Tensor, token: Tensor, place: Tensor) -> Tensor:
    """The rows [R, D] of tokens x [N, D]; `place` [N, k] says where those of a token are."""
    return x.index_select(0, token)


@spread.register_fake
def _(x: Tensor, token: Tensor, place: Tensor) -> Tensor:
    return x.new_empty(token.shape[0], x.shape[1])


def _save_products(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *products, ctx.name = inputs
    ctx.save_for_backward(*products)


def _of_products(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
    return *activated_back(*ctx.saved_tensors, slopes, ctx.name), None


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _of_rows(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
    return *gathered_back(*ctx.saved_tensors, slopes), None


def _save_place(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[2])


def _of_tokens(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
    return gathered(slopes, None, *ctx.saved_tensors), None, None


activated.register_autograd(_of_products, setup_context=_save_products)
gathered.register_autograd(_of_rows, setup_context=_save)
spread.register_autograd(_of_tokens, setup_context=_save_place)


def fused(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The kernel of a gated activation; itself where there is none."""
    if (name := NAMES.get(function)) is None:
        return function
    return lambda gate, up: activated(gate, up, name)


def places(order: Tensor, choices: int) -> Tensor:
    """Where the rows of each token are [N, k], for the choices [R] in the order of rows."""
    rows = torch.arange(len(order), device=order.device)
    return torch.empty_like(order).scatter_(0, order, rows).view(-1, choices)


def errors(device: torch.device) -> dict[str, float]:
    """Relative errors against PyTorch, of every activation between a spread and a gathering."""
    dice = Dice(device)

    order = torch.randperm(3 * 37, generator=dice.generator, device=device)
    token, place = order // 3, places(order, 3)
    inputs = {
        "x": 3 * dice.normal(37, 1100),
        "up": 3 * dice.normal(3 * 37, 1100),
        "gates": 3 * dice.normal(37, 3),
    }
    found: dict[str, float] = {}
    for function, name in NAMES.items():

        def kernel(x: Tensor, up: Tensor, gates: Tensor, name: str = name) -> list[Tensor]:
            return [gathered(activated(spread(x, token, place), up, name), gates, place)]

        def plain(x: Tensor, up: Tensor, gates: Tensor, function: Any = function) -> list[Tensor]:
            return [(function(x[token], up)[place] * gates[..., None]).sum(1)]

        found |= {f"{key} of {name}": error for key, error in relative_errors(kernel, plain, inputs).items()}
    return found
