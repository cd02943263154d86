"""Which tensors of a checkpoint are which of our parameters: rules that are read in both directions.

    One("mixer.wq", "self_attn.q_proj.weight", "H K D -> (H K) D")
    Joined(("mixer.gated", "mixer.up"), "mlp.gate_up_proj.weight", "F D -> F D", axis=0)
    Each("mixer.up", "experts.{}.up_proj.weight", "F D -> F D")
    Inner(One("mixer.wq", "q_proj.weight"), "mixers.1_Attention.")
    InTurns(("mixer.wq", "mixer.wz"), "qz.weight", ("H K D -> (H K) D",) * 2, ("mixer.wk", 0))

Names of parameters are those within the sublayer (`norm`, `mixer.wq`), names of tensors those within the
layer. What a rule makes of our parameters on the meta device is what a checkpoint must hold.

Values may differ by a constant: the gain of a norm that is stored as its distance from one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from search_spaces.families.patterns import Pattern

Shape: TypeAlias = Sequence[int]

MIXER = "mixer."
"""How the names of a block's parameters begin within a sublayer."""


class Rule(ABC):
    """Some of our parameters and some of their tensors that hold the same."""

    parameters: tuple[str, ...]
    """Names of ours."""

    @abstractmethod
    def theirs(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Their tensors by name."""

    @abstractmethod
    def ours(self, theirs: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Tensor]]:
        """Our parameters, of these shapes, one after the other; their tensors are read when needed."""


@dataclass(frozen=True)
class One(Rule):
    """One tensor that is one parameter: ours = theirs + plus, with axes as `pattern` says.

    Without a pattern the axes are the same. With `flip` the last one runs the other way, as the taps of
    convolutions do.
    """

    parameter: str
    tensor: str
    pattern: str = ""
    _: KW_ONLY
    plus: float = 0.0
    flip: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:  # type: ignore[override]
        """The one."""
        return (self.parameter,)

    def theirs(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The one tensor."""
        value = _shifted(ours[self.parameter], -self.plus)
        value = Pattern(self.pattern).theirs(value) if self.pattern else value
        return {self.tensor: value.flip(-1) if self.flip else value}

    def ours(self, theirs: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Tensor]]:
        """The one parameter."""
        value = theirs[self.tensor].flip(-1) if self.flip else theirs[self.tensor]
        if self.pattern:
            value = Pattern(self.pattern).ours(value, shapes[self.parameter])
        yield self.parameter, _shifted(value, self.plus)


