"""What there is to say of one setting, and the check of a value against it."""

from __future__ import annotations

import math
import operator
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any, Union, get_args, get_origin

from foundation.errors import SettingError
from foundation.text import shown

KEY = "setting"
"""Where a field's metadata keep its description."""

MANY = 10**9
"""The most of what is counted, where nothing else bounds it."""

SEEDS = 2**63 - 1
"""The largest random seed: what a database holds in a column."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What there is to say of one setting.

    `least` and `most` are inclusive bounds, `above` and `below` are exclusive ones; every number has a lower
    and an upper bound, and of a tuple each entry keeps them. `choices` are the allowed values, `named` are
    values that a word stands for, in text and in plain values. `unit` is that of the value. `changeable`
    settings may differ between two runs of the same study.

    The rest is for a command line. `option` is the name there, where it is not that of the field, and `short`
    a letter for it; `metavar` stands for the value in `--help`, `shown` for the default, and `group` is the
    heading. A `repeated` setting is given entry by entry, other sequences with commas. A `hidden` setting has
    no option.
    """

    help: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()
    unit: str = ""
    changeable: bool = False
    option: str | None = None
    short: str = ""
    metavar: str = ""
    shown: str | None = None
    group: str = ""
    repeated: bool = False
    hidden: bool = False
    named: Mapping[str, Any] = field(default_factory=dict)

    @property
    def range(self) -> str:
        """The bounds in words: `at least 1 s`; empty where there are none."""
        unit = f" {self.unit}" if self.unit else ""
        return ", ".join(f"{words} {_plainly(bound)}{unit}" for words, bound, _ in self.bounds)

    @property
    def bounds(self) -> list[tuple[str, float, Callable[[float, float], bool]]]:
        """Every bound with its words, and how a number compares to it."""
        all_bounds = (
            ("more than", self.above, operator.gt),
            ("at least", self.least, operator.ge),
            ("less than", self.below, operator.lt),
            ("at most", self.most, operator.le),
        )
        return [(words, bound, keeps) for words, bound, keeps in all_bounds if bound is not None]


@dataclass(frozen=True)
class Described:
    """A setting of a class: its name, the type of its values, its default, and what is said of it."""

    name: str
    type: Any
    default: Any
    about: About

    @property
    def optional(self) -> bool:
        """Whether None is a value."""
        return type(None) in get_args(self.type)

    @property
    def summary(self) -> str:
        """What it means, in a sentence, with its range and its choices."""
        choices = f"one of {', '.join(map(str, self.about.choices))}" if self.about.choices else ""
        note = "; ".join(filter(None, (self.about.range, choices)))
        return f"{self.about.help.removesuffix('.')} ({note})." if note else self.about.help

    @property
    def option(self) -> str:
        """The name on a command line, without its dashes."""
        return self.about.option or self.name.replace("_", "-")

    @property
    def entry(self) -> Any:
        """The type of one entry of a sequence; of any other setting its type without None."""
        option = options_of(self.type)[0]
        return get_args(option)[0] if get_origin(option) is tuple else option


def setting(
    default: Any = MISSING, *, default_factory: Any = MISSING, compare: bool = True, help: str, **about: Any
) -> Any:
    """A field of a `Settings` class; see `About` for what can be said of it."""
    metadata = {KEY: About(help=help, **about)}
    if default_factory is not MISSING:
        return field(default_factory=default_factory, compare=compare, metadata=metadata)
    return field(default=default, compare=compare, metadata=metadata)


def check(described: Described, value: Any) -> None:
    """Raise `SettingError` where a value has another type than its setting, or is out of its range."""
    if value is None and described.optional:
        return
    if not _is(value, described.type):
        raise SettingError(f"{described.name} must be {kind_of(described.type)}, got {shown(value)}")
    about = described.about
    for entry in value if isinstance(value, tuple) else (value,):
        if isinstance(entry, (int, float)) and not isinstance(entry, bool):
            _check_range(described.name, entry, about, value)
        if entry == "" and described.default not in ("", MISSING):
            raise SettingError(f"{described.name} must not be empty")
        if about.choices and entry not in about.choices:
            choices = ", ".join(map(str, about.choices))
            raise SettingError(f"{described.name} must be one of {choices}, got {shown(entry)}")


def check_flag(name: str, value: object) -> None:
    """Raise `SettingError` where a switch is neither on nor off: "no" would be a yes."""
    if not isinstance(value, bool):
        raise SettingError(f"{name} must be True or False, got {shown(value)}")


def kind_of(annotation: Any) -> str:
    """The type of a setting in words: `a whole number`, `numbers with commas`."""
    if len(options := options_of(annotation)) > 1:
        return " or ".join(kind_of(option) for option in options)
    annotation = options[0]
    if get_origin(annotation) is tuple:
        return f"a sequence, each {kind_of(get_args(annotation)[0])}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _check_range(name: str, number: float, about: About, value: Any) -> None:
    unit = f" {about.unit}" if about.unit else ""
    if isinstance(number, float) and not math.isfinite(number):
        raise SettingError(f"{name} must be finite, got {shown(value)}")
    for words, bound, keeps in about.bounds:
        if not keeps(number, bound):
            rule = "positive" if (words, bound) == ("more than", 0) else f"{words} {_plainly(bound)}{unit}"
            raise SettingError(f"{name} must be {rule}, got {shown(value)}")


def _plainly(bound: float) -> str:
    """A bound with all its digits: `24`, `0.5`, `1e9`."""
    short = f"{bound:g}".replace("e+0", "e").replace("e+", "e")
    return short if float(short) == bound else str(bound)


def options_of(annotation: Any) -> Sequence[Any]:
    """The members of a union without None, or the type itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [option for option in get_args(annotation) if option is not type(None)]
    return [annotation]


def _is(value: Any, annotation: Any) -> bool:
    """Whether a value is of one of the types that an annotation allows; an int is a float, too."""
    return any(_is_of(value, option) for option in options_of(annotation))


def _is_of(value: Any, option: Any) -> bool:
    origin = get_origin(option)
    if option is Any:
        return True
    if origin is tuple:
        return isinstance(value, tuple) and all(_is(entry, get_args(option)[0]) for entry in value)
    if option in (int, float):
        return isinstance(value, (int, option)) and not isinstance(value, bool)
    kind = origin or option
    return isinstance(kind, type) and isinstance(value, kind)
