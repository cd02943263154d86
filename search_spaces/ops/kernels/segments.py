"""How kernels of recurrences cut time: into segments, each walked by a program, and those into chunks.

A first kernel finds the state that each segment alone writes; here states are carried over segments; then
each program walks its segment from its true state.

Shapes: B batch, T tokens, H heads, N state_dim, P head_dim, S segments, C chunks, L chunk length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from search_spaces.ops.kernels.tiles import CHUNK, COUNTS, padded, precision
from search_spaces.ops.kernels.tuning import Launch, compiled, launch

PROGRAMS = 264
"""Programs that a kernel over segments should have at least: two for each multiprocessor of an H200."""

CARRY, BLOCK = Launch(4), 1024
"""How states are carried over segments, and how many values of them by one program."""

PARTS, WALKERS = (64, 32), 256
"""Rows and columns of a state that one program may walk with, and how many programs should walk."""


@triton.jit(do_not_specialize=COUNTS)
def _carry(states, totals, first, last, segments, size, channels, p_dim,
           REVERSE: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """In place: what each segment writes becomes the state that it starts from; `last` is what comes out."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    if first is not None:
        state = tl.load(first + row * size + at, mask=inside, other=0.0).to(tl.float32)
    else:
        state = tl.zeros((BLOCK,), dtype=tl.float32)
    for i in range(segments):
        segment = segments - 1 - i if REVERSE else i
        where = states + (row * segments + segment) * size + at
        written = tl.load(where, mask=inside, other=0.0)
        tl.store(where, state, mask=inside)
        fade = tl.load(totals + (row * segments + segment) * channels + at // p_dim, mask=inside, other=0.0)
        state = state * tl.exp(fade) + written
    tl.store(last + row * size + at, state, mask=inside)


@dataclass(frozen=True)
class Plan:
    """How one call is cut into programs: B rows of H heads, S segments of C chunks."""

    batch: int
    count: int
    heads: int
    n_dim: int
    p_dim: int
    chunks: int
    segments: int
    tiles: dict[str, Any]
    most: int = 1
    """How many segments longer sequences may have."""

    part: int = 0

    @classmethod
    def of(
        cls, q: Tensor, v: Tensor, shortest: int = 4, programs: int = PROGRAMS, length: int = CHUNK
    ) -> Plan:
        """For q [B, T, H, N] and v [B, T, H, P]; segments have at least `shortest` chunks of this length."""
        batch, count, heads, p_dim = v.shape
        whole = triton.cdiv(count, length)
        most = max(1, triton.cdiv(programs, batch * heads))
        wanted = max(1, min(most, triton.cdiv(whole, shortest)))
        chunks = triton.cdiv(whole, wanted)
        tiles = {"L": length, "N": padded(q.shape[-1]), "P": padded(p_dim), "PRECISION": precision(v)}
        segments = triton.cdiv(whole, chunks)
        return cls(batch, count, heads, q.shape[-1], p_dim, chunks, segments, tiles, most)

    @classmethod
    def in_parts(cls, q: Tensor, v: Tensor, length: int = CHUNK) -> Plan:
        """The same where the parts of a state are walked by programs of their own, and so one may do."""
        rows = v.shape[0] * v.shape[2]
        for part in PARTS:
            parts = triton.cdiv(q.shape[-1], part) * triton.cdiv(v.shape[-1], part)
            if rows * parts >= WALKERS:
                break
        return replace(cls.of(q, v, programs=WALKERS // parts, length=length), part=part)

    @property
    def rows(self) -> int:
        """Heads of all sequences."""
        return self.batch * self.heads

    @property
    def grid(self) -> tuple[int, int]:
        """Programs of a kernel over segments."""
        return self.rows, self.segments

    @property
    def walkers(self) -> tuple[int, int, int]:
        """Programs of a kernel over segments and parts of a state."""
        n_dim, p_dim = self.dims
        return *self.grid, triton.cdiv(n_dim, self.parts["N"]) * triton.cdiv(p_dim, self.parts["P"])

    @property
    def parts(self) -> dict[str, Any]:
        """The tiles of such a kernel."""
        return {**self.tiles, "N": min(self.tiles["N"], self.part), "P": min(self.tiles["P"], self.part)}

    @property
    def total(self) -> int:
        """Chunks of all segments."""
        return self.segments * self.chunks

    @property
    def over_chunks(self) -> tuple[int, int]:
        """Programs of a kernel over chunks."""
        return self.rows, self.total

    @property
    def dims(self) -> tuple[int, int]:
        """N and P."""
        return self.n_dim, self.p_dim

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """What kernels over segments are told of the cut."""
        return self.count, self.heads, self.chunks, self.segments

    @property
    def wide(self) -> bool:
        """Whether a state is too large for four warps."""
        return bool(self.tiles["N"] * self.tiles["P"] > 4096)


def of_segments(plan: Plan, like: Tensor, *, channels: bool) -> tuple[Tensor, Tensor]:
    """Unwritten float32 memory for states of segments [B H, S, N, P], and logarithms of what each keeps.

    There is one [B H, S], or one for every channel [B H, S, N].
    """
    cut = (plan.rows, plan.segments)
    states = like.new_empty(*cut, *plan.dims, dtype=torch.float32)
    return states, states.new_empty(*cut, *((plan.n_dim,) if channels else ()))


def carry(states: Tensor, totals: Tensor, first: Tensor | None, last: Tensor, *, reverse: bool) -> None:
    """Carry states [B H, S, N, P] over segments in place, from `first` [B, H, N, P], if any, to `last`.

    `totals` are logarithms of what a segment keeps: one [B H, S], or one for every channel [B H, S, N].
    """
    grid, arguments = _carried(states, totals, first, last)
    _carry[grid](*arguments, REVERSE=reverse, BLOCK=BLOCK, **CARRY.options)  # in place, so once


def _carried(
    states: Tensor, totals: Tensor, first: Tensor | None, last: Tensor
) -> tuple[tuple[int, int], tuple[Any, ...]]:
    rows, segments, size = states.shape[0], states.shape[1], states[0, 0].numel()
    channels = totals[0, 0].numel()
    first = None if first is None else first.contiguous()
    sizes = (segments, size, channels, size // channels)
    return (rows, triton.cdiv(size, BLOCK)), (states, totals, first, last, *sizes)


def walked(
    plan: Plan,
    kernel: Any,
    inputs: tuple[Tensor, Tensor, Tensor],
    state: Tensor | None,
    read: tuple[Any, ...],
    *,
    launches: Sequence[Launch],
    channels: bool,
) -> tuple[Tensor, Tensor]:
    """The states before chunks [B H, C, N, P], or the slopes behind them; and what comes out in the end.

    The kernel walks over rows, columns and decays, from `state` [B, H, N, P] if any; the last that it has to
    `read` besides says whether in reverse. With `channels` there is a decay for each. Where a longer sequence
    has several segments, what it needs is compiled with the first.
    """
    columns, reverse = inputs[1], bool(read[-1])
    each = columns.new_empty(plan.rows, plan.total, *plan.dims)
    ends = columns.new_empty(plan.batch, plan.heads, *plan.dims, dtype=torch.float32)
    starts = None if state is None else state.contiguous()
    if plan.most > 1:
        begun, totals = of_segments(plan, columns, channels=channels)
        alone = (*inputs, None, None, begun, totals, *read, False)
        if plan.segments == 1:
            compiled(kernel, plan.walkers, alone, launches, **plan.parts)
            grid, carried = _carried(begun, totals, state, ends)
            compiled(_carry, grid, carried, (CARRY,), REVERSE=reverse, BLOCK=BLOCK)
            starts = torch.zeros_like(begun) if starts is None else starts
        else:
            launch(kernel, plan.walkers, alone, (begun, totals), launches, **plan.parts)
            carry(begun, totals, state, ends, reverse=reverse)
            starts = begun
    walk = (*inputs, starts, each, ends, None, *read, True)
    launch(kernel, plan.walkers, walk, (each, ends), launches, **plan.parts)
    return each, ends