@dataclass(frozen=True)
class Joined(Rule):
    """One tensor that holds several parameters, one behind the other along an `axis`.

    Each has the same axes there (`pattern`, or one for each parameter); `then` is a pattern from what is
    joined to the tensor itself. With `flip` its last axis runs the other way.
    """

    parameters: tuple[str, ...]
    tensor: str
    pattern: str | tuple[str, ...]
    _: KW_ONLY
    axis: int = 0
    then: str = ""
    flip: bool = False

    def theirs(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The one tensor."""
        pieces = [Pattern(pattern).theirs(ours[name]) for name, pattern in self._patterns()]
        joined = torch.cat(pieces, self.axis)
        joined = Pattern(self.then).theirs(joined) if self.then else joined
        return {self.tensor: joined.flip(-1) if self.flip else joined}

    def ours(self, theirs: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Tensor]]:
        """The pieces of the one tensor."""
        forms = [
            Pattern(pattern).theirs(torch.empty(tuple(shapes[name]), device="meta"))
            for name, pattern in self._patterns()
        ]
        joined = theirs[self.tensor].flip(-1) if self.flip else theirs[self.tensor]
        if self.then:
            joined = Pattern(self.then).ours(joined, torch.cat(forms, self.axis).shape)
        pieces = joined.split([form.shape[self.axis] for form in forms], self.axis)
        for (name, pattern), piece in zip(self._patterns(), pieces, strict=True):
            yield name, Pattern(pattern).ours(piece, shapes[name])

    def _patterns(self) -> list[tuple[str, str]]:
        many = (self.pattern,) * len(self.parameters) if isinstance(self.pattern, str) else self.pattern
        return list(zip(self.parameters, many, strict=True))


@dataclass(frozen=True)
class Each(Rule):
    """One parameter whose entries along its first axis are tensors of their own.

    `tensors` are their names, or one name with `{}` in the place of the number. With `flip` their last axis
    runs the other way.
    """

    parameter: str
    tensors: str | tuple[str, ...]
    pattern: str = ""
    _: KW_ONLY
    flip: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:  # type: ignore[override]
        """The one."""
        return (self.parameter,)

    def theirs(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A tensor for each entry."""
        entries = ours[self.parameter].unbind(0)
        if self.pattern:
            entries = tuple(Pattern(self.pattern).theirs(entry) for entry in entries)
        if self.flip:
            entries = tuple(entry.flip(-1) for entry in entries)
        return dict(zip(self._names(len(entries)), entries, strict=True))

    def ours(self, theirs: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Tensor]]:
        """All entries as one parameter."""
        count, *rest = shapes[self.parameter]
        entries = [theirs[name] for name in self._names(count)]
        if self.flip:
            entries = [entry.flip(-1) for entry in entries]
        if self.pattern:
            entries = [Pattern(self.pattern).ours(entry, rest) for entry in entries]
        yield self.parameter, torch.stack(entries)

    def _names(self, count: int) -> list[str]:
        if isinstance(self.tensors, str):
            return [self.tensors.format(index) for index in range(count)]
        assert len(self.tensors) == count, f"{self.parameter} has {count} entries, not {len(self.tensors)}"
        return list(self.tensors)


@dataclass(frozen=True)
class Inner(Rule):
    """The rule of a mixer that stands inside of another one, where its parameters have this `path`."""

    rule: Rule
    path: str

    @property
    def parameters(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the rule, with the path."""
        return tuple(self._outside(name) for name in self.rule.parameters)

    def theirs(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the rule makes of them."""
        return self.rule.theirs({name: ours[self._outside(name)] for name in self.rule.parameters})

    def ours(self, theirs: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Tensor]]:
        """Those of the rule, with the path."""
        own = {name: shapes[self._outside(name)] for name in self.rule.parameters}
        for name, value in self.rule.ours(theirs, own):
            yield self._outside(name), value

    def _outside(self, name: str) -> str:
        return f"{MIXER}{self.path}{name.removeprefix(MIXER)}"


@dataclass(frozen=True)
class InTurns(Rule):
    """One tensor that holds several parameters in turns: of each its share for the first group, and so on.

    `patterns` make rows of each, those of a group behind each other; `groups` is a parameter and its axis
    that has as many entries as there are groups.
    """

    parameters: tuple[str, ...]
    tensor: str
    patterns: tuple[str, ...]
    groups: tuple[str, int]

    def theirs(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The one tensor."""
        name, axis = self.groups
        count = ours[name].shape[axis]
        rows = (Pattern(p).theirs(ours[own]) for own, p in zip(self.parameters, self.patterns, strict=True))
        return {self.tensor: torch.cat([part.unflatten(0, (count, -1)) for part in rows], 1).flatten(0, 1)}

    def ours(self, theirs: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Tensor]]:
        """The parameters, put together from their shares."""
        name, axis = self.groups
        count = shapes[name][axis]
        named = list(zip(self.parameters, self.patterns, strict=True))
        forms = [Pattern(p).theirs(torch.empty(tuple(shapes[own]), device="meta")) for own, p in named]
        whole = theirs[self.tensor].unflatten(0, (count, -1))
        shares = whole.split([form.shape[0] // count for form in forms], 1)
        for (own, pattern), share in zip(named, shares, strict=True):
            yield own, Pattern(pattern).ours(share.flatten(0, 1), shapes[own])


def _shifted(value: Tensor, plus: float) -> Tensor:
    """value + plus; untouched where that changes nothing."""
    return value.to(torch.promote_types(value.dtype, torch.float32)) + plus if plus else value
