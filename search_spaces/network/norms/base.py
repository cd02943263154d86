"""The contract of a norm: what every sublayer, exit, embedding reader and output head puts x through first.

A norm is a frozen configuration: a rule over the channels of x, and the vectors of d_model values that the
rule has as parameters. The vectors are parameters of the module that holds the norm, under the names that the
norm declares. So a supernet keeps them at the largest width (of norms that declare the same name: once), a
subnet reads leading slices, and a mixture sums the norms at its widths.

A file in this folder that adds its class to `norms` is all that a new norm needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from foundation.registry import Registry
from search_spaces.parameter_axes import WIDTH

norms: Registry[type[Norm]] = Registry("norm", folder="search_spaces.network.norms")


@dataclass(frozen=True, kw_only=True)
class Norm(ABC):
    """A norm; `epsilon` is added to what it divides by, squared.

    `vectors` are its parameters, by name, with the value that they are filled with; names begin with `norm`.
    """

    vectors: ClassVar[Mapping[str, float]]

    epsilon: float = 1e-6

    def check(self) -> None:
        """Raise `IllegalArchitecture` for values out of range."""
        if not isinstance(self.epsilon, (int, float)) or not 0 < self.epsilon < 1:
            kind = type(self).__name__
            raise IllegalArchitecture(f"{kind}: epsilon must be in (0, 1), got {self.epsilon!r}")

    @abstractmethod
    def apply(self, x: Tensor, shape: Sequence[int], vectors: Sequence[Tensor] = ()) -> Tensor:
        """x normalized over its last axes, which have this `shape`; without `vectors`, by the rule alone.

        The vectors are given in the order of `vectors` above, each in this shape.
        """

    def params(self, d_model: int) -> int:
        """How many scalars its vectors have."""
        return len(self.vectors) * d_model

    def shapes(self, d_model: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of every vector."""
        return dict.fromkeys(self.vectors, (d_model,))

    def stored_bytes(self, d_model: int) -> int:
        """Bytes of its vectors as an exported model stores them: 32 bits each."""
        return 4 * self.params(d_model)


class Normalized(nn.Module):
    """A module whose own parameters include the vectors of a norm."""

    norm_rule: Norm

    def add_norm(self, norm: Norm, d_model: int) -> None:
        """Register the vectors, empty, behind the parameters that are there already."""
        self.norm_rule = norm
        for name in norm.vectors:
            self.register_parameter(name, nn.Parameter(torch.empty(d_model)))

    @property
    def norm_vectors(self) -> list[Tensor]:
        """The vectors, in the order of the norm's declaration."""
        return [getattr(self, name) for name in self.norm_rule.vectors]

    def normed(self, x: Tensor) -> Tensor:
        """x [..., D] through the norm."""
        return self.norm_rule.apply(x, x.shape[-1:], self.norm_vectors)

    def reset_norm(self, share: float = 1.0) -> None:
        """Fill the vectors with the values that they start with, times `share`."""
        for name, start in self.norm_rule.vectors.items():
            getattr(self, name).fill_(share * start)


def all_vectors(kinds: Iterable[Norm]) -> dict[str, float]:
    """The vectors of any of these norms, with the values that they are filled with."""
    return {name: start for norm in kinds for name, start in norm.vectors.items()}


def norm_axes() -> dict[str, str]:
    """The axes of the vectors of every registered norm: a layout may name parameters that are not there."""
    return {name: WIDTH for kind in norms.values() for name in kind.vectors}
