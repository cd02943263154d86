"""A soft prompt: what a network has learned to read before any text, as virtual tokens.

    vectors    x = [p_1 .. p_P, embed(tokens)]          prompt tuning (Lester et al. 2021, arXiv:2104.08691)
    states     each mixer begins with a learned state   prefix tuning (Li & Liang 2021, arXiv:2101.00190)

Vectors stand in the residual stream before the first layer, and every layer reads them like tokens. States
are what a mixer would hold after P tokens: keys and values of attention, the memory of a recurrence, the last
inputs of a convolution (`Block.state`). Either way the text stands at the positions behind the virtual
tokens. Positions and capacities of a `DecodeState` count the text alone.

Shapes: B batch, T tokens, P virtual tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, State
from search_spaces.language.serialization import parts
from search_spaces.quantization.bits import Bits

NAME = "soft_prompt"
"""The field of a decoder, and the module of its parameters."""

FORMS = ("vectors", "states")
VECTORS, STATES = FORMS


class Placed(Protocol):
    """What a soft prompt asks of a layer."""

    @property
    def blocks(self) -> dict[str, Block]:
        """Its blocks by place."""

    @property
    def routing(self) -> object:
        """Its router; None where all tokens pass."""

    @property
    def exit(self) -> object:
        """Its early exit, if any."""

    def bits_at(self, place: str) -> Bits:
        """The bits of its sublayer at a place."""


@parts.add
@dataclass(frozen=True, kw_only=True)
class SoftPrompt:
    """`tokens` virtual tokens, as `vectors` before the first layer or as `states` of all mixers."""

    tokens: int = 16
    form: str = VECTORS

    def check(self, layers: Sequence[Placed]) -> None:
        """Raise `IllegalArchitecture`, naming the layer, where a network cannot begin so."""
        if not isinstance(self.tokens, int) or isinstance(self.tokens, bool) or self.tokens < 1:
            raise IllegalArchitecture(f"soft_prompt: tokens must be a positive integer, got {self.tokens!r}")
        if self.form not in FORMS:
            raise IllegalArchitecture(f"soft_prompt: form must be vectors or states, got {self.form!r}")
        for index, layer in enumerate(layers):
            if why := self._refused_by(layer):
                raise IllegalArchitecture(f"layers.{index} {why}, so it has no soft prompt of {self.form}")

    def _refused_by(self, layer: Placed) -> str:
        if self.form == VECTORS:
            return "" if layer.exit is None else "lets tokens leave the network"
        if layer.routing is not None:
            return "learns from whole sequences, because only some tokens pass it"
        for place, block in layer.blocks.items():
            shapes = block.state(1)
            if any(shape.derived for shape in shapes.values()):
                return f"has {type(block).__name__}, whose state holds what follows from its weights"
            if shapes and layer.bits_at(place).state != 16:
                return f"keeps its decode state at {layer.bits_at(place).state} bits"
        return ""

    def shapes(self, d_model: int, layers: Sequence[Placed]) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter."""
        if self.form == VECTORS:
            return {VECTORS: (self.tokens, d_model)}
        return {
            f"{index}.{place}.{name}": shape.allocated(1, self.tokens)[1:]
            for index, layer in enumerate(layers)
            for place, block in layer.blocks.items()
            for name, shape in block.state(d_model).items()
        }

    def params(self, d_model: int, layers: Sequence[Placed]) -> int:
        """How many parameters it has; all are stored in 32 bits."""
        return sum(map(prod, self.shapes(d_model, layers).values()))

    def build(self, d_model: int, layers: Sequence[Placed]) -> LearnedPrompt:
        """The module, its parameters allocated but not yet filled."""
        return LearnedPrompt(self, self.shapes(d_model, layers))


class LearnedPrompt(nn.Module):
    """The parameters of a soft prompt."""

    def __init__(self, spec: SoftPrompt, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.spec, self._names = spec, tuple(shapes)
        for name, shape in shapes.items():
            *path, last = name.split(".")
            home: nn.Module = self
            for part in path:
                if part not in home._modules:
                    home.add_module(part, nn.Module())
                home = home.get_submodule(part)
            home.register_parameter(last, nn.Parameter(torch.empty(shape)))

    def before(self, x: Tensor) -> Tensor:
        """The vectors in front of x [B, T, D]: [B, P + T, D]."""
        return torch.cat((self.rows(x.shape[0]).to(x.dtype), x), dim=1)

    def rows(self, batch: int) -> Tensor:
        """The vectors for so many rows [B, P, D]."""
        vectors: Tensor = getattr(self, VECTORS)
        return vectors.expand(batch, -1, -1)

    def filled(self, index: int, place: str, empty: State) -> State:
        """An empty state of a mixer [B, ...], with what was learned in the place of its first tokens."""
        kept: State = {}
        for name, part in empty.items():
            learned = self._held(f"{index}.{place}.{name}").to(part.dtype)
            if learned.shape != part.shape[1:]:  # one entry per token
                learned = F.pad(learned, (0, 0, 0, part.shape[-2] - learned.shape[-2]))
            kept[name] = learned.expand_as(part).clone()  # a state is written to
        return kept

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Vectors like embeddings, and states as they are without a prompt."""
        for name, parameter in self.named_parameters():
            if name == VECTORS:
                parameter.normal_(generator=dice)
            else:
                parameter.zero_()

    def _held(self, name: str) -> Tensor:
        """A parameter, or what a caller has put in its place for this pass."""
        held: Any = self
        for part in name.split("."):
            held = getattr(held, part)
        value: Tensor = held
        return value
