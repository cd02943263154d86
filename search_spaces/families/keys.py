"""Keys of a configuration and what they are here: entries of a family's table, read in both directions.

    Same("num_attention_heads", "num_heads")                     one value on both sides
    Word("attention_bias", "biases", {False: "none", True: "all"})
    Width("intermediate_size", "expansion")                      a width there, its ratio to d_model here
    Ratio("expand", ("channels",))                               a ratio to d_model there, a width here
    Product("mamba_d_ssm", ("num_heads", "head_dim"))            a width there, its factors here
    Root("query_pre_attn_scalar", "scale")                       one over the square root of it here
    Fixed("hidden_act", "silu")                                  we have nothing else
    Inverse("logits_scaling", "head.scale")                      a divisor there, a factor here
    Free("max_position_embeddings", 32768)                       changes nothing

`read` gives fields of a block (or of the shell), `write` gives keys.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from foundation.errors import SettingError
from foundation.text import shown
from search_spaces.families.config import REQUIRED, Config

Default = Any
"""A plain value, or a function of the configuration."""


class Key(ABC):
    """One entry of a family's table."""

    key: str

    @abstractmethod
    def read(self, config: Config) -> dict[str, Any]:
        """The fields that the key says something about."""

    @abstractmethod
    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The keys that say the same as the fields.

        Raises:
            SettingError: the family cannot say it.
        """


@dataclass(frozen=True)
class Same(Key):
    """A value that is the same on both sides."""

    key: str
    field: str
    default: Default = REQUIRED

    def read(self, config: Config) -> dict[str, Any]:
        """The field."""
        return {self.field: config.get(self.key, value_of(self.default, config))}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The key."""
        return {self.key: fields[self.field]}


@dataclass(frozen=True)
class Word(Key):
    """A value that has another name on each side; theirs come first."""

    key: str
    field: str
    words: Mapping[Any, Any]
    default: Default = REQUIRED

    def read(self, config: Config) -> dict[str, Any]:
        """The field, if their word is known."""
        value = config.get(self.key, value_of(self.default, config))
        known = next((ours for theirs, ours in self.words.items() if _same(theirs, value)), REQUIRED)
        if known is REQUIRED:
            raise config.wrong(self.key, value, _any_of(self.words))
        return {self.field: known}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The key, if it has a word for it."""
        for theirs, ours in self.words.items():
            if _same(ours, fields[self.field]):
                return {self.key: theirs}
        raise SettingError(f"{self.field} is {shown(fields[self.field])}, which {self.key} cannot say")


@dataclass(frozen=True)
class Width(Key):
    """A number of hidden channels, which is a multiple of d_model here; there, `times` as many are said."""

    key: str
    field: str = "expansion"
    width: str = "hidden_size"
    times: int = 1

    def read(self, config: Config) -> dict[str, Any]:
        """The ratio; as a whole number where it is one."""
        hidden, d_model = config.whole(self.key) // self.times, config.whole(self.width)
        return {self.field: hidden // d_model if hidden % d_model == 0 else hidden / d_model}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The width."""
        if fields[self.field] is None:
            raise SettingError(f"{self.field} is None, which {self.key} cannot say")
        return {self.key: self.times * round(fields[self.field] * d_model)}


