"""Every number of every setting and of every command has a range, and what is outside is refused at once."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from dataclasses import MISSING
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, get_args

import pytest
import typer

import dashboards
import evaluators
import foundation
import hw_profiles
import nas
import search_spaces
from foundation.components import Part
from foundation.errors import SettingError
from foundation.settings import Described, Settings, describe, parse
from nas import cli

PACKAGES = (foundation, search_spaces, evaluators, hw_profiles, nas, dashboards)

WRONG: tuple[Any, ...] = (-1, 0, 2**63, 2**64, 10**400, 10**5000, 1e308, math.nan, math.inf, -math.inf, 1e-40)

WIDE = "\uff11\uff12"
"""Digits of another script, which Python would read."""

NO_NUMBERS = ("", " ", WIDE, "0x10", "1_000", "abc", "1,2", "--1", "1e", "½", "9" * 5000, "1e3 s")


def all_settings() -> list[type[Settings]]:
    """Every class of settings that the program defines."""
    for package in PACKAGES:
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in module.name and ".kernels." not in module.name:  # no settings in these
                import_module(module.name)
    found, new = set[type[Settings]](), [Settings]
    while new:
        new = [kind for base in new for kind in base.__subclasses__() if kind not in found]
        found.update(new)
    names = tuple(f"{package.__name__}." for package in PACKAGES)
    ours = (kind for kind in found if kind.__module__.startswith(names))
    kinds = [kind for kind in ours if not inspect.isabstract(kind)]  # what their kinds share, those have
    return sorted(kinds, key=lambda kind: f"{kind.__module__}.{kind.__name__}")


KINDS = all_settings()

NUMBERS = [
    pytest.param(kind, described, id=f"{kind.__name__}.{described.name}")
    for kind in KINDS
    for described in describe(kind)
    if described.entry in (int, float) and not described.about.choices  # which are a range already
]


def all_commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it."""
    if not hasattr(group, "commands"):
        yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from all_commands(command, *path, name)


def every_command() -> list[tuple[tuple[str, ...], Any]]:
    cli.mount_plugins()
    return list(all_commands(typer.main.get_command(cli.app)))


COMMANDS = every_command()


def outside(described: Described) -> list[Any]:
    """Those of the wrong numbers that the range of a setting does not allow."""
    bounds = described.about.bounds
    return [
        number
        for number in WRONG
        if (isinstance(number, float) and (described.entry is int or not math.isfinite(number)))
        or not all(keeps(number, bound) for _, bound, keeps in bounds)
    ]


def test_the_classes_are_found() -> None:
    names = {kind.__name__ for kind in KINDS}
    assert {"Plan", "Scenario", "Recipe", "ValidationSettings", "NSGA2Settings", "Darts", "AdamW"} <= names
    assert len(NUMBERS) > 50


@pytest.mark.parametrize(("kind", "described"), NUMBERS)
def test_a_number_has_a_lower_and_an_upper_bound(kind: type[Settings], described: Described) -> None:
    about = described.about
    assert (about.least is None) != (about.above is None)
    assert (about.most is None) != (about.below is None)
    if described.default not in (None, MISSING):
        parse(described, str(described.default).strip("(,)").replace(" ", ""))


@pytest.mark.parametrize(("kind", "described"), NUMBERS)
def test_a_number_outside_is_refused_in_python(kind: type[Settings], described: Described) -> None:
    refused = outside(described)
    assert len(refused) >= 6
    samples: dict[Any, Any] = {str: "x", float: 1.0}
    needed = {d.name: samples.get(d.type, ()) for d in describe(kind) if d.default is MISSING}
    if issubclass(kind, Part):
        needed["name"] = next(name for name in kind.registry if issubclass(kind.registry[name], kind))
    for number in refused:
        values = [number] if isinstance(described.default, tuple) else number
        with pytest.raises(SettingError, match=f"{described.name} must be") as error:
            kind.from_plain({**needed, described.name: values})
        assert len(str(error.value)) < 300


@pytest.mark.parametrize(("kind", "described"), NUMBERS)
def test_what_is_no_number_is_refused(kind: type[Settings], described: Described) -> None:
    written = [str(number) for number in outside(described) if number != 10**5000]
    for text in (*NO_NUMBERS, *written):
        if not text.strip() and (described.optional or isinstance(described.default, tuple)):
            continue  # nothing, where nothing is a value
        if text == "1,2" and isinstance(described.default, tuple):
            continue
        with pytest.raises(SettingError, match=f"{described.name} must be") as error:
            parse(described, text)
        assert len(str(error.value)) < 300


def test_spaces_around_a_number_are_none_of_it() -> None:
    (steps,) = (d for d in describe(nas.Plan) if d.name == "train_steps")
    assert parse(steps, " 7 ") == 7


def callbacks(app: typer.Typer) -> Iterator[Any]:
    """The function of every command."""
    yield from (command.callback for command in app.registered_commands)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from callbacks(group.typer_instance)


@pytest.mark.parametrize("command", list(callbacks(cli.app)), ids=lambda command: command.__name__)
def test_numbers_of_commands_are_settings(command: Any) -> None:
    """A number that Typer itself parsed had a check of its own, beside that of settings."""
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        annotation = get_args(parameter.annotation)[0] if get_args(parameter.annotation) else str
        assert not {int, float}.intersection((annotation, *get_args(annotation))), parameter.name


def numeric_options() -> list[Any]:
    """Every option of a command that is a number."""
    found = []
    for path, command in COMMANDS:
        options = {name for parameter in command.params for name in parameter.opts}
        for kind in KINDS:
            for described in describe(kind):
                option = f"--{described.option}"
                if described.entry in (int, float) and option in options and not described.about.hidden:
                    metavars = {p.metavar for p in command.params if option in p.opts}
                    if any(f"{m}".startswith(("INTEGER", "NUMBER")) for m in metavars):
                        found.append(pytest.param(path, command, option, id=f"{' '.join(path)} {option}"))
    return list({param.id: param for param in found}.values())


@pytest.mark.parametrize(("path", "command", "option"), numeric_options())
def test_a_number_outside_is_refused_by_the_command(
    path: tuple[str, ...],
    command: Any,
    option: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    needed = [p for p in command.params if p.required]
    words = ["laptop" if p.param_type_name == "argument" else f"{p.opts[0]}=out" for p in needed]
    for text in ("-1", str(2**64), "1e308", "nan", "inf", WIDE, "0x10", "1_000", "abc"):
        assert cli.run([*path, *words, f"{option}={text}"]) == 2, text
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"nas: {option} must be "), line
        assert list(tmp_path.iterdir()) == []
