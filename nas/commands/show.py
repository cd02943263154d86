"""Commands that look: ls, front, show, spaces, objectives."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from nas.commands.options import Json, Store, StudyName, TrialName
from nas.commands.search import DEFAULT_STORE

PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(name="ls")(ls)
    for command in (front, show, spaces, engines, objectives):
        app.command()(command)


def ls(as_json: Json = False, store: Store = DEFAULT_STORE) -> None:
    """List the studies of a store."""
    from nas.store import Store as Opened

    with Opened(store, read_only=True) as opened:
        rows = [_study_row(opened, record) for record in opened.studies()]
    if as_json:
        _print_json(rows)
        return
    table = Table("study", "started", "trials", "space", "objectives", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            row["name"], row["created"], f"{row['complete']}/{row['trials']}", row["space"], row["objectives"]
        )
    _console().print(table)


def front(study: StudyName, as_json: Json = False, store: Store = DEFAULT_STORE) -> None:
    """Print the Pareto front of a study; with --json, for programs."""
    from nas.study.study import open_study

    opened = open_study(study, store)
    if as_json:
        _print_json([trial_json(opened, trial) for trial in opened.front()])
    else:
        print_front(opened)


def show(study: StudyName, trial: TrialName, as_json: Json = False, store: Store = DEFAULT_STORE) -> None:
    """Print one network: its layers, its numbers with their errors, and where each number comes from."""
    from nas.study.study import open_study

    opened = open_study(study, store)
    found = opened.trial(trial)
    if as_json:
        _print_json(trial_json(opened, found))
        return
    console = _console()
    console.print(f"{opened.name} trial {found.number} ({found.stage}), {found.digest}: {found.state.value}")
    if found.reason:
        console.print(found.reason, markup=False)
    console.print(str(opened.spec(found)), markup=False)
    table = Table("number", "value", "± one s.e.", "how", box=None, pad_edge=False)
    for name, value, how in _numbers(opened, found):
        error = "" if value.error is None else f"{value.error:.2g}"
        table.add_row(name, number_text(name, value.value), error, how)
    console.print(table)
    console.print(f"take it home: nas export {opened.name} {found.digest} -o DIR", markup=False)


def spaces(
    name: Annotated[str | None, typer.Argument(help="A ready-made space, or FILE.py[:NAME].")] = None,
) -> None:
    """List the ready-made spaces, or print one."""
    from nas.study.space_files import load_space
    from search_spaces.spaces import spaces as ready_made

    if name is not None:
        sys.stdout.write(f"{load_space(name)}\n")
        return
    for known, make in ready_made.items():
        sys.stdout.write(f"{known}: {(make.__doc__ or '').strip().splitlines()[0]}\n")


def engines(
    name: Annotated[
        str | None, typer.Argument(help="One engine, with its settings.", show_default=False)
    ] = None,
) -> None:
    """List the engines that search shared weights, or explain one and its settings (`--set`)."""
    import inspect

    from nas.engines.base import engines as known
    from nas.engines.base import settings_of

    if name is None:
        for engine in known.values():
            about = inspect.getdoc(inspect.getmodule(engine)) or ""
            sys.stdout.write(f"{engine.name}: {about.splitlines()[0]}\n")
        return
    kind = known[name]
    sys.stdout.write(f"{name}: {inspect.getdoc(inspect.getmodule(kind))}\n\n{inspect.getdoc(kind)}\n")
    if kind.asks_strategy:
        sys.stdout.write("\nIts settings are those of the strategy (--strategy).\n")
    for setting, default in settings_of(kind).items():
        sys.stdout.write(f"  --set {setting}={default}\n")


def objectives() -> None:
    """List what can be traded off and bounded, with units."""
    from nas.objectives.base import objectives as known

    table = Table("objective", "unit", "known", "what it is", box=None, pad_edge=False)
    for objective in known.values():
        when = "before training" if objective.cheap else "after training"
        table.add_row(objective.name, objective.unit, when, objective.about)
    _console().print(table)


def print_front(study: Any) -> None:
    """The front as a table on standard output."""
    names = list(
        dict.fromkeys([*study.plan.objectives, "bits_per_byte", "decode_ms", "weight_bytes", "params"])
    )
    trials = study.front()
    names = [name for name in names if any(name in trial.values for trial in trials)]
    table = Table("trial", "digest", *names, "layers", box=None, pad_edge=False)
    for trial in trials:
        numbers = [_with_error(name, trial.values.get(name)) for name in names]
        table.add_row(str(trial.number), trial.digest, *numbers, _strip(study.spec(trial)))
    console = _console()
    counted = len(study.complete())
    console.print(f"{study.name}: {counted} distinct architectures scored, {len(trials)} on the front")
    console.print(table)


def trial_json(study: Any, trial: Any) -> dict[str, Any]:
    """One trial as plain values."""
    from search_spaces.language.serialization import to_plain

    return {
        "number": trial.number,
        "stage": trial.stage,
        "digest": trial.digest,
        "state": trial.state.value,
        "fidelity": {"evaluator": trial.fidelity.evaluator, "steps": trial.fidelity.steps},
        "values": {name: value.to_json() for name, value, _ in _numbers(study, trial)},
        "genotype": dict(trial.genotype.genes),
        "spec": to_plain(study.spec(trial)),
    }


def number_text(name: str, value: float) -> str:
    """A number for people: bytes and counts with prefixes, the rest with four digits."""
    name = name.partition("@")[0].removesuffix("_measured")
    if name.endswith(("bytes", "flops", "params", "bytes_per_token")):
        for size, prefix in PREFIXES:
            if abs(value) >= size:
                return f"{value / size:.3g} {prefix}" + ("B" if "bytes" in name else "")
    return f"{value:.4g}"


def _numbers(study: Any, trial: Any) -> list[tuple[str, Any, str]]:
    """Name, value and provenance of all that is known of a trial's architecture."""
    from nas.study.trial import Value

    found = [(name, value, value.source) for name, value in trial.values.items()]
    found += [(m.name, m.value, m.value.source) for m in study.measurements(trial.digest)]
    for stage in ("search", "final", "validate"):
        for other in study.trials(stage):
            score = other.values.get("bits_per_byte")
            if other.digest == trial.digest and score and other.fidelity != trial.fidelity:
                steps = f"{other.fidelity.steps} steps"
                found.append((f"bits_per_byte, {score.source} {steps}", score, f"{score.source}, {stage}"))
    figures = {name: number for _, value, _ in found for name, number in value.figures.items()}
    return found + [(name, Value(number), "a training batch") for name, number in figures.items()]


def _study_row(store: Any, record: Any) -> dict[str, Any]:
    plan, space = record.config["plan"], record.config.get("space", {})
    counts = {state.value: count for state, count in store.counts(record.id).items()}
    return {
        "name": record.name,
        "created": datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M"),
        "complete": counts.get("complete", 0),
        "trials": plan["trials"],
        "states": counts,
        "space": f"{space.get('name', '?')} {record.space_digest}",
        "objectives": ", ".join(plan["objectives"]),
    }


def _with_error(name: str, value: Any) -> str:
    if value is None:
        return ""
    text = number_text(name, value.value)
    return text if value.error is None else f"{text} ± {value.error:.2g}"


def _strip(spec: Any) -> str:
    layers = getattr(spec, "layers", None)
    if layers is None:
        return str(spec)
    kinds = ["+".join(type(block).__name__ for block in layer.blocks.values()) for layer in layers]
    return f"d{spec.d_model}: " + ", ".join(kinds)


def _print_json(plain: Any) -> None:
    sys.stdout.write(json.dumps(plain, indent=2) + "\n")


def _console() -> Console:
    """Tables for people; wide where standard output is a file."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=200)
