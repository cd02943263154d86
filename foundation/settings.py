"""Settings that are described once: their help, range and unit stand beside the field that holds them.

    @dataclass(frozen=True, kw_only=True)
    class Evolution(Settings):
        population: int = setting(24, help="Candidates that have children.", least=2)
        rate: float = setting(0.1, help="Share of genes that change.", above=0, most=1)

    Evolution(population=1)                         # SettingError: population must be at least 2, got 1
    Evolution.from_plain({"populaton": 24})         # UnknownName: ... did you mean 'population'?
    Evolution.from_text({"population": "24"})       # parsed by its annotation, as on a command line
    Evolution.parse("population=24,rate=0.2")       # the same in one line
    describe(Evolution)                             # what a command line, --help or a page is made from

A record is checked when it is made, so a value that is out of range never gets further. A setting may itself
be settings, also one of several kinds of a registry (`foundation.components`); a dotted name reaches inside:

    recipe.with_settings({"schedule.warm_up": 40, "optimizer": "adamw"})
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, asdict, dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Self, TypeVar, get_args, get_origin

from foundation.descriptions import (
    KEY,
    MANY,
    SEEDS,
    About,
    Described,
    check,
    check_flag,
    kind_of,
    options_of,
    setting,
)
from foundation.errors import SettingError, UnknownName
from foundation.registry import nearest
from foundation.text import shown

S = TypeVar("S", bound="Settings")

__all__ = [
    "MANY",
    "SEEDS",
    "Described",
    "Settings",
    "changed",
    "check",
    "check_flag",
    "describe",
    "kind_of",
    "parse",
    "parse_assignments",
    "parse_entries",
    "parse_values",
    "setting",
]

_WHOLE = re.compile(r"[+-]?[0-9]+")

_NUMBER = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf|nan)", re.IGNORECASE)
"""Numbers are written with these digits alone: Python would also take those of other scripts, and `1_000`."""

_DESCRIBED: dict[type[Any], tuple[Described, ...]] = {}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Plain values by name, checked when they are made.

    `title` stands in front of what is wrong with a value: `scenario: batch must be at least 1, got 0`.

    Raises:
        SettingError: a value has the wrong type or is out of range.
    """

    title: ClassVar[str] = ""

    def __post_init__(self) -> None:
        with _titled(type(self)):
            for described in describe(type(self)):
                check(described, getattr(self, described.name))

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold, by name; settings inside become mappings."""
        return {described.name: _plain(getattr(self, described.name)) for described in describe(type(self))}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The settings of a mapping (JSON, keyword arguments); lists become tuples, mappings settings, and
        text is parsed by the type of its field, as on a command line.

        Raises:
            UnknownName: there is no such setting; the nearest is named.
            SettingError: a value has the wrong type or is out of range.
        """
        settings = _settings_of(cls, plain)
        with _titled(cls):
            values = {name: _of_plain(settings[name], value) for name, value in plain.items()}
        return cls._made(values)

    @classmethod
    def _made(cls, values: Mapping[str, Any]) -> Self:
        """The settings of these values, which hold every one that has no default."""
        if missing := [d.name for d in describe(cls) if d.default is MISSING and d.name not in values]:
            raise SettingError(f"{cls.title or cls.__name__} needs {', '.join(missing)}")
        return cls(**values)

    @classmethod
    def from_text(cls, texts: Mapping[str, str]) -> Self:
        """Settings written as text, each parsed by the type of its field; see `parse_values`."""
        return cls._made(parse_values(cls, texts))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Settings in one line, with commas: `population=24,rate=0.2`; or the word that stands for them.

        Raises:
            UnknownName: there is no such setting; the nearest is named.
            SettingError: a text cannot be read, or a value is out of range.
        """
        if text.strip() and "=" not in text:
            return cls.from_word(text.strip())
        return cls.from_text(parse_assignments(part for part in text.split(",") if part.strip()))

    @classmethod
    def from_word(cls, word: str) -> Self:
        """The settings that a single word stands for; `foundation.components` have names.

        Raises:
            SettingError: these settings have no such words.
        """
        names = ", ".join(described.name for described in describe(cls))
        raise SettingError(f"{cls.__name__} cannot be {word!r}: set one of {names} instead")

    def with_settings(self, changes: Mapping[str, Any]) -> Self:
        """The same settings, but for these; dots lead to settings inside. Text is parsed by type.

        Raises:
            UnknownName: there is no such setting; the nearest is named.
            SettingError: a text cannot be read, or a value is out of range.
        """
        settings = self
        for path in sorted(changes, key=lambda path: path.count(".")):
            _check_path(settings, path)
            settings = _changed_inside(settings, path, changes[path], path)
        return settings


def describe(kind: type[Settings]) -> tuple[Described, ...]:
    """Every setting of a class, in the order of its fields; without a description it has an empty one."""
    if kind not in _DESCRIBED:
        hints = typing.get_type_hints(kind)
        _DESCRIBED[kind] = tuple(
            Described(f.name, hints[f.name], _default(f), f.metadata.get(KEY, About(help="")))
            for f in fields(kind)
            if f.init
        )
    return _DESCRIBED[kind]


def parse_values(kind: type[Settings], texts: Mapping[str, str]) -> dict[str, Any]:
    """Values of some settings of a class from their texts, by name; the others are left out.

    Raises:
        UnknownName: there is no such setting; the nearest is named.
        SettingError: a text cannot be read, or a value is out of range.
    """
    settings = _settings_of(kind, texts)
    with _titled(kind):
        return {name: parse(settings[name], text) for name, text in texts.items()}


def changed(before: Settings, after: Settings) -> list[tuple[str, Any, Any]]:
    """Name and both values of the settings that differ, but may not change between two runs."""
    return [
        (described.name, getattr(before, described.name), getattr(after, described.name))
        for described in describe(type(before))
        if not described.about.changeable
        and getattr(before, described.name) != getattr(after, described.name)
    ]


def parse(described: Described, text: str) -> Any:
    """A value from its text, by the setting's type: `true`, `24`, `0.5`, `a,b`, `none`.

    Raises:
        SettingError: the text cannot be read as such a value.
    """
    value = _parse(described, described.type, text.strip())
    check(described, value)
    return value


def parse_entries(described: Described, texts: Iterable[str]) -> tuple[Any, ...]:
    """A sequence from the texts of its entries.

    Raises:
        SettingError: a text cannot be read, or an entry is out of range.
    """
    value = tuple(_parse(described, described.entry, text.strip()) for text in texts)
    check(described, value)
    return value


def parse_assignments(texts: Iterable[str]) -> dict[str, str]:
    """`population=24`, `rate=0.2` as texts by name.

    Raises:
        SettingError: one is not of that form, or a name is given twice.
    """
    assigned: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise SettingError(f"{text!r}: write a setting as name=value")
        if name in assigned:
            raise SettingError(f"{name} is given twice, {assigned[name]!r} and {value!r}")
        assigned[name] = value
    return assigned


def _settings_of(kind: type[Settings], names: Iterable[str]) -> dict[str, Described]:
    """The settings of a class by name, which must hold all of these names."""
    settings = {described.name: described for described in describe(kind)}
    for name in names:
        if name not in settings:
            raise UnknownName(
                f"{kind.title or kind.__name__} has no setting {name!r}; {nearest(name, settings)}"
            )
    return settings


@contextmanager
def _titled(kind: type[Settings]) -> Iterator[None]:
    """Put the title of a class in front of what is wrong with one of its values."""
    try:
        yield
    except UnknownName:
        raise
    except SettingError as error:
        raise SettingError(f"{kind.title}: {error}" if kind.title else str(error)) from None


def _parse(described: Described, annotation: Any, text: str) -> Any:
    if text in described.about.named:
        return described.about.named[text]
    if described.optional and text.lower() == "none":
        return None
    for option in options_of(annotation):
        if get_origin(option) is tuple:
            inner = get_args(option)[0]
            return tuple(_parse(described, inner, part.strip()) for part in text.split(",") if part.strip())
        if option is str:
            return text
        if _is_settings(option):
            return option.parse(text)
        if option in PARSERS and (value := PARSERS[option](text)) is not None:
            return value
    kinds = " or ".join([kind_of(described.type), *described.about.named])
    raise SettingError(f"{described.name} must be {kinds}, got {shown(text)}")


def _bool(text: str) -> bool | None:
    truths = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    return truths.get(text.lower())


def _int(text: str) -> int | None:
    try:
        return int(text) if _WHOLE.fullmatch(text) else None
    except ValueError:  # thousands of digits
        return None


def _float(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


PARSERS: dict[Any, Callable[[str], Any]] = {bool: _bool, int: _int, float: _float}
"""A value of each type from its text, or None where the text is no such value."""


def _changed_inside(settings: S, path: str, value: Any, whole: str) -> S:
    """The same settings with one other value at a dotted name, which is the end of the `whole` one."""
    name, _, inside = path.partition(".")
    if inside:
        return replace(settings, **{name: _changed_inside(getattr(settings, name), inside, value, whole)})
    described = _settings_of(type(settings), [name])[name]
    described = replace(described, name=whole)  # messages name it as it was written
    try:
        new = parse(described, value) if isinstance(value, str) else _of_plain(described, value)
        check(described, new)
    except SettingError as error:
        raise error if whole in str(error) else type(error)(f"{whole}: {error}") from None
    return replace(settings, **{name: new})


def _check_path(settings: Settings, path: str) -> None:
    """Raise `UnknownName` or `SettingError` where these settings have none of this dotted name."""
    inner: Any = settings
    names = path.split(".")
    for i, name in enumerate(names):
        before = ".".join(names[:i])
        if not isinstance(inner, Settings):
            raise SettingError(f"{before} has no settings of its own, so there is no {path}")
        if name not in {described.name for described in describe(type(inner))}:
            called = type(settings).title or type(settings).__name__
            raise UnknownName(f"{called} has no setting {path!r}; {_hint(settings, path, before)}")
        inner = getattr(inner, name)


def _hint(settings: Settings, path: str, before: str) -> str:
    """What may be meant by a dotted name: what ends like it, the nearest, or what is inside `before`."""
    known = _dotted(settings)
    if alike := [repr(name) for name in known if name.split(".")[-1] == path.split(".")[-1]]:
        return f"did you mean {' or '.join(alike)}?"
    close = nearest(path, known)
    inside = [name for name in known if name.rpartition(".")[0] == before]
    return close if close.startswith("did you mean") else nearest(path, inside)


def _dotted(settings: Settings) -> list[str]:
    """The names of all settings, those inside others with dots."""
    names = []
    for described in describe(type(settings)):
        value = getattr(settings, described.name)
        names.append(described.name)
        if isinstance(value, Settings):
            names += [f"{described.name}.{name}" for name in _dotted(value)]
    return names


def _is_settings(option: Any) -> bool:
    return isinstance(option, type) and issubclass(option, Settings)


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.to_plain()
    if isinstance(value, (tuple, list)):
        return tuple(map(_plain, value))
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _of_plain(described: Described, value: Any) -> Any:
    """The value of a setting from what JSON can hold; text is parsed where the setting is none."""
    return _inside(described, described.type, value)


def _inside(described: Described, annotation: Any, value: Any) -> Any:
    options = options_of(annotation)
    if isinstance(value, str) and not {str, Any}.intersection(options):
        if described.about.repeated and get_origin(options[0]) is tuple:
            return parse_entries(described, [value])
        return _parse(described, annotation, value.strip())
    for option in options:
        if isinstance(value, Mapping) and _is_settings(option):
            return option.from_plain(value)
        if isinstance(value, (list, tuple)) and get_origin(option) is tuple:
            return tuple(_inside(described, get_args(option)[0], entry) for entry in value)
    return _tuples(value)


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _tuples(entry) for name, entry in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _default(of: Field[Any]) -> Any:
    if of.default is not MISSING:
        return of.default
    return of.default_factory() if of.default_factory is not MISSING else MISSING
