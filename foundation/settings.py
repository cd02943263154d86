"""Settings that are described once: their help, range and unit stand beside the field that holds them.

    @dataclass(frozen=True, kw_only=True)
    class Evolution(Settings):
        population: int = setting(24, help="Candidates that have children.", least=2)
        rate: float = setting(0.1, help="Share of genes that change.", above=0, most=1)

    Evolution(population=1)                         # SettingError: population must be at least 2, got 1
    Evolution.from_plain({"populaton": 24})         # UnknownName: ... did you mean 'population'?
    Evolution.from_text({"population": "24"})       # parsed by its annotation, as on a command line
    describe(Evolution)                             # what a command line, --help or a page is made from

A record is checked when it is made, so a value that is out of range never gets further. A setting may itself
be settings, also one of several kinds of a registry (`foundation.parts`); a dotted name reaches inside:

    recipe.with_settings({"schedule.warm_up": 40, "optimizer": "adamw"})
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar, Union, get_args, get_origin

from foundation.errors import SettingError, UnknownName
from foundation.registry import nearest

KEY = "setting"
"""Where a field's metadata keep its description."""

S = TypeVar("S", bound="Settings")

_DESCRIBED: dict[type[Any], tuple[Described, ...]] = {}


@dataclass(frozen=True, kw_only=True)
class About:
    """What there is to say of one setting.

    `least` and `most` are inclusive bounds, `above` is an exclusive lower one; of a tuple each entry keeps
    them. `choices` are the allowed values. `unit` is that of the value. `changeable` settings may differ
    between two runs of the same study. `option` is the name on a command line, where it is not that of the
    field; `group` is the heading of `--help` under which it stands. A `hidden` setting has no option. `named`
    are values that a word stands for, in text and in plain values.
    """

    help: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    choices: tuple[Any, ...] = ()
    unit: str = ""
    changeable: bool = False
    option: str | None = None
    group: str = ""
    hidden: bool = False
    named: Mapping[str, Any] = field(default_factory=dict)


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


