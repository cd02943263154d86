"""All recurrences in one form, for the tests that hold for each of them.

Inputs are tensors by name; those in `constants` have no axis of tokens. A memory is a tuple of tensors, None
where a sequence begins. `fast` is the form that blocks call, `plain` its equation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.ops import decay_attention as decay
from search_spaces.ops import delta_rule as delta
from search_spaces.ops import gated_attention as gated
from search_spaces.ops import mlstm, rwkv, scan, short_conv, slstm
from search_spaces.ops import selective_scan as selective

Parts: TypeAlias = dict[str, Tensor]
Memory: TypeAlias = tuple[Tensor, ...]
Run: TypeAlias = Callable[[Parts, Memory | None], tuple[Tensor, Memory]]

TAPS = 4


class Sizes(NamedTuple):
    """Batch, tokens, heads, channels of keys (or states) and of values."""

    batch: int = 2
    count: int = 70
    heads: int = 3
    keys: int = 5
    values: int = 4


@dataclass(frozen=True)
class Recurrence:
    """One operation: its inputs, a memory to begin with, and both forms."""

    inputs: Callable[[Sizes], Parts]
    memory: Callable[[Sizes], Memory]
    fast: Run
    plain: Run
    constants: frozenset[str] = frozenset()
    linear_in: str = ""
    """The input that outputs are linear in, when a sequence begins."""
    exact_memory: bool = True
    """The memory is in float32 at least, whatever the inputs are in."""
    exact_outputs: bool = False
    observed: Callable[[Memory], Memory] = lambda memory: memory
    """What gradients may flow through: parts that do not depend on how a memory is scaled."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _attention_inputs(sizes: Sizes, *, shared: bool = False, per_channel: bool = False) -> Parts:
    batch, count, heads, keys, values = sizes
    read = 1 if shared else heads
    decays = (keys,) if per_channel else ()
    return {
        "q": normal(batch, count, read, keys, seed=1),
        "k": normal(batch, count, read, keys, seed=2),
        "v": normal(batch, count, heads, values, seed=3),
        "g": -normal(batch, count, heads, *decays, seed=4).abs(),
    }


def _matrix(sizes: Sizes) -> Memory:
    return (normal(sizes.batch, sizes.heads, sizes.keys, sizes.values, seed=11),)


def _first(memory: Memory | None) -> Tensor | None:
    return None if memory is None else memory[0]


def _held(y: Tensor, last: Tensor | None) -> tuple[Tensor, Memory]:
    assert last is not None
    return y, (last,)


def _decay_attention() -> Recurrence:
    return Recurrence(
        inputs=_attention_inputs,
        memory=_matrix,
        fast=lambda p, m: _held(
            *decay.decay_attention(p["q"], p["k"], p["v"], p["g"], _first(m), final=True)
        ),
        plain=lambda p, m: _held(*decay.decay_attention_plainly(p["q"], p["k"], p["v"], p["g"], _first(m))),
        linear_in="v",
    )


def _shared_decay_attention() -> Recurrence:
    base = _decay_attention()
    return Recurrence(
        inputs=lambda sizes: _attention_inputs(sizes, shared=True),
        memory=_matrix,
        fast=base.fast,
        plain=base.plain,
        linear_in="v",
    )


def _gated_attention(*, bonus: bool) -> Recurrence:
    def inputs(sizes: Sizes) -> Parts:
        drawn = _attention_inputs(sizes, per_channel=True)
        return drawn | ({"bonus": normal(sizes.heads, sizes.keys, seed=5)} if bonus else {})

    def fast(p: Parts, m: Memory | None) -> tuple[Tensor, Memory]:
        leaves = (p["q"], p["k"], p["v"], p["g"], _first(m))
        return _held(*gated.gated_attention(*leaves, bonus=p.get("bonus"), final=True))

    def plain(p: Parts, m: Memory | None) -> tuple[Tensor, Memory]:
        leaves = (p["q"], p["k"], p["v"], p["g"], _first(m))
        return _held(*gated.gated_attention_plainly(*leaves, bonus=p.get("bonus")))

    return Recurrence(inputs, _matrix, fast, plain, frozenset(("bonus",)), linear_in="v")


