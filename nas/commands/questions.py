"""Commands that ask about single networks of a study: best, diff, lineage."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from nas.commands.groups import RESULTS
from nas.commands.options import Json, Store, StudyName, TrialName
from nas.commands.output import print_json, print_line, print_table
from nas.commands.show import print_members, trial_json
from nas.default_paths import DEFAULT_STORE


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (best, diff, lineage):
        app.command(rich_help_panel=RESULTS)(command)


def best(
    study: StudyName,
    objective: Annotated[
        str, typer.Option("--objective", "-o", help="The number to be best in.", show_default=False)
    ],
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            "--constraint",
            "-c",
            help="A bound on any number, e.g. 'decode_ms<1.5'; repeat it.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    store: Store = DEFAULT_STORE,
) -> None:
    """Print the best network under bounds, by measured numbers where there are some.

    In a score, it is the best of the finalists, if one of them keeps the bounds: they were trained alone.

    If nothing keeps the bounds, the message names the nearest network, and by how much it misses them.

    Example: nas best first -o bits_per_byte -c 'decode_ms<1.5' -c 'weight_bytes<250kB'
    """
    from nas.study.constraints import Constraint
    from nas.study.front import Front
    from nas.study.open_study import open_study

    opened, bounds = open_study(study, store), constraint or []
    trial = opened.best(objective, bounds)
    if as_json:
        print_json(trial_json(opened, trial))
        return
    numbers = opened.numbers(trial)
    asked = [objective, *(Constraint.read(text).name for text in bounds)]
    names = [n for name in asked for n in numbers if name in (n, n.partition("@")[0])]
    shown = Front(name=opened.name, trials=(trial,), numbers={trial.digest: numbers}, objectives=tuple(names))
    print_members(replace(shown, layers=opened.layers))
    if told := _judged_by(opened, trial, objective):
        print_line(told)


def _judged_by(study: Any, trial: Any, objective: str) -> str:
    """By which of its scores a network was called the best; empty where the number is no score."""
    if objective not in {score.name for score in study.scores}:
        return ""
    finalists, steps = study.finalists(), trial.fidelity.steps
    if alike := [each for each in finalists if each.fidelity == trial.fidelity]:
        return f"{objective}: as trained alone, {steps} steps; finalists trained so long: {len(alike)}"
    but = ", since no finalist keeps the bounds" if finalists else ""
    return f"{objective}: the score of the search ({trial.fidelity.evaluator}, {steps} steps){but}"


def diff(
    study: StudyName,
    first: TrialName,
    second: TrialName,
    as_json: Json = False,
    store: Store = DEFAULT_STORE,
) -> None:
    """Print two networks side by side: their layers, and how significantly their numbers differ."""
    from nas.study.open_study import open_study

    found = open_study(study, store).compare(first, second)
    if as_json:
        print_json(found.to_json())
        return
    for head, rows in found.tables:
        print_table(head, rows, wrapped=(*found.head, "significance"))
    for line in found.legend:
        print_line(line)


def lineage(study: StudyName, trial: TrialName, as_json: Json = False, store: Store = DEFAULT_STORE) -> None:
    """Print where a network comes from: its parents, theirs, and so on, and the choices that are new in each.

    A choice is new where no parent has made it. What was drawn at random has no parents.
    """
    from nas.study.open_study import open_study

    opened = open_study(study, store)
    ancestors = opened.lineage(trial)
    if as_json:
        print_json([_ancestor_json(ancestor) for ancestor in ancestors])
        return
    quality = opened.plan.objectives[0]
    rows = []
    for each in ancestors:
        value = opened.numbers(each.trial).get(quality)
        parents = ", ".join(str(parent.trial.number) for parent in each.parents) or each.origin
        rows.append([str(each.trial.number), each.trial.digest, str(value or ""), parents, _news(each)])
    heads = ("trial", "digest", quality, "parents", "new in this network")
    print_table(heads, rows, wrapped=heads[-2:])


def _news(ancestor: Any) -> str:
    """The answers of a child that no parent gives."""
    if not ancestor.parents:
        return ""
    paths = set.intersection(*(set(parent.changed) for parent in ancestor.parents))
    genes = ancestor.trial.genotype.genes
    return ", ".join(f"{path}={genes[path]}" for path in sorted(paths & genes.keys()))


def _ancestor_json(ancestor: Any) -> dict[str, Any]:
    return {
        "number": ancestor.trial.number,
        "digest": ancestor.trial.digest,
        "parents": [
            {
                "number": parent.trial.number,
                "changed": {path: list(labels) for path, labels in parent.changed.items()},
            }
            for parent in ancestor.parents
        ],
    }
