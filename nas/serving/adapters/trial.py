"""Whether a network's products with some of its parameters can be adapted, and row by row: it is tried.

Each sublayer with an adapted parameter reads and steps random rows, with random factors of that parameter in
the mode of `rows`, and with the same factors merged into the parameter. Blocks say nothing about it.

Shapes: B rows, T tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from evaluators.compression.low_rank import PLACES, Shape, matrices
from foundation.errors import SettingError
from nas.serving.adapters.rows import AdaptedRows, OtherRows, Stack
from search_spaces.blocks.base import State
from search_spaces.network.model import Model
from search_spaces.network.residual import Residual

READ, RANK = 5, 2
ROWS, MANY = 3, 16
"""Rows that are tried; and for experts, so that it is unlikely that all choose the same."""

ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4}
COARSE = 2e-2
"""Relative differences that rounding may make; the second is that of types of 16 bits."""

SHARE = 0.1
"""How much of what an adapter changes may be different: what misses a product misses all of it."""


def mixable(model: Model, names: Collection[str]) -> bool:
    """Whether rows of a batch may each have their own factors of these parameters; else one after the other.

    Raises:
        SettingError: a parameter takes part in a product that cannot be adapted at all.
    """
    for number, layer in enumerate(model.spec.layers):
        inside = f"layers.{number}.channel_mixer."
        if layer.precision is not None and any(name.startswith(inside) for name in names):
            raise SettingError(
                f"layers.{number} sends tokens to one of two precisions, and no adapter of its channel mixer"
                " can follow from outside: serve the merged network that `nas adapt` has written"
            )
    shapes, known = matrices(model, PLACES), dict[tuple[object, ...], bool]()
    for path, sublayer in model.named_modules():
        for name in names if isinstance(sublayer, Residual) else ():
            own = name.removeprefix(f"{path}.")
            key = (sublayer.block, sublayer.bits, own)
            if own == name or key in known:
                continue
            tried = Trial(sublayer, own, shapes[name], model.spec.d_model)
            if not tried.alone():
                raise SettingError(
                    f"{name} of {type(sublayer.block).__name__} takes part in a product that no adapter can"
                    " change from outside: serve the merged network that `nas adapt` has written"
                )
            known[key] = tried.together()
    routed = any(layer.routing is not None for layer in model.spec.layers)  # passes its rows one by one
    return all(known.values()) and not (names and routed)


class Trial:
    """Random rows and factors for one parameter of a sublayer."""

    @torch.no_grad()
    def __init__(self, sublayer: Residual, own: str, shape: Shape, d_model: int) -> None:
        parameter = dict(sublayer.named_parameters())[own]
        like: dict[str, Any] = {"device": parameter.device, "dtype": parameter.dtype}
        like["generator"] = torch.Generator(parameter.device).manual_seed(0)
        rows = ROWS if shape.stacked == 1 else MANY
        down = torch.randn(rows, shape.stacked, RANK, shape.inputs, **like)
        up = torch.randn(rows, shape.stacked, shape.rows, RANK, **like)
        up *= float(parameter.float().std()) + 1e-3
        self._sublayer, self._passed = sublayer, _Pass(sublayer)
        self._stacks = {id(parameter): Stack(parameter, down, up, None)}
        self._read = torch.randn(rows, READ, d_model, **like)
        merged = (parameter + (u @ d).view_as(parameter) for d, u in zip(down, up, strict=True))
        self._expected = [
            functional_call(self._passed, {f"sublayer.{own}": weight}, (row[None],))
            for weight, row in zip(merged, self._read, strict=True)
        ]
        self._base = [self._passed(row[None]) for row in self._read]

    @torch.no_grad()
    def alone(self) -> bool:
        """Whether a pass of one row with an adapter is that with merged weights."""
        try:
            for slot, row in enumerate(self._read):
                with AdaptedRows(self._stacks, slot):
                    passed = self._passed(row[None])
                if not all(self._agree(slot, i, passed[i]) for i in (0, 1)):
                    return False
        except OtherRows:
            return False
        return True

    @torch.no_grad()
    def together(self) -> bool:
        """Whether a step of all rows, each with its adapter, is that of each row alone."""
        device, rows = self._read.device, len(self._read)
        states = [expected[2] for expected in self._expected]
        state = {name: torch.cat([each[name] for each in states]) for name in states[0]}
        at = torch.full((rows,), READ - 1, device=device)
        try:
            with AdaptedRows(self._stacks, torch.arange(rows, device=device)):
                last, _ = self._sublayer.step(self._read[:, -1], state, at)
        except OtherRows:
            return False
        return all(self._agree(slot, 1, last[slot]) for slot in range(rows))

    def _agree(self, slot: int, part: int, found: Tensor) -> bool:
        right, base = (passes[slot][part].float() for passes in (self._expected, self._base))
        slack = ROUNDING.get(self._read.dtype, COARSE) * right.norm() + SHARE * (right - base).norm()
        return bool((found.float().view_as(right) - right).norm() <= slack)


class _Pass(nn.Module):
    """A row that is read and then stepped once."""

    def __init__(self, sublayer: Residual) -> None:
        super().__init__()
        self.sublayer = sublayer

    def forward(self, row: Tensor) -> tuple[Tensor, Tensor, State]:
        """Of x [1, T, D]: the outputs of all tokens but the last, that of the last, the state before it."""
        stored = self.sublayer.init_state(1, READ)
        read = self.sublayer(row[:, :-1], stored, 0)
        before = {name: part.clone() for name, part in (read.state or {}).items()}
        last, _ = self.sublayer.step(row[:, -1], read.state or {}, READ - 1)
        return read.y, last, before