def _delta_rule(*, fading: bool) -> Recurrence:
    def inputs(sizes: Sizes) -> Parts:
        drawn = _attention_inputs(sizes)
        drawn["k"] = F.normalize(drawn["k"], dim=-1)
        drawn["b"] = normal(*drawn["g"].shape, seed=6).sigmoid()
        return drawn if fading else {name: part for name, part in drawn.items() if name != "g"}

    def fast(p: Parts, m: Memory | None) -> tuple[Tensor, Memory]:
        leaves = (p["q"], p["k"], p["v"], p["b"], p.get("g"))
        return _held(*delta.delta_rule(*leaves, state=_first(m), final=True))

    def plain(p: Parts, m: Memory | None) -> tuple[Tensor, Memory]:
        leaves = (p["q"], p["k"], p["v"], p["b"], p.get("g"))
        return _held(*delta.delta_rule_plainly(*leaves, state=_first(m)))

    return Recurrence(inputs, _matrix, fast, plain, linear_in="v")


def _mlstm() -> Recurrence:
    def inputs(sizes: Sizes) -> Parts:
        drawn = _attention_inputs(sizes)
        drawn["w"] = 2 * normal(*drawn["g"].shape, seed=7)
        return drawn

    def memory(sizes: Sizes) -> Memory:
        (matrix,) = _matrix(sizes)
        return matrix, normal(*matrix.shape[:-1], seed=12), normal(*matrix.shape[:2], seed=13)

    def run(form: Callable[..., tuple[Tensor, mlstm.Cell]]) -> Run:
        def call(p: Parts, m: Memory | None) -> tuple[Tensor, Memory]:
            cell = None if m is None else mlstm.Cell(*m)
            return form(p["q"], p["k"], p["v"], p["w"], p["g"], cell=cell)

        return call

    def true_values(m: Memory) -> Memory:
        scale = m[2].exp()[..., None]
        return m[0] * scale[..., None], m[1] * scale

    return Recurrence(
        inputs, memory, run(mlstm.mlstm), run(mlstm.mlstm_plainly), linear_in="v", observed=true_values
    )


def _slstm(*, sigmoid: bool) -> Recurrence:
    def inputs(sizes: Sizes) -> Parts:
        shape = (sizes.heads, sizes.values)
        return {
            "u": normal(sizes.batch, sizes.count, 4, *shape, seed=1),
            "recurrent": normal(4, *shape, sizes.values, seed=2) / 2,
        }

    def memory(sizes: Sizes) -> Memory:
        hidden, cell, normaliser, peak = (
            normal(sizes.batch, sizes.heads, sizes.values, seed=seed) for seed in (11, 12, 13, 14)
        )
        return hidden, cell, 1 + normaliser.abs(), peak

    def run(form: Callable[..., tuple[Tensor, slstm.Cell]]) -> Run:
        def call(p: Parts, m: Memory | None) -> tuple[Tensor, Memory]:
            cell = slstm.empty(p["u"]) if m is None else slstm.Cell(*m)
            return form(p["u"], p["recurrent"], cell, sigmoid=sigmoid)

        return call

    return Recurrence(
        inputs,
        memory,
        run(slstm.slstm),
        run(slstm.slstm_plainly),
        frozenset(("recurrent",)),
        exact_memory=False,
        observed=lambda m: (m[0], m[1] * m[3].exp(), m[2] * m[3].exp()),
    )


def _scan() -> Recurrence:
    def inputs(sizes: Sizes) -> Parts:
        shape = (sizes.batch, sizes.count, sizes.values)
        return {"a": normal(*shape, seed=1).sigmoid(), "b": normal(*shape, seed=2)}

    def run(form: Callable[..., Tensor]) -> Run:
        def call(p: Parts, m: Memory | None) -> tuple[Tensor, Memory]:
            h = form(p["a"], p["b"], _first(m))
            return h, (h[:, -1],)

        return call

    return Recurrence(
        inputs,
        lambda sizes: (normal(sizes.batch, sizes.values, seed=11),),
        run(scan.scan),
        run(scan.scan_plainly),
        linear_in="b",
        exact_memory=False,
    )


