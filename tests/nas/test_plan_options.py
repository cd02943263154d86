"""Every described setting of a plan: its option, its help, its range, its way through JSON and text."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import click
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

import nas
from evaluators.training.recipe import Recipe
from foundation.errors import SettingError
from foundation.settings import Described, Settings, describe, parse, parse_entries
from nas import cli
from nas.commands.options_from_settings import default_text, value_of
from nas.engines.base import engines, parse_search_settings
from nas.modifiers.base import Modifier
from nas.strategies.base import strategies
from nas.study.plan import MEASURABLE, Plan
from nas.study.search import PlanSettings
from search_spaces.scenario import Scenario

SETTINGS = [described for described in describe(Plan) if not described.about.hidden]
BOUNDED = [d for d in SETTINGS if d.about.range]
NUMBERS = [d for d in SETTINGS if d.entry in (int, float)]
KINDS = [*engines.values(), *(kind.settings_kind for kind in strategies.values())]

words = st.text("abcxyz_", min_size=1, max_size=8)
OTHERS: dict[str, st.SearchStrategy[Any]] = {
    "objectives": st.lists(words, min_size=1, unique=True).map(tuple),
    "constraints": st.lists(words).map(tuple),
    "seed_from": st.lists(words).map(tuple),
    "scenarios": st.integers(1, 99).map(lambda batch: (Scenario(batch=batch),)),
    "settings": st.dictionaries(words, st.integers() | st.booleans() | words),
    "task_settings": st.dictionaries(words, st.integers() | st.booleans() | words),
    "latency_tables": st.lists(words).map(tuple),
    "recipe": st.sampled_from(["float32", "bfloat16"]).map(lambda precision: Recipe(precision=precision)),
    "train_on": st.sampled_from(["cpu", "cuda", "cuda:1"]),
    "finalist_steps": st.lists(st.integers(1, 999), min_size=1, unique=True).map(
        lambda rungs: tuple(sorted(rungs))
    ),
    "rungs": st.lists(st.integers(1, 999), unique=True).map(lambda rungs: tuple(sorted(rungs))),
    "measure": st.lists(st.sampled_from(MEASURABLE), unique=True).map(tuple),
    "baselines": st.lists(words, unique=True).map(tuple),
    "zero_cost": st.lists(words, unique=True).map(tuple),
    "then": st.lists(st.sampled_from(["prune,pattern=2:4", "quantize", '{"name":"distill"}'])).map(tuple),
    "time_on": st.none(),  # excludes an estimate
}


def values(described: Described) -> st.SearchStrategy[Any]:
    """Any value that a setting may have."""
    if described.name in OTHERS:
        return OTHERS[described.name]
    about, kind = described.about, described.entry
    if kind is int:
        found: st.SearchStrategy[Any] = st.integers(int(about.least or 0), 10**6)
    elif kind is float:
        low = about.least if about.least is not None else about.above
        found = st.floats(low, about.most or 1e6, exclude_min=about.least is None)
    else:
        found = st.booleans() if kind is bool else words
    return st.none() | found if described.optional else found


plans = st.fixed_dictionaries({d.name: values(d) for d in SETTINGS}).map(lambda plain: Plan(**plain))


def is_settings(kind: Any) -> bool:
    """Whether a setting is itself settings, which a call may give as a mapping."""
    return isinstance(kind, type) and issubclass(kind, Settings)


def named(described: Described) -> str:
    return described.name


def option(described: Described, command: str = "search") -> click.Option:
    """The option of a setting, as the command line has it."""
    root = typer.main.get_command(cli.app)
    found = {p.name: p for p in root.commands[command].params}[described.name]  # type: ignore[attr-defined]
    assert isinstance(found.opts, list)
    return found  # type: ignore[no-any-return]


def refused(capsys: pytest.CaptureFixture[str], *given: str) -> str:
    """What a command says that is refused: one line, with exit code 2."""
    assert cli.run(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("nas: ")


@pytest.mark.parametrize("described", SETTINGS, ids=named)
def test_it_has_an_option_that_says_what_it_is(described: Described) -> None:
    assert described.about.help.endswith((".", "'"))
    assert described.about.group
    found = option(described)
    assert f"--{described.option}" in found.opts
    assert described.about.help.removesuffix(".") in (found.help or "").replace("\\", "")
    assert found.rich_help_panel == described.about.group  # type: ignore[attr-defined]


@pytest.mark.parametrize("described", SETTINGS, ids=named)
def test_its_default_is_what_help_says(described: Described) -> None:
    text = default_text(described)
    if described.about.shown is not None or isinstance(described.default, (dict, Settings)):
        return
    if not text:
        assert described.default in (None, ())
    elif described.about.repeated:
        assert parse_entries(described, text.split(", ")) == described.default
    else:
        assert parse(described, text) == described.default


@pytest.mark.parametrize("described", BOUNDED, ids=named)
def test_a_value_out_of_range_is_refused_before_anything_is_stored(
    described: Described, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about, store = described.about, tmp_path / "s.db"
    bad = about.most + 1 if about.most is not None else (about.least if about.above is None else 1) - 1
    text = str(int(bad)) if described.entry is int else str(bad)
    said = refused(capsys, "search", "laptop", f"--{described.option}", text, "--store", str(store))
    assert said.startswith(f"--{described.option} must be at ")
    assert not store.exists()
    with pytest.raises(SettingError, match=f"{described.name} must be"):
        Plan.from_plain({described.name: [bad] if isinstance(described.default, tuple) else bad})


@pytest.mark.parametrize("described", NUMBERS, ids=named)
def test_what_is_no_number_is_refused(
    described: Described, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "s.db"
    said = refused(capsys, "search", "laptop", f"--{described.option}", "x", "--store", str(store))
    assert said.startswith(f"--{described.option} must be a ")
    assert said.endswith("got 'x'")
    assert not store.exists()


@settings(max_examples=60, deadline=None)
@given(plans)
def test_plans_come_back_from_json(plan: Plan) -> None:
    assert Plan.from_plain(json.loads(json.dumps(plan.to_plain()))) == plan


@settings(max_examples=60, deadline=None)
@given(plans)
def test_options_give_the_values_that_were_written(plan: Plan) -> None:
    for described in SETTINGS:
        value = getattr(plan, described.name)
        if described.entry in (int, float, str) and value is not None:
            several = list(map(str, value)) if isinstance(value, tuple) else [str(value)]
            given = several if described.about.repeated else ",".join(several)
            assert value_of(described, given) == value


@pytest.mark.parametrize("described", SETTINGS, ids=named)
def test_it_may_change_between_runs_or_not(described: Described) -> None:
    plan = Plan()
    other = values(described).filter(lambda value: value != described.default)

    @settings(max_examples=3, deadline=None)
    @given(other)
    def check(value: Any) -> None:
        changed = replace(plan, **{described.name: value})
        if described.about.changeable:
            plan.require_same(changed)
        else:
            with pytest.raises(SettingError, match=f"started with (another )?{described.name}( \\(|=)"):
                plan.require_same(changed)

    if described.name == "time_on":
        with pytest.raises(SettingError, match="started with time_on="):
            plan.require_same(replace(plan, time_on="jetson"))
    else:
        check()


def test_resume_takes_what_may_change() -> None:
    changeable = {d.name for d in SETTINGS if d.about.changeable}
    root: Any = typer.main.get_command(cli.app)
    taken = {p.name for p in root.commands["resume"].params} & {d.name for d in SETTINGS}
    assert (
        taken
        == changeable
        == {"trials", "strict_table", "profile_seconds", "measure", "baselines", "final_seeds", "then"}
    )


def test_type_checkers_and_help_know_the_plan() -> None:
    typed = get_type_hints(PlanSettings)
    for described in describe(Plan):
        if described.name == "objectives":  # may be functions in a call, so `search` has it by itself
            continue
        kind = described.type
        if described.name == "then":  # a program may also give modifiers themselves
            expected: Any = Sequence[str | Modifier]
        elif get_origin(kind) is tuple:
            expected = Sequence[get_args(kind)[0]]  # type: ignore[misc]
        else:
            expected = kind | Mapping[str, Any] if is_settings(kind) else kind
        assert typed.pop(described.name) == expected
    assert not typed


def test_help_of_the_call_teaches() -> None:
    signature, text = inspect.signature(nas.search), inspect.getdoc(nas.search) or ""
    for described in SETTINGS:
        assert signature.parameters[described.name].default == described.default
        if described.name != "objectives":
            assert described.about.help.removesuffix(".") in text


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.title)
def test_settings_of_engines_and_strategies_are_described(kind: Any) -> None:
    assert kind() == kind.from_plain(kind().to_plain())
    for described in describe(kind):
        assert described.about.help.endswith(".")


def test_settings_of_engines_are_parsed_by_their_types() -> None:
    parsed = parse_search_settings("darts", "nsga2", {"guard": "false", "targets": "2.5,3", "steps": "7"})
    assert parsed == {"guard": False, "targets": (2.5, 3.0), "steps": 7}
    assert parse_search_settings("ofa", "nsga2", {"mutation_prob": "none"}) == {"mutation_prob": None}
    with pytest.raises(SettingError, match="engine darts: guard must be true or false, got 'maybe'"):
        parse_search_settings("darts", "nsga2", {"guard": "maybe"})
    with pytest.raises(SettingError, match="strategy random has no setting 'population'"):
        parse_search_settings("ofa", "random", {"population": "3"})


def commands(group: Any, *path: str) -> list[tuple[str, ...]]:
    """The words of every command below a group."""
    found = [path]
    for name, command in getattr(group, "commands", {}).items():
        found += commands(command, *path, name)
    return found


@pytest.mark.parametrize("path", commands(typer.main.get_command(cli.app)), ids=" ".join)
def test_help_pages_fit_a_terminal_and_explain_every_option(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.run([*path, "--help"]) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 80
    command: Any = typer.main.get_command(cli.app)
    for name in path:
        command = command.commands[name]
    assert command.help
    for parameter in command.params:
        assert parameter.help or parameter.name == "help", parameter.name


def test_help_of_a_search_has_a_heading_for_each_group(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cli.run(["search", "--help"])
    page = capsys.readouterr().out
    headings = [line.strip("╭─╮ ") for line in page.splitlines() if line.startswith("╭")]
    assert headings == [
        "Arguments", "Options", "Goals", "Search", "Training", "Latency", "Finalists", "Workers",
    ]  # fmt: skip
    assert "[default: 300]" in " ".join(page.replace("│", " ").split())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["engines", "darts"], "--setting variant=modern"),
        (["strategies", "nsga2"], "--setting population=24"),
        (["strategies"], "random: Random search"),
        (["engines", "ofa"], "nas strategies NAME"),
        (["spaces"], "laptop: "),
        (["objectives"], "bits_per_byte"),
    ],
)
def test_lists_say_what_can_be_named(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(given) == 0
    assert said in capsys.readouterr().out
