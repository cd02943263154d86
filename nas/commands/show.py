"""Commands that read studies: ls, front, show."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import typer
from rich.table import Table

from foundation.errors import SettingError, StoreError
from foundation.text import count, number_text, one_line
from nas.commands.groups import RESULTS
from nas.commands.options import Json, SourceFile, Store, StudyName, TrialName
from nas.commands.output import cell, output_console, print_json, print_line, print_table
from nas.default_paths import DEFAULT_STORE


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(name="ls", rich_help_panel=RESULTS)(ls)
    for command in (front, show):
        app.command(rich_help_panel=RESULTS)(command)


def ls(as_json: Json = False, store: Store = DEFAULT_STORE) -> None:
    """List the studies of a store: their states, candidates scored of how many, and how many of these failed.

    A study is running while a process of this machine works on it; one that was stopped, or failed, goes on
    with `nas resume`.
    """
    from nas.store import Store as Opened
    from nas.store import Unreadable

    unreadable: list[Unreadable] = []
    with Opened(store, read_only=True) as opened:
        rows = [_study_row(opened, record) for record in opened.studies(unreadable.append)]
    rows += [{"name": record.name, "unreadable": record.reason} for record in unreadable]
    if as_json:
        print_json(rows)
        return
    heads = ("study", "state", "started", "scored", "failed", "space", "objectives")
    print_table(heads, map(_study_cells, rows), wrapped=("space", "objectives"))
    for row in rows:
        if row.get("error"):
            print_line(f"{row['name']} failed: {one_line(row['error'])}")


def front(study: StudyName, as_json: Json = False, store: Store = DEFAULT_STORE) -> None:
    """Print the Pareto front of a study; with --json, for programs. Exit code 1 where nothing was scored."""
    from nas.study.modified import STAGE as MODIFIED
    from nas.study.modified import front_after
    from nas.study.study import open_study
    from nas.study.tally import require_scored

    opened = open_study(study, store)
    if as_json:
        after = [trial for trial in front_after(opened) if trial.stage == MODIFIED]
        print_json([trial_json(opened, trial) for trial in [*opened.front(), *after]])
    else:
        print_front(opened)
    require_scored(opened)


def show(
    study: StudyName,
    trial: TrialName,
    as_json: Json = False,
    space: SourceFile = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Print one network: its layers, its numbers with their errors, and where each number comes from."""
    from nas.study.given_networks import given_name, is_given
    from nas.study.marks import rough_lines
    from nas.study.modified import record_lines
    from nas.study.standing import standing
    from nas.study.study import open_study

    opened = open_study(study, store)
    chosen = opened.trial(trial)
    opened = opened if space is None else opened.with_source(space)
    if as_json:
        print_json(trial_json(opened, chosen))
        return
    of = f" {given_name(chosen.genotype)}" if is_given(chosen.genotype) else ""
    stage = f"{chosen.stage}{of}"
    print_line(f"{opened.name} trial {chosen.number} ({stage}), {chosen.digest}: {chosen.state.value}")
    if chosen.reason:
        print_line(one_line(chosen.reason))
    print_line(str(opened.spec(chosen)))
    for line in [*record_lines(chosen), *filter(None, [standing(opened, chosen)])]:
        print_line(line)
    table = Table("number", "value", cell("± one s.e."), "how", box=None, pad_edge=False)
    numbers, units = _numbers(opened, chosen), opened.declared_units
    for name, value, how in _measured_first(numbers):
        error = "" if value.error is None else f"{value.error:.2g}"
        named = f"{name} ({units[name]})" if name in units else name
        table.add_row(cell(named), cell(value.marked(number_text(name, value.value))), error, cell(how))
    output_console().print(table)
    for line in rough_lines([{name: value} for name, value, _ in numbers], opened.table_errors):
        print_line(line)
    print_line(f"export it: nas export {opened.name} {chosen.digest} -o DIR")


def print_front(study: Any, *, searched: bool = False) -> None:
    """The front as a table on standard output, and what became of the other proposals.

    `searched`: this process has just ended a search of the study, and has told which others go on with it.
    """
    from nas.study.baseline_gaps import verdicts
    from nas.study.finalist_table import finalist_lines, finalist_table
    from nas.study.modified import front_after, then_lines
    from nas.study.proposers import proposers_of
    from nas.study.rungs import rung_lines, rungs_of
    from nas.study.state import others_at_work
    from nas.study.tally import tally_of

    members, tally = study.front(), tally_of(study)
    print_line(
        f"{study.name}: {count(tally.distinct, 'distinct architecture')} scored, {len(members)} on the front"
    )
    if members.dropped:
        print_line(f"{count(members.dropped, 'network')} more on the predicted front, dominated as measured")
    proposers = proposers_of(study.trials())
    proposed = proposers.lines if proposers else []
    others = "" if searched else others_at_work(study)
    for line in [*filter(None, [others]), *tally.lines, *proposed, *rung_lines(rungs_of(study))]:
        print_line(line)
    print_members(members)
    finalists = finalist_table(study)
    for line in finalist_lines(finalists):
        print_line(line)
    print_members(finalists)
    for verdict in verdicts(study):
        print_line(str(verdict))
    after = front_after(study)
    for line in then_lines(study, after):
        print_line(line)
    print_members(after)


