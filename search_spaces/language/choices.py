"""Open values: how a configuration becomes a search space.

A space is an ordinary tree of frozen dataclasses in which some values are left open with `one_of` or
`repeat`. Closing the tree asks one question per open value; who answers is the only difference between
random sampling, replay, mutation and crossover.

Paths. A question is named by its place in the tree (`layers.0.channel_mixer`). The branch that is chosen
opens its own questions under its own name (`layers.0.channel_mixer:MoE.top_k`), so one path never means two
things; the copies of `repeat` share theirs (layer 0 of a 4-layer and of a 6-layer model is one place). A
named choice is one question however often it is used, and its path is `@` and its name.

    >>> from search_spaces.language.choices import one_of
    >>> one_of(1, 2, 8).labels
    (1, 2, 8)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, dataclass, fields, is_dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.language.genotype import Label

PLAIN = (str, int, float, bool, type(None))

MOST_OPTIONS = 1024
"""Options of one open value: every two are compared."""

MOST_COPIES = 4096
"""Copies of a part in `repeat`."""


@dataclass(frozen=True)
class OneOf:
    """An open value: exactly one of `options`, told apart by their labels; shared where it has a `name`.

    Raises:
        SpaceError: no options or over `MOST_OPTIONS`, options that cannot be told apart, or options that
            overlap (one architecture would have two genotypes).
    """

    options: tuple[Any, ...]
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.options:
            raise SpaceError("one_of() needs at least one option")
        if len(self.options) > MOST_OPTIONS:
            raise SpaceError(f"an open value has at most {MOST_OPTIONS:,} options, got {len(self.options):,}")
        if self.name is not None and (not self.name or not self.name.replace("_", "").isalnum()):
            raise SpaceError(f"a shared choice needs a name of letters, digits and _, got {self.name!r}")
        for option in self.options:
            if isinstance(option, OneOf):
                raise SpaceError("one_of directly inside one_of: write the options side by side")
            check_supported(option)
        for i, later in enumerate(self.options):
            for j, earlier in enumerate(self.options[:i]):
                if overlap(earlier, later):
                    raise SpaceError(
                        f"options {j} and {i} of {_show_options(self.options)} can both become the same"
                        " value: make them disjoint, or one architecture has two names"
                    )
        if len(set(map(_typed, self.labels))) != len(self.labels):
            raise SpaceError(f"options need distinct labels, got {self.labels}")

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        """One plain value per option: itself, the depth of a repeat, or the name of the branch."""
        if self.is_repeat:
            return tuple(len(option) for option in self.options)
        return tuple(_label(option, self.options) for option in self.options)

    @cached_property
    def is_repeat(self) -> bool:
        """Whether the options are stacks of which each is the beginning of the longest."""
        if not all(isinstance(option, tuple) for option in self.options):
            return False
        longest = max(self.options, key=len)
        return all(option == longest[: len(option)] for option in self.options)

    @cached_property
    def _by_label(self) -> dict[Any, Any]:
        return {_typed(label): option for label, option in zip(self.labels, self.options, strict=True)}

    def labelled(self, label: Label) -> Any:
        """The option of this label.

        Raises:
            IllegalArchitecture: there is none.
        """
        try:
            return self._by_label[_typed(label)]
        except (KeyError, TypeError):
            raise IllegalArchitecture(f"{label!r} is not among {self.labels}") from None

    def own_path(self, path: str) -> str:
        """The path of this question when it stands at `path`."""
        return path if self.name is None else f"@{self.name}"

    def inner_path(self, path: str, label: Label) -> str:
        """Where the questions inside the option of this label live, when this one's own path is `path`."""
        option = self.labelled(label)
        branch = is_dataclass(option) or (isinstance(option, tuple) and not self.is_repeat)
        return f"{path}:{label}" if branch else path


def one_of(*options: Any, name: str | None = None) -> Any:
    """Leave a value open; typed `Any` so that it fits any field of a configuration.

    With a `name`, every use of that name is one shared choice: asked once, the same everywhere.
    """
    return OneOf(options, name)