def _selective_scan() -> Recurrence:
    def inputs(sizes: Sizes) -> Parts:
        batch, count, _, keys, values = sizes
        return {
            "u": normal(batch, count, values, seed=1),
            "dt": F.softplus(normal(batch, count, values, seed=2) - 1),
            "a": -normal(values, keys, seed=3).exp(),
            "b": normal(batch, count, keys, seed=4),
            "c": normal(batch, count, keys, seed=5),
        }

    def run(form: Callable[..., tuple[Tensor, Tensor]]) -> Run:
        def call(p: Parts, m: Memory | None) -> tuple[Tensor, Memory]:
            return _held(*form(p["u"], p["dt"], p["a"], p["b"], c=p["c"], state=_first(m)))

        return call

    return Recurrence(
        inputs,
        lambda sizes: (normal(sizes.batch, sizes.values, sizes.keys, seed=11),),
        run(selective.selective_scan),
        run(selective.selective_scan_plainly),
        frozenset(("a",)),
        linear_in="u",
        exact_outputs=True,
    )


def _short_conv() -> Recurrence:
    def inputs(sizes: Sizes) -> Parts:
        return {
            "x": normal(sizes.batch, sizes.count, sizes.values, seed=1),
            "weight": normal(sizes.values, TAPS, seed=2),
            "bias": normal(sizes.values, seed=3),
        }

    def fast(p: Parts, m: Memory | None) -> tuple[Tensor, Memory]:
        return _held(*short_conv.short_conv(p["x"], p["weight"], p["bias"], _first(m)))

    def plain(p: Parts, m: Memory | None) -> tuple[Tensor, Memory]:
        x = p["x"]
        before = x.new_zeros(x.shape[0], TAPS - 1, x.shape[2]) if m is None else m[0]
        whole = torch.cat((before, x), dim=1)
        y = short_conv.short_conv_plainly(whole, p["weight"], p["bias"])[:, TAPS - 1 :]
        return y, (whole[:, x.shape[1] :],)

    return Recurrence(
        inputs,
        lambda sizes: (normal(sizes.batch, TAPS - 1, sizes.values, seed=11),),
        fast,
        plain,
        frozenset(("weight", "bias")),
        exact_memory=False,
    )


def _token_shift() -> Recurrence:
    def plain(p: Parts, m: Memory | None) -> tuple[Tensor, Memory]:
        before, changes = torch.zeros_like(p["x"][:, 0]) if m is None else m[0], []
        for x in p["x"].unbind(1):
            changes.append(before - x)
            before = x
        return torch.stack(changes, dim=1), (before,)

    return Recurrence(
        lambda sizes: {"x": normal(sizes.batch, sizes.count, sizes.values, seed=1)},
        lambda sizes: (normal(sizes.batch, sizes.values, seed=11),),
        lambda p, m: _held(*rwkv.token_shift(p["x"], _first(m))),
        plain,
        linear_in="x",
        exact_memory=False,
    )


RECURRENCES: dict[str, Recurrence] = {
    "decay attention": _decay_attention(),
    "decay attention, keys of all heads": _shared_decay_attention(),
    "gated attention": _gated_attention(bonus=False),
    "gated attention with a bonus": _gated_attention(bonus=True),
    "delta rule": _delta_rule(fading=False),
    "gated delta rule": _delta_rule(fading=True),
    "mLSTM": _mlstm(),
    "sLSTM": _slstm(sigmoid=True),
    "sLSTM, exponential": _slstm(sigmoid=False),
    "scan": _scan(),
    "selective scan": _selective_scan(),
    "short convolution": _short_conv(),
    "token shift": _token_shift(),
}