def print_members(members: Any) -> None:
    """Networks of a front as a table, with their layers, and what its marks mean.

    Where lines are short, numbers that are no objectives are left out.
    """
    members = members.fitting(output_console().width)
    if members:
        print_table(members.head, members.rows, wrapped=(members.described,))
    if members.legend:
        print_line(members.legend)


def trial_json(study: Any, trial: Any) -> dict[str, Any]:
    """One trial as plain values."""
    from nas.study.modified import LIST, OF, RECORDS

    return {
        "number": trial.number,
        "stage": trial.stage,
        "digest": trial.digest,
        "state": trial.state.value,
        "fidelity": {"evaluator": trial.fidelity.evaluator, "steps": trial.fidelity.steps},
        "values": {name: value.to_json() for name, value, _ in _numbers(study, trial)},
        "genotype": dict(trial.genotype.genes),
        **_spec_json(study, trial),
        **{name: trial.memo[name] for name in (OF, LIST, RECORDS) if name in trial.memo},
    }


def _numbers(study: Any, trial: Any) -> list[tuple[str, Any, str]]:
    """Name, value and provenance of all numbers of a trial's architecture."""
    from nas.study.trial import STAGES, Value

    numbers = [(name, value, value.source) for name, value in trial.values.items()]
    numbers += [(m.name, m.value, m.value.source) for m in study.measurements(trial.digest)]
    for stage in STAGES:
        for evaluation in study.trials(stage):
            if evaluation.digest != trial.digest or evaluation.fidelity == trial.fidelity:
                continue
            steps = f"{evaluation.fidelity.steps} steps"
            for name in (scored.name for scored in study.scores if scored.name in evaluation.values):
                score = evaluation.values[name]
                numbers.append((f"{name}, {score.source} {steps}", score, f"{score.source}, {stage}"))
    figures = {name: number for _, value, _ in numbers for name, number in value.figures.items()}
    return numbers + [(name, Value(number), "a training batch") for name, number in figures.items()]


def _measured_first(numbers: list[tuple[str, Any, str]]) -> list[tuple[str, Any, str]]:
    """What was measured under the plain name, as in a front, and below it what had been predicted."""
    from nas.study.trial import MEASURED

    measured = {
        name.removesuffix(MEASURED): (value, how) for name, value, how in numbers if name.endswith(MEASURED)
    }
    rows = []
    for name, value, how in numbers:
        if name in measured:
            rows += [(name, *measured.pop(name)), (f"{name}, {how}", value, how)]
        elif not name.endswith(MEASURED):
            rows.append((name, value, how))
    return rows + [(name, value, how) for name, (value, how) in measured.items()]


def _study_row(store: Any, record: Any) -> dict[str, Any]:
    from nas.study.state import state_of
    from nas.study.study import Study

    found = store.counts(record.id)
    try:
        study = Study(store, record)
        plan, (state, error) = study.plan, state_of(study, found)
    except StoreError as unreadable:
        return {"name": record.name, "unreadable": str(unreadable)}
    counts = {state.value: count for state, count in found.items()}
    return {
        "name": record.name,
        "state": state,
        "error": error or None,
        "created": datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M"),
        "complete": counts.get("complete", 0),
        "scored": _scored(study, found),
        "trials": plan.trials,
        "states": counts,
        "space": f"{record.config.get('space', {}).get('name', '?')} {record.space_digest}",
        "objectives": ", ".join(plan.objectives),
    }


def _scored(study: Any, counts: Any) -> int:
    """Candidates that count towards the plan; which of the infeasible ones do, only the trials say."""
    from nas.study.trial import TrialState

    if counts.get(TrialState.INFEASIBLE) and study.scores:
        return sum(trial.counts for trial in study.trials())
    return sum(counts.get(state, 0) for state in (TrialState.COMPLETE, TrialState.FAILED))


def _study_cells(row: Mapping[str, Any]) -> list[str]:
    if "unreadable" in row:
        return [row["name"], "", "", "", "", "", f"cannot be read: {row['unreadable']}"]
    failed = row["states"].get("failed", 0)
    scored = f"{row['scored']} of {row['trials']}"
    return [
        row["name"],
        row["state"],
        row["created"],
        scored,
        str(failed or ""),
        row["space"],
        row["objectives"],
    ]


def _spec_json(study: Any, trial: Any) -> dict[str, Any]:
    from search_spaces.language.serialization import to_plain

    try:
        return {"spec": to_plain(study.spec(trial))}
    except (StoreError, SettingError) as error:
        return {"spec": None, "unreadable": str(error)}