def repeat(part: Any, depths: Iterable[int], *, name: str | None = None) -> Any:
    """Leave open how many times `part` is stacked; each copy is then decided for itself.

    Raises:
        SpaceError: a depth is no whole number, or over `MOST_COPIES`; too many depths, or none.
    """
    if isinstance(depths, str) or not isinstance(depths, Iterable):
        raise SpaceError(f"repeat: depths are whole numbers such as (2, 4), got {depths!r}")
    depths = tuple(islice(depths, MOST_OPTIONS + 1))
    if not depths:
        raise SpaceError("repeat: needs at least one depth")
    for depth in depths:
        if not isinstance(depth, int) or isinstance(depth, bool) or depth < 0:
            raise SpaceError(f"repeat: depths must be whole numbers, got {depth!r}")
        if depth > MOST_COPIES:
            raise SpaceError(f"repeat: depths must be at most {MOST_COPIES:,}, got {depth:,}")
    if len(depths) == 1 and name is None:
        return (part,) * depths[0]
    return OneOf(tuple((part,) * depth for depth in depths), name)


def check_supported(node: Any, path: str = "") -> None:
    """Raise `SpaceError` where the tree holds something that is no plain value, tuple or dataclass."""
    if isinstance(node, (PLAIN, OneOf)):
        return
    where = path or "the top"
    if isinstance(node, tuple):
        seen = set[int]()  # the copies of a repeated part are one object
        for i, part in enumerate(node):
            if id(part) not in seen:
                seen.add(id(part))
                check_supported(part, join(path, i))
    elif is_dataclass(node) and not isinstance(node, type):
        for name in field_names(type(node)):
            check_supported(getattr(node, name), join(path, name))
    elif isinstance(node, type):
        raise SpaceError(f"at {where}: {node.__name__} is a class; write {node.__name__}()")
    else:
        hint = "use a tuple" if isinstance(node, list) else "use plain values, tuples and dataclasses"
        raise SpaceError(f"at {where}: a {type(node).__name__} cannot be part of a space; {hint}")


_FIELD_NAMES: dict[Any, tuple[str, ...]] = {}


def field_names(kind: Any) -> tuple[str, ...]:
    """The fields of a dataclass that its constructor takes, in their order."""
    names = _FIELD_NAMES.get(kind)
    if names is None:
        names = _FIELD_NAMES[kind] = tuple(field.name for field in fields(kind) if field.init)
    return names


def join(path: str, part: str | int) -> str:
    """The path of a part."""
    return f"{path}.{part}" if path else str(part)


def overlap(first: Any, second: Any) -> bool:
    """Whether two open trees can close to equal values (shared names are not taken into account)."""
    if isinstance(first, OneOf):
        return any(overlap(option, second) for option in first.options)
    if isinstance(second, OneOf):
        return overlap(second, first)
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(overlap, first, second))
    if is_dataclass(first) and type(first) is type(second):
        return all(overlap(getattr(first, name), getattr(second, name)) for name in field_names(type(first)))
    return bool(first == second)


def _typed(label: Label) -> tuple[type, Label]:
    return type(label), label


def _show_options(options: tuple[Any, ...]) -> str:
    text = ", ".join(map(repr, options))
    return f"one_of({text if len(text) < 300 else text[:300] + ' ...'})"


def _label(option: Any, options: tuple[Any, ...]) -> Label:
    if isinstance(option, tuple):
        return f"({', '.join(str(_label(part, ())) for part in option)})"
    if not is_dataclass(option):
        return option
    alike = [candidate for candidate in options if type(candidate) is type(option)]
    name = type(option).__name__
    if len(alike) < 2:
        return name
    values = ", ".join(f"{key}={_short(getattr(option, key))}" for key in _distinguishing_fields(alike))
    return f"{name}({values})"


def _distinguishing_fields(alike: list[Any]) -> tuple[str, ...]:
    """The one field that tells blocks of one kind apart, or else all fields in which they differ."""
    names = field_names(type(alike[0]))
    for name in names:
        values = [getattr(option, name) for option in alike]
        if not any(overlap(a, b) for i, a in enumerate(values) for b in values[:i]):
            return (name,)
    return tuple(name for name in names if len({repr(getattr(option, name)) for option in alike}) > 1)


def _short(value: Any) -> str:
    if isinstance(value, OneOf):
        return "|".join(map(str, value.labels))
    if is_dataclass(value):
        inner = ", ".join(f"{f.name}={_short(getattr(value, f.name))}" for f in _set_fields(value))
        return f"{type(value).__name__}({inner})" if inner else type(value).__name__
    return str(value)


def _set_fields(value: Any) -> list[Field[Any]]:
    """The fields of a dataclass whose values are not their defaults."""
    return [f for f in fields(value) if f.init and repr(getattr(value, f.name)) != repr(f.default)]
