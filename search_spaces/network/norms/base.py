"""The contract of a norm: what every sublayer, exit, embedding reader and output head puts x through.

A sublayer has it where `place` says, and what it adds to the residual stream may be scaled:

    before   x + scale mixer(norm(x))                 Llama and most others
    after    x + scale norm(mixer(x))                 OLMo 2 (OLMo team 2024, arXiv:2501.00656)
    both     x + scale norm'(mixer(norm(x)))          Gemma 2 (Gemma team 2024, arXiv:2408.00118)

with scale = `residual_scale` (Granite 3; 1 elsewhere). Heads and readers have it in front wherever it stands
in sublayers.

A norm is a frozen configuration: a rule over the channels of x, and the vectors of d_model values that the
rule has as parameters. The vectors are parameters of the module that holds the norm, under the names that the
norm declares. So a supernet keeps them at the largest width (of norms that declare the same name: once), a
subnet reads leading slices, and a mixture sums the norms at its widths.

A file in this folder that adds its class to `norms` is all that a new norm needs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from foundation.registry import Registry
from search_spaces.parameter_axes import WIDTH

BEFORE, AFTER, BOTH = NORM_PLACES = ("before", "after", "both")
"""Where a sublayer has its norm: in front of its mixer, behind it, or both."""

norms: Registry[type[Norm]] = Registry("norm", folder="search_spaces.network.norms")


@dataclass(frozen=True, kw_only=True)
class Norm(ABC):
    """A norm; `epsilon` is added to what it divides by, squared.

    `vectors` are the parameters that its kind may have, by name, with the value that they are filled with;
    names begin with `norm`. `place` and `residual_scale` are those of sublayers; see the module.
    """

    vectors: ClassVar[Mapping[str, float]]

    epsilon: float = 1e-6
    place: str = BEFORE
    residual_scale: float = 1.0

    def check(self) -> None:
        """Raise `IllegalArchitecture` for values out of range."""
        check_number(self, "epsilon", below=1)
        check_number(self, "residual_scale")
        if self.place not in NORM_PLACES:
            raise IllegalArchitecture(
                f"{type(self).__name__}: place must be one of {', '.join(NORM_PLACES)}, got {self.place!r}"
            )

    def at(self, place: str | None) -> Norm:
        """The same norm at another place of its sublayers, if one is given."""
        return self if place is None else replace(self, place=place)

    def is_like(self, other: Norm) -> bool:
        """Whether it is the same norm, wherever both have their place: a layer may have one of its own."""
        return self.at(other.place) == other

    @property
    def held(self) -> Mapping[str, float]:
        """The vectors that it has, of those of its kind."""
        return self.vectors

    @property
    def sublayer_vectors(self) -> Mapping[str, float]:
        """Those that it has in a sublayer: of the norm before the mixer, and of that after it."""
        before = {} if self.place == AFTER else dict(self.held)
        return before if self.place == BEFORE else before | after_names(self.held)

    @abstractmethod
    def apply(self, x: Tensor, shape: Sequence[int], vectors: Sequence[Tensor] = ()) -> Tensor:
        """x normalized over its last axes, which have this `shape`; without `vectors`, by the rule alone.

        The vectors are given in the order of `held`, each in this shape.
        """

    def normalized(self, x: Tensor, vectors: Mapping[str, Tensor]) -> Tensor:
        """x [..., D] through the norm."""
        return self.apply(x, x.shape[-1:], [vectors[name] for name in self.held])

    def enter(self, x: Tensor, vectors: Mapping[str, Tensor]) -> Tensor:
        """What the mixer of a sublayer reads of x [..., D]."""
        return x if self.place == AFTER else self.normalized(x, vectors)

    def leave(self, y: Tensor, vectors: Mapping[str, Tensor]) -> Tensor:
        """What a sublayer adds to x, from what its mixer puts out [..., D]."""
        if self.place != BEFORE:
            y = self.apply(y, y.shape[-1:], [vectors[name] for name in after_names(self.held)])
        return y if self.residual_scale == 1 else self.residual_scale * y

    @property
    def leaves_alone(self) -> bool:
        """Whether a sublayer adds what its mixer puts out as it is."""
        return self.place == BEFORE and self.residual_scale == 1

    def params(self, d_model: int) -> int:
        """How many scalars its vectors have."""
        return len(self.held) * d_model

    def sublayer_params(self, d_model: int) -> int:
        """How many scalars its vectors have in a sublayer."""
        return len(self.sublayer_vectors) * d_model

    def shapes(self, d_model: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of every vector."""
        return dict.fromkeys(self.held, (d_model,))


def after_names(vectors: Mapping[str, float]) -> dict[str, float]:
    """The same vectors under the names that they have behind a mixer."""
    return {f"{name}_{AFTER}": start for name, start in vectors.items()}


class Normalized(nn.Module):
    """A module whose own parameters include the vectors of a norm."""

    norm_rule: Norm
    norm_starts: Mapping[str, float]

    def add_norm(self, norm: Norm, d_model: int, *, sublayer: bool = False) -> None:
        """Register the vectors, those of a sublayer if so, behind the parameters that are there already."""
        self.norm_rule = norm
        self.norm_starts = norm.sublayer_vectors if sublayer else norm.held
        for name in self.norm_starts:
            self.register_parameter(name, nn.Parameter(torch.empty(d_model)))

    @property
    def norm_vectors(self) -> dict[str, Tensor]:
        """The vectors by name."""
        return {name: getattr(self, name) for name in self.norm_starts}

    def normed(self, x: Tensor) -> Tensor:
        """x [..., D] through the norm."""
        return self.norm_rule.normalized(x, self.norm_vectors)

    def reset_norm(self, share: float = 1.0) -> None:
        """Fill the vectors with the values that they start with, times `share`."""
        for name, start in self.norm_starts.items():
            getattr(self, name).fill_(share * start)


def all_vectors(kinds: Iterable[Norm]) -> dict[str, float]:
    """The vectors of any of these norms in a sublayer, with the values that they are filled with."""
    return {name: start for norm in kinds for name, start in norm.sublayer_vectors.items()}


def norm_axes() -> dict[str, str]:
    """The axes of the vectors of every registered norm: a layout may name parameters that are not there."""
    kinds = [kind.vectors for kind in norms.values()]
    return {name: WIDTH for vectors in kinds for name in (*vectors, *after_names(vectors))}


def check_number(value: Any, name: str, *, below: float = math.inf) -> None:
    """Raise `IllegalArchitecture` unless a field is a number between 0 and a bound."""
    number = getattr(value, name)
    if isinstance(number, (int, float)) and not isinstance(number, bool) and 0 < number < below:
        return
    must = "positive" if below == math.inf else f"in (0, {below})"
    raise IllegalArchitecture(f"{type(value).__name__}: {name} must be {must}, got {number!r}")