def setting(default: Any = MISSING, *, default_factory: Any = MISSING, help: str, **about: Any) -> Any:
    """A field of a `Settings` class; see `About` for what can be said of it."""
    metadata = {KEY: About(help=help, **about)}
    if default_factory is not MISSING:
        return field(default_factory=default_factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Plain values by name, checked when they are made.

    Raises:
        SettingError: a value has the wrong type or is out of range.
    """

    def __post_init__(self) -> None:
        for described in describe(type(self)):
            check(described, getattr(self, described.name))

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold, by name; settings inside become mappings."""
        return {described.name: _plain(getattr(self, described.name)) for described in describe(type(self))}

    @classmethod
    def from_plain(cls: type[S], plain: Mapping[str, Any]) -> S:
        """The settings of a mapping (JSON, keyword arguments); lists become tuples.

        Raises:
            UnknownName: there is no such setting; the nearest is named.
            SettingError: a value has the wrong type or is out of range.
        """
        require_known(cls, plain)
        known = {described.name: described for described in describe(cls)}
        return cls(**{name: _of_plain(known[name], value) for name, value in plain.items()})

    @classmethod
    def from_text(cls: type[S], texts: Mapping[str, str]) -> S:
        """Settings written as text, each parsed by the type of its field.

        Raises:
            UnknownName: there is no such setting; the nearest is named.
            SettingError: a text cannot be read, or a value is out of range.
        """
        require_known(cls, texts)
        known = {described.name: described for described in describe(cls)}
        return cls(**{name: parse(known[name], text) for name, text in texts.items()})

    @classmethod
    def from_word(cls: type[S], word: str) -> S:
        """The settings that a single word stands for; `foundation.parts` have names.

        Raises:
            SettingError: these settings have no such words.
        """
        names = ", ".join(described.name for described in describe(cls))
        raise SettingError(f"{cls.__name__} cannot be {word!r}: set one of {names} instead")

    def with_settings(self: S, changes: Mapping[str, Any]) -> S:
        """The same settings, but for these; dots lead to settings inside. Text is parsed by type.

        Raises:
            UnknownName: there is no such setting; the nearest is named.
            SettingError: a text cannot be read, or a value is out of range.
        """
        changed = self
        for path in sorted(changes, key=lambda path: path.count(".")):
            changed = _changed(changed, path, changes[path])
        return changed


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


def require_known(kind: type[Settings], names: Iterable[str], what: str | None = None) -> None:
    """Raise `UnknownName` for the first name that is no setting of the class, with the nearest."""
    known = [described.name for described in describe(kind)]
    for name in names:
        if name not in known:
            raise UnknownName(f"{what or kind.__name__} has no setting {name!r}; {nearest(name, known)}")


def check(described: Described, value: Any) -> None:
    """Raise `SettingError` where a value has another type than its setting, or is out of its range."""
    if value is None and described.optional:
        return
    if not _is(value, described.type):
        raise SettingError(f"{described.name} must be {kind_of(described.type)}, got {value!r}")
    about = described.about
    for entry in value if isinstance(value, tuple) else (value,):
        if isinstance(entry, (int, float)) and not isinstance(entry, bool):
            _check_range(described.name, entry, about, value)
        if about.choices and entry not in about.choices:
            known = ", ".join(map(str, about.choices))
            raise SettingError(f"{described.name} must be one of {known}, got {entry!r}")


def parse(described: Described, text: str) -> Any:
    """A value from its text, by the setting's type: `true`, `24`, `0.5`, `a,b`, `none`.

    Raises:
        SettingError: the text cannot be read as such a value.
    """
    value = _parse(described, described.type, text.strip())
    check(described, value)
    return value


def parse_assignment(text: str) -> tuple[str, str]:
    """`population=24` as a name and its text.

    Raises:
        SettingError: it is not of that form.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise SettingError(f"{text!r}: write a setting as name=value")
    return name.strip(), value.strip()


def kind_of(annotation: Any) -> str:
    """The type of a setting in words: `a whole number`, `numbers with commas`."""
    if len(options := _options(annotation)) > 1:
        return " or ".join(kind_of(option) for option in options)
    annotation = options[0]
    if get_origin(annotation) is tuple:
        return f"a sequence, each {kind_of(get_args(annotation)[0])}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _check_range(name: str, number: float, about: About, value: Any) -> None:
    bounds = (about.least, about.most, about.above)
    unit = f" {about.unit}" if about.unit else ""
    if not math.isfinite(number):
        raise SettingError(f"{name} must be finite, got {value!r}")
    if about.above is not None and not number > about.above:
        rule = "be positive" if bounds == (None, None, 0) else f"be more than {about.above:g}{unit}"
        raise SettingError(f"{name} must {rule}, got {value!r}")
    if about.least is not None and number < about.least:
        raise SettingError(f"{name} must be at least {about.least:g}{unit}, got {value!r}")
    if about.most is not None and number > about.most:
        raise SettingError(f"{name} must be at most {about.most:g}{unit}, got {value!r}")


def _parse(described: Described, annotation: Any, text: str) -> Any:
    options = _options(annotation)
    if text in described.about.named:
        return described.about.named[text]
    if described.optional and text.lower() in ("none", ""):
        return None
    for option in options:
        if get_origin(option) is tuple:
            inner = get_args(option)[0]
            return tuple(_parse(described, inner, part.strip()) for part in text.split(",") if part.strip())
        if _is_settings(option):
            return option.from_word(text)
        if option is bool and text.lower() in ("true", "false", "yes", "no", "1", "0"):
            return text.lower() in ("true", "yes", "1")
        try:
            if option in (int, float):
                return option(text)
        except ValueError:
            continue
        if option is str:
            return text
    raise SettingError(f"{described.name} must be {kind_of(annotation)}, got {text!r}")


def _options(annotation: Any) -> Sequence[Any]:
    """The members of a union without None, or the type itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [option for option in get_args(annotation) if option is not type(None)]
    return [annotation]


def _is(value: Any, annotation: Any) -> bool:
    """Whether a value is of one of the types that an annotation allows; an int is a float, too."""
    return any(_is_one(value, option) for option in _options(annotation))


def _is_one(value: Any, option: Any) -> bool:
    origin = get_origin(option)
    if option is Any:
        return True
    if origin is tuple:
        return isinstance(value, tuple) and all(_is(entry, get_args(option)[0]) for entry in value)
    if option in (int, float):
        return isinstance(value, (int, option)) and not isinstance(value, bool)
    kind = origin or option
    return isinstance(kind, type) and isinstance(value, kind)


def _changed(settings: S, path: str, value: Any) -> S:
    """The same settings with one other value at a dotted name."""
    name, _, inside = path.partition(".")
    require_known(type(settings), [name])
    described = next(each for each in describe(type(settings)) if each.name == name)
    if not inside:
        new = parse(described, value) if isinstance(value, str) else _of_plain(described, value)
        return replace(settings, **{name: new})
    inner = getattr(settings, name)
    if not isinstance(inner, Settings):
        raise SettingError(f"{name} has no settings of its own, so there is no {path}")
    return replace(settings, **{name: _changed(inner, inside, value)})


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
    """The value of a setting from what JSON can hold."""
    if isinstance(value, str) and value in described.about.named:
        return described.about.named[value]
    return _settings_in(described.type, value)


def _settings_in(annotation: Any, value: Any) -> Any:
    for option in _options(annotation):
        if isinstance(value, Mapping) and _is_settings(option):
            return option.from_plain(value)
        if isinstance(value, (list, tuple)) and get_origin(option) is tuple:
            return tuple(_settings_in(get_args(option)[0], entry) for entry in value)
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _default(of: Field[Any]) -> Any:
    if of.default is not MISSING:
        return of.default
    return of.default_factory() if of.default_factory is not MISSING else MISSING
