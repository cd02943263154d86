"""Options of the command line, made from described settings.

    @with_settings(Plan, names=("trials", "seed"))
    def resume(study: StudyName, *, settings: Given, store: Store = DEFAULT_STORE) -> None:
        replace(plan, **settings)         # the values that were given, parsed and checked

Each option has the name, help, range, default and heading of its setting. Its value comes as text and is
parsed by the setting's type, so that the command line and Python refuse the same values in the same words,
but for the name: `--train-batch must be at least 1`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeAlias

import typer
from rich.markup import escape

from foundation.errors import SettingError, UnknownName
from foundation.registry import nearest
from foundation.settings import Described, Settings, describe, parse, parse_assignments, parse_entries

Given: TypeAlias = dict[str, Any]
"""Values of the settings that were given, by name."""

METAVARS = {int: "INTEGER", float: "NUMBER", str: "TEXT"}

Command: TypeAlias = Callable[..., None]


def with_settings(
    kind: type[Settings],
    names: Collection[str] | None = None,
    *,
    into: str = "settings",
    show_defaults: bool = True,
) -> Callable[[Command], Command]:
    """Give a command options for these settings of a class, by default for all, but not for hidden ones.

    The command takes the values that were given as its argument `into`.

    Raises:
        UnknownName: there is no setting of a name.
    """
    settings = {d.name: d for d in describe(kind)}
    if unknown := [name for name in names or () if name not in settings]:
        raise UnknownName(f"{kind.__name__} has no setting {unknown[0]!r}; {nearest(unknown[0], settings)}")
    chosen = [d for d in settings.values() if not d.about.hidden and (names is None or d.name in names)]

    def decorate(command: Command) -> Command:
        def wrapper(**arguments: Any) -> None:
            texts = {d.name: arguments.pop(d.name) for d in chosen}
            command(**arguments, **{into: given_settings(chosen, texts)})

        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name != into]
        parameters = [parameter_of(d, show_defaults) for d in chosen]
        parameters += [p.replace(kind=p.KEYWORD_ONLY) for p in own]
        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return wrapper

    return decorate


def given_settings(chosen: Sequence[Described], texts: Mapping[str, Any]) -> Given:
    """The values of the options that were given.

    Raises:
        SettingError: a text cannot be read, or a value is out of range.
    """
    return {d.name: value_of(d, texts[d.name]) for d in chosen if texts[d.name] not in (None, [])}


def value_of(described: Described, given: Any) -> Any:
    """The value of one setting from what Typer hands over: a flag, a text, or texts."""
    described = replace(described, name=f"--{described.option}")  # as whoever reads a message has written it
    if isinstance(given, bool):
        return given
    if isinstance(described.default, Mapping):
        return parse_assignments(given)
    if isinstance(described.default, Settings):
        return changed_settings(described, given)
    return parse_entries(described, given) if described.about.repeated else parse(described, given)


def changed_settings(described: Described, given: Sequence[str]) -> Settings:
    """The default, or the settings that a word among the texts stands for, with the others as changes.

    Raises:
        SettingError: there are two words, or a text cannot be read.
    """
    words = [text for text in given if "=" not in text]
    if len(words) > 1:
        raise SettingError(f"{described.name} {words[0]} and {words[1]}: one at a time")
    base: Settings = type(described.default).from_word(words[0].strip()) if words else described.default
    return base.with_settings(parse_assignments(text for text in given if "=" in text))


def parameter_of(described: Described, show_default: bool = True) -> inspect.Parameter:
    """A setting as a parameter that Typer reads: named, typed, and with everything that `--help` shows."""
    annotation: Any = Annotated[typer_type(described), option_of(described, show_default)]
    return inspect.Parameter(
        described.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def option_of(described: Described, show_default: bool = True) -> Any:
    """The option of a setting."""
    about = described.about
    text = described.summary + (" Repeat it for several." if about.repeated else "")
    default = default_text(described) if show_default and described.entry is not bool else ""
    flags = [f"--{described.option}", *([f"-{about.short}"] if about.short else [])]
    if described.entry is bool and (described.default or about.changeable):
        flags[0] += f"/--no-{described.option}"
    return typer.Option(
        *flags,
        help=escape(text) + (rf" [dim]\[default: {escape(default)}][/dim]" if default else ""),
        metavar=None if described.entry is bool else metavar_of(described),
        show_default=False,
        rich_help_panel=about.group or None,
    )


def settings_lines(kind: type[Settings], option: str = "--setting ") -> list[str]:
    """The settings of a class as they are given with an option, each with its default, help and range."""
    names = [f"{option}{d.name}={default_text(d)}" for d in describe(kind)]
    width = max(map(len, names), default=0)
    return [f"  {name:{width}}  {d.summary}" for name, d in zip(names, describe(kind), strict=True)]


def metavar_of(described: Described) -> str:
    """What stands for the value in `--help`."""
    kind = METAVARS.get(described.entry, "TEXT")
    commas = isinstance(described.default, tuple) and not described.about.repeated
    return described.about.metavar or (f"{kind},..." if commas else kind)


def default_text(described: Described) -> str:
    """The default as one would write it; empty where there is none."""
    value = described.default
    if described.about.shown is not None:
        return described.about.shown
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or isinstance(value, (Mapping, Settings)):
        return ""
    if isinstance(value, tuple):
        return (", " if described.about.repeated else ",").join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def typer_type(described: Described) -> Any:
    """The type that Typer sees: a flag, a text, or texts."""
    if described.entry is bool:
        return bool | None
    return list[str] | None if described.about.repeated else str | None