@dataclass(frozen=True)
class Ratio(Key):
    """A ratio to d_model there; here the width is the product of `fields`.

    The first field is what it says; the others are those of the keys in `known`.
    """

    key: str
    fields: tuple[str, ...]
    known: tuple[str, ...] = ()
    default: float = 2
    width: str = "hidden_size"

    def read(self, config: Config) -> dict[str, Any]:
        """The first field."""
        ratio = config.number(self.key, self.default)
        if not 0 < ratio < math.inf:
            raise config.wrong(self.key, ratio, "a positive number")
        inner = int(ratio * config.whole(self.width))
        others = prod(config.whole(name) for name in self.known)
        if inner < 1 or inner % others:
            raise config.wrong(
                self.key,
                config.get(self.key, self.default),
                f"such that {inner} channels are a multiple of {others}",
            )
        return {self.fields[0]: inner // others}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The ratio, which classes of transformers want to be a whole number."""
        inner = prod(fields[name] for name in self.fields)
        if inner % d_model:
            raise SettingError(
                f"{' times '.join(self.fields)} is {inner}, and {self.key} says multiples of {d_model} only"
            )
        return {self.key: inner // d_model}


@dataclass(frozen=True)
class Product(Key):
    """A number of channels, which is the product of `fields` here.

    The first field is what it says; the others are those of the keys in `known`.
    """

    key: str
    fields: tuple[str, ...]
    known: tuple[str, ...] = ()

    def read(self, config: Config) -> dict[str, Any]:
        """The first field."""
        whole, others = config.whole(self.key), prod(config.whole(name) for name in self.known)
        if whole % others:
            raise config.wrong(self.key, whole, f"a multiple of {others}")
        return {self.fields[0]: whole // others}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The number."""
        return {self.key: prod(fields[name] for name in self.fields)}


@dataclass(frozen=True)
class Groups(Key):
    """Groups of heads of a Mamba-2, each of which has a norm of its own."""

    key: str
    default: int = 1

    def read(self, config: Config) -> dict[str, Any]:
        """Their number; of one group there is one norm over all heads."""
        groups = config.whole(self.key, self.default)
        return {"groups": groups, "norm_over": "group" if groups > 1 else "heads"}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The number."""
        return {self.key: fields["groups"]}


@dataclass(frozen=True)
class Root(Key):
    """What a scale here is one over the square root of."""

    key: str
    field: str

    def read(self, config: Config) -> dict[str, Any]:
        """The scale."""
        value = config.number(self.key)
        if not 0 < value < math.inf:
            raise config.wrong(self.key, value, "a positive number")
        return {self.field: value**-0.5}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The number; a whole one comes back as that."""
        if fields[self.field] is None:
            raise SettingError(f"{self.field} is None, which {self.key} cannot say")
        value = float(f"{fields[self.field] ** -2:.13g}")
        return {self.key: int(value) if value.is_integer() else value}


@dataclass(frozen=True)
class Fixed(Key):
    """What must have a certain value, since we have nothing else; absent, it has `default`.

    Several values mean the same.
    """

    key: str
    value: Any
    also: tuple[Any, ...] = ()
    default: Default = None

    def read(self, config: Config) -> dict[str, Any]:
        """Nothing; another value is refused."""
        default = self.value if self.default is None else value_of(self.default, config)
        value = config.get(self.key, default)
        if not any(_same(value, known) for known in (self.value, *self.also)):
            rule = _any_of((self.value, *self.also))
            raise config.wrong(self.key, value, f"{rule}: there is no block here with anything else")
        return {}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The value."""
        return {self.key: self.value}


@dataclass(frozen=True)
class Inverse(Key):
    """What is divided by there, and multiplied by here."""

    key: str
    field: str
    default: float = 1.0

    def read(self, config: Config) -> dict[str, Any]:
        """The factor."""
        divisor = config.number(self.key, self.default)
        if not 0 < abs(divisor) < math.inf:
            raise config.wrong(self.key, divisor, "a finite number other than 0")
        return {self.field: 1 / divisor}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The divisor; what is the inverse of a short number comes back as that number."""
        return {self.key: float(f"{1 / fields[self.field]:.15g}")}


@dataclass(frozen=True)
class Free(Key):
    """What changes nothing that is computed, and is written with this value."""

    key: str
    value: Any

    def read(self, config: Config) -> dict[str, Any]:
        """Nothing."""
        config.get(self.key, None)
        return {}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The value."""
        return {self.key: self.value}


def value_of(default: Default, config: Config) -> Any:
    """A default for this configuration."""
    return default(config) if callable(default) else default


def key(name: str) -> Callable[[Config], Any]:
    """As a default or a factor: what another key says."""
    return lambda config: config.get(name)


def quotient(name: str, divisor: str) -> Callable[[Config], int]:
    """As a default: one whole number over another."""
    return lambda config: config.whole(name) // config.whole(divisor)


def _same(a: Any, b: Any) -> bool:
    """Equal, and not merely as 1 and True are."""
    return isinstance(a, bool) is isinstance(b, bool) and a == b


def _any_of(values: Any) -> str:
    return " or ".join(shown(value) for value in values)
