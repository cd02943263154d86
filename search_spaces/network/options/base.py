"""The contract of a layer option: what a field of `Layer` beside its blocks is to everything else.

An option is a frozen value that stands in a field of `Layer` (or what such a field's plain value means: see
`LayerOption.of`). It declares its parameters, their layout and its price, and what others may do with a layer
that has it; whoever searches, mixes or times layers asks the declaration, and never lists options by name.

    routing: MixtureOfDepths | None = option(MixtureOfDepths)       # a field of `Layer`

What it computes is used where the layer's module is (`network.layer`).

Each of `not_additive`, `not_relaxable` and `not_static` is empty where an option allows the thing, and
otherwise the reason why not, for messages.
"""

from __future__ import annotations

from dataclasses import field
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Cost
from search_spaces.language.printing import brief
from search_spaces.network.shell import Shell
from search_spaces.parameter_axes import Layout
from search_spaces.quantization.bits import WeightFormat, weight_bytes
from search_spaces.scenario import Scenario


class OptionModule(nn.Module):
    """The parameters of an option, as a submodule of its layer that is named like its field."""

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Fill every parameter in place; `dice` is the only source of randomness."""
        raise NotImplementedError


class LayerOption:
    """An option of a layer; see the module.

    `computed` names the tokens that it is computed for: all that reach the layer, those that pass its router,
    or those that have not left the network before it. `predicts` says that it makes logits of its own.
    """

    not_additive: ClassVar[str] = ""
    """Why costs and effects of the sublayers do not add up over layers with it."""

    not_relaxable: ClassVar[str] = "this option cannot be relaxed"
    """Why a mixture over architectures cannot contain it."""

    not_static: ClassVar[str] = ""
    """Why shapes depend on values with it, so that no step can be captured (CUDA graphs, torch.export)."""

    computed: ClassVar[Literal["all", "passing", "staying"]] = "all"
    predicts: ClassVar[bool] = False
    reads_channels_twice: ClassVar[bool] = False
    """Whether the channel mixer runs twice for every token, and one of both results is taken."""

    @classmethod
    def of(cls, value: Any) -> LayerOption | None:
        """The option that a field's value means; None where the field is at its default.

        Raises:
            IllegalArchitecture: the value is none of this field.
        """
        if value is None or isinstance(value, cls):
            return value
        raise IllegalArchitecture(f"expected {cls.__name__} or None, got {value!r}")

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        """Values of the field that cover its variants, for the contract tests."""
        return (cls(),)

    @classmethod
    def beside(cls) -> dict[str, Any]:
        """Other fields that a layer needs to have one of the examples."""
        return {}

    @classmethod
    def layout(cls) -> Layout:
        """The axes of its parameters."""
        return Layout({}, "")

    def check(self) -> None:
        """Raise `IllegalArchitecture` where the values are out of range."""

    def check_layer(self, layer: Any, d_model: int) -> None:
        """Raise `IllegalArchitecture` where a `Layer`, whose other parts are legal, cannot have it."""

    def build(self, shell: Shell) -> OptionModule | None:
        """The module with its parameters, not yet filled; None for an option without parameters."""
        return None

    def cost(self, shell: Shell, scenario: Scenario) -> Cost:
        """Analytic parameters and FLOPs, for the tokens that it is `computed` for."""
        return Cost()

    def seen(self, scenario: Scenario) -> Scenario:
        """The scenario as the sublayers see it."""
        return scenario

    def tokens(self, count: int) -> int:
        """How many of `count` tokens the sublayers keep a state of."""
        return count

    @property
    def passing(self) -> float:
        """The share of tokens that the sublayers compute."""
        return 1.0

    @property
    def leaving(self) -> float:
        """The share of all tokens that is expected to leave the network behind this layer."""
        return 0.0

    def __str__(self) -> str:
        return brief(self)


def option(kind: type[LayerOption], default: Any = None) -> Any:
    """A field of `Layer` for an option of this kind; it has none by default."""
    return field(default=default, metadata={"option": kind})


@lru_cache(maxsize=4096)
def option_shapes(option: LayerOption, shell: Shell) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of an option, found by building it on the meta device."""
    with torch.device("meta"):
        module = option.build(shell)
    return {name: tuple(p.shape) for name, p in module.named_parameters()} if module is not None else {}


def option_bytes(option: LayerOption, shell: Shell) -> int:
    """Stored bytes of an option's parameters."""
    return sum(weight_bytes(shape, WeightFormat()) for shape in option_shapes(option, shell).values())


def check_share(option: object, name: str) -> None:
    """Raise `IllegalArchitecture` unless this field of an option is a share of tokens in (0, 1]."""
    value = getattr(option, name)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= 1:
        raise IllegalArchitecture(f"{type(option).__name__}: {name} must be in (0, 1], got {value!r}")
