"""Commands that read studies: ls, front, show."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import typer
from rich.table import Table

from nas.commands.options import Json, Store, StudyName, TrialName
from nas.commands.output import output_console, print_json
from nas.default_paths import DEFAULT_STORE

PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(name="ls")(ls)
    for command in (front, show):
        app.command()(command)


def ls(as_json: Json = False, store: Store = DEFAULT_STORE) -> None:
    """List the studies of a store."""
    from nas.store import Store as Opened

    with Opened(store, read_only=True) as opened:
        rows = [_study_row(opened, record) for record in opened.studies()]
    if as_json:
        print_json(rows)
        return
    table = Table("study", "started", "trials", "space", "objectives", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            row["name"], row["created"], f"{row['complete']}/{row['trials']}", row["space"], row["objectives"]
        )
    output_console().print(table)


def front(study: StudyName, as_json: Json = False, store: Store = DEFAULT_STORE) -> None:
    """Print the Pareto front of a study; with --json, for programs."""
    from nas.study.study import open_study

    opened = open_study(study, store)
    if as_json:
        print_json([trial_json(opened, trial) for trial in opened.front()])
    else:
        print_front(opened)


def show(study: StudyName, trial: TrialName, as_json: Json = False, store: Store = DEFAULT_STORE) -> None:
    """Print one network: its layers, its numbers with their errors, and where each number comes from."""
    from nas.study.study import open_study

    opened = open_study(study, store)
    chosen = opened.trial(trial)
    if as_json:
        print_json(trial_json(opened, chosen))
        return
    console = output_console()
    console.print(
        f"{opened.name} trial {chosen.number} ({chosen.stage}), {chosen.digest}: {chosen.state.value}"
    )
    if chosen.reason:
        console.print(chosen.reason, markup=False)
    console.print(str(opened.spec(chosen)), markup=False)
    table = Table("number", "value", "± one s.e.", "how", box=None, pad_edge=False)
    for name, value, how in _numbers(opened, chosen):
        error = "" if value.error is None else f"{value.error:.2g}"
        table.add_row(name, number_text(name, value.value), error, how)
    console.print(table)
    console.print(f"export it: nas export {opened.name} {chosen.digest} -o DIR", markup=False)


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
    console = output_console()
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
    """Name, value and provenance of all numbers of a trial's architecture."""
    from nas.study.trial import Value

    numbers = [(name, value, value.source) for name, value in trial.values.items()]
    numbers += [(m.name, m.value, m.value.source) for m in study.measurements(trial.digest)]
    for stage in ("search", "final", "validate"):
        for evaluation in study.trials(stage):
            score = evaluation.values.get("bits_per_byte")
            if evaluation.digest == trial.digest and score and evaluation.fidelity != trial.fidelity:
                steps = f"{evaluation.fidelity.steps} steps"
                numbers.append((f"bits_per_byte, {score.source} {steps}", score, f"{score.source}, {stage}"))
    figures = {name: number for _, value, _ in numbers for name, number in value.figures.items()}
    return numbers + [(name, Value(number), "a training batch") for name, number in figures.items()]


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
