"""Commands that list what can be named, and explain one: spaces, engines, objectives, recipes, and more."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import typer

from foundation.errors import EvaluationFailed, SettingError
from foundation.settings import Settings
from nas.commands.catalogue import Catalogue, From, catalogue, first_line, text_of
from nas.commands.groups import CATALOGUE
from nas.commands.options import Yes
from nas.commands.output import print_json, print_line


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (
        spaces,
        engines,
        strategies,
        schedulers,
        objectives,
        tasks,
        recipes,
        targets,
        modifiers,
    ):
        app.command(rich_help_panel=CATALOGUE)(command)


def spaces(
    name: Annotated[
        str | None, typer.Argument(help="A space to print, or FILE.py[:NAME].", show_default=False)
    ] = None,
    source: From = None,
) -> None:
    """List the ready-made spaces, or print one."""
    from nas.study.space_files import FILE, load_space, spaces_in
    from search_spaces.language.space import Space
    from search_spaces.spaces import spaces as ready_made

    if name is not None and source is None and FILE.fullmatch(name):
        print_line(str(load_space(name)))
        return
    found = catalogue(ready_made, source, spaces_in)
    if name is not None:
        made = found.named(name)
        print_line(str(made if isinstance(made, Space) else made()))
        return
    found.print_lines(_about_space)


def engines(
    name: Annotated[
        str | None, typer.Argument(help="One engine, with its settings.", show_default=False)
    ] = None,
    source: From = None,
) -> None:
    """List the engines that search shared weights, or explain one and its settings (`--setting`)."""
    from nas.engines.base import engines as registered

    found = catalogue(registered, source)
    if name is None:
        found.print_lines(first_line)
        return
    kind = found.named(name)
    _explain(kind, kind)
    if kind.asks_strategy:
        print_line("Its settings are those of the strategy (--strategy): nas strategies NAME")


def strategies(
    name: Annotated[
        str | None, typer.Argument(help="One strategy, with its settings.", show_default=False)
    ] = None,
    source: From = None,
    yes: Yes = False,
) -> None:
    """List the strategies that propose candidates, or explain one and its settings (`--setting`)."""
    from nas.commands.consent import with_consent
    from nas.strategies.base import strategies as registered
    from nas.strategies.foreign import require_consent

    found = catalogue(registered, source)
    if name is None:
        found, broken = _loaded(found)
        found.print_lines(lambda kind: f"{first_line(kind)}{f' Use it {kind.use}.' if kind.use else ''}")
        for line in broken:
            print_line(line)
        return
    with_consent(partial(require_consent, name), yes)
    kind = found.named(name)
    _explain(kind, kind.settings_kind)


def schedulers(
    name: Annotated[str | None, typer.Argument(help="One scheduler to explain.", show_default=False)] = None,
    source: From = None,
) -> None:
    """List what decides for how long each candidate is trained (`--scheduler`), or explain one."""
    from nas.schedulers.base import schedulers as registered

    found = catalogue(registered, source)
    if name is None:
        found.print_lines(first_line)
        return
    kind = found.named(name)
    print_line(f"{kind.name}: {text_of(kind)}")


def _loaded(found: Catalogue) -> tuple[Catalogue, list[str]]:
    """What can be loaded, and a line about each of which the package is broken."""
    things, broken = {}, []
    for name in found.things:
        try:
            things[name] = found.things[name]
        except SettingError as error:
            broken.append(f"{name}: {error}")
    return replace(found, things=things), broken


def objectives(
    name: Annotated[str | None, typer.Argument(help="One objective to explain.", show_default=False)] = None,
    source: From = None,
) -> None:
    """List what can be traded off and bounded, with units, or explain one."""
    from nas.objectives.base import objectives as registered

    found = catalogue(registered, source)
    if name is None:
        found.print_table(
            ("unit", "available", "what it is"), lambda each: (each.unit, _when(each), each.about)
        )
        return
    _explain_objective(found, name)


def tasks(
    name: Annotated[str | None, typer.Argument(help="One task to explain.", show_default=False)] = None,
    source: From = None,
) -> None:
    """List what networks can be trained on, with the objective that each task scores, or explain one."""
    from evaluators.tasks.base import tasks as registered
    from nas.commands.options_from_settings import settings_lines
    from nas.study.task_settings import TaskTraining

    found = catalogue(registered, source)
    if name is None:
        found.print_table(("objective", "what it is"), lambda each: (each.score_name, first_line(each)))
        return
    kind = found.named(name)
    print_line(f"{kind.name}: {text_of(kind)}\n")
    print_line(f"its objective: -o {kind.score_name} ({kind.score_unit}): {kind.score_help}")
    print_line(f"windows of {kind.length} tokens; losses in {kind.unit}\n")
    settings = settings_lines(kind, f"--task {kind.name}.") if issubclass(kind, Settings) else []
    for line in [*settings, *settings_lines(TaskTraining, f"--task {kind.name}.")]:
        print_line(line)


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="One recipe, whose settings are printed as JSON.", show_default=False)
    ] = None,
) -> None:
    """List the ready-made recipes (`--recipe NAME`) and when to use which, or print one.

    Example: nas recipes default > mine.json; nas search laptop --recipe mine.json
    """
    from evaluators.training.recipes import recipes as registered

    found = catalogue(registered, None)
    if name is None:
        found.print_lines(first_line)
        return
    print_json(found.named(name)().to_plain())


def targets(
    name: Annotated[
        str | None, typer.Argument(help="One format, with its settings.", show_default=False)
    ] = None,
) -> None:
    """List the formats that a network is exported to (`nas export --to`), or explain one and its settings."""
    from nas.exports.base import targets as registered

    list_or_explain(catalogue(registered, None), name, "--to {},")


def modifiers(
    name: Annotated[
        str | None, typer.Argument(help="One modifier, with its settings.", show_default=False)
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Hold each published method against its reference; a line each."),
    ] = False,
) -> None:
    """List what makes another network of a trained one (`nas run`), or explain one and its settings."""
    from nas.modifiers.base import modifiers as registered

    if check:
        if name is not None:
            raise SettingError("--check is for all methods: leave the name out")
        _check_methods()
        return
    list_or_explain(catalogue(registered, None), name, "{},")


def _check_methods() -> None:
    """A line for each method: how far it is from its reference, and its sizes beside its law.

    Raises:
        EvaluationFailed: one is too far off.
    """
    from nas.modifier_checks.base import checks, good
    from search_spaces.checkpoints.against_transformers import quiet

    width, failed, done = max(map(len, checks)), list[str](), 0
    for name, kind in checks.items():
        check = kind()
        if check.missing:
            print_line(f"{name:{width}}  skipped  not installed: {', '.join(check.missing)}")
            continue
        with quiet():
            found = check.measure()
        passed, done = good(check, found), done + 1
        failed += [] if passed else [name]
        print_line(
            f"{name:{width}}  {'ok' if passed else 'FAILED':7}  {found.deviation:.1e} of"
            f" {check.tolerance:.0e}  {found.counted:,} {check.counts}, by its law {found.law:,}"
            f"  ({check.reference})"
        )
    print_line(f"{done - len(failed)} of {done} methods ok, {len(checks) - done} skipped")
    if failed:
        raise EvaluationFailed(f"these methods failed: {', '.join(failed)}")


def _about_space(made: Any) -> str:
    """A line about a space, or about the function that makes it."""
    from foundation.text import count
    from search_spaces.language.space import Space

    return count(made.size(), "architecture") if isinstance(made, Space) else first_line(made)


def _explain_objective(found: Catalogue, name: str) -> None:
    objective = found.named(name)
    better = "larger" if objective.maximise else "smaller"
    unit = f" ({objective.unit})" if objective.unit else ""
    print_line(f"{objective.name}{unit}: {objective.about}\n")
    print_line(f"{better} is better; known {_when(objective)}")
    if objective.task:
        print_line(f"the score of the task {objective.task}: nas tasks {objective.task}")
    for bound in objective.bounds:
        print_line(f"bounded in every study that asks for it: {bound}")
    if objective.cheap:
        sign = ">" if objective.maximise else "<"
        print_line(f"can be bounded: -c '{objective.name}{sign}NUMBER'")
    if objective.per_scenario:
        print_line(f"where there are several scenarios, of one of them: {objective.name}@SCENARIO")
    if objective.needs_table:
        print_line("predicted by a latency table, which is measured first")


def _when(objective: Any) -> str:
    if objective.cheap:
        return "before training"
    if objective.zero_cost:
        return "at the initial weights"
    return "after training" if objective.task else "once a worker scored it"


def list_or_explain(found: Catalogue, name: str | None, option: str) -> None:
    """A line for each kind, or what the named one is; `option` holds {} where settings have its name."""
    if name is None:
        found.print_lines(first_line)
        return
    kind = found.named(name)
    _explain(kind, kind, option.format(kind.name))


def _explain(kind: type[Any], settings: type[Settings], option: str = "--setting ") -> None:
    """What a kind is, from its module, and its settings as an option gives them, with help and range."""
    from nas.commands.options_from_settings import settings_lines

    own = inspect.cleandoc(kind.__doc__ or "")
    text = text_of(kind)
    print_line(f"{kind.name}: {text}\n" + (f"\n{own}\n" if own and own != text else ""))
    for line in settings_lines(settings, option):
        print_line(line)
