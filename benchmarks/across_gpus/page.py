"""What to expect from how many GPUs: a page of docs/, written from the results of the rows.

    python -m benchmarks.across_gpus.page                          # docs/explanation/how_many_gpus.md
    python -m benchmarks.across_gpus.page --results FOLDER --output FILE

A row that was not run is named with the command that runs it, and a number that was not reached is a dash.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.common import RESULTS
from evaluators.training.execution import EAGER

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "how_many_gpus.md"
HEAD = """# What to expect from how many GPUs

Written by `python -m benchmarks.across_gpus.page` from what was measured; do not edit. The results are
`benchmarks/results/across_gpus_*.json`.

Candidates are scored side by side, one or several on a GPU (`--workers`), and share nothing but the study. A
supernet is trained by data parallelism (`nas supernet train --processes N`): each process reads some of the
networks of a step, or its rows of their batches, and gradients are added up. A winner is trained by data,
sharded, tensor or pipeline parallelism, or products of these ([how](../how-to/train_a_winner.md)). A latency
table is measured on one GPU, and nothing else is timed on that one meanwhile.
"""

Row: TypeAlias = dict[str, Any]
Cells: TypeAlias = Sequence[str]


@dataclass(frozen=True)
class Section:
    """One row of the benchmarks: title, the module that runs it, the columns and lines of its table."""

    title: str
    name: str
    columns: tuple[str, ...]
    lines: Callable[[Sequence[Row]], Iterable[Cells]]


def search(rows: Sequence[Row]) -> Iterator[Cells]:
    """Candidates an hour, and how busy the GPUs were."""
    first: dict[Any, Row] = {}
    for row in rows:
        if "failed" in row or row.get("cold"):
            continue
        per_gpu = row["actors"] / row["gpus"]
        kind = (row["evaluator"], per_gpu)
        one = first.setdefault(kind, row)
        rate = row["an hour overall"]
        efficiency = rate * one["gpus"] / (one["an hour overall"] * row["gpus"])
        busy = [share for share in list(row["busy"].values())[: row["gpus"]] if share is not None]
        where = "from scratch" if row["evaluator"] == "scratch" else "from a supernet"
        yield (
            where,
            str(row["gpus"]),
            f"{per_gpu:g}",
            f"{rate:,.0f}",
            f"{efficiency:.2f}",
            _share(min(busy, default=None)),
        )


def supernet(rows: Sequence[Row]) -> Iterator[Cells]:
    """Tokens a second of a supernet."""
    for row in rows:
        if "tokens_per_s" in row:
            how = row["precision"] + ("" if row["compile"] == "none" else ", compiled")
            efficiency = row.get("efficiency")
            yield str(row["gpus"]), str(row["batch"]), how, _thousands(row["tokens_per_s"]), _two(efficiency)


def winner(rows: Sequence[Row]) -> Iterator[Cells]:
    """Tokens a second of one network."""
    one = next((row["tokens_per_s"] for row in rows if row["gpus"] == 1 and "tokens_per_s" in row), None)
    for row in rows:
        if "tokens_per_s" not in row:
            continue
        rate, peak = row["tokens_per_s"], row["peak"]
        yield (
            row["method"],
            str(row["gpus"]),
            row.get("compile", EAGER),
            _thousands(rate),
            _two(None if one is None else rate / one),
            "-" if peak is None else f"{peak / 1e9:.1f}",
        )


def timing(rows: Sequence[Row]) -> Iterator[Cells]:
    """Ratios of latency tables."""
    what = {"busy": "while the others train", "again": "idle once more"}
    for row in rows:
        if "parts" in row:
            means = [row.get(reading) for reading in ("prefill_ms", "decode_ms")]
            yield str(row["gpus"]), what[row["case"]], str(row["parts"]), *map(_three, means)


def end_to_end(rows: Sequence[Row]) -> Iterator[Cells]:
    """Minutes of a whole study, and of its stages."""
    for row in rows:
        if "stages" not in row:
            continue
        minutes = [row["stages"].get(stage, {}).get("seconds") for stage in ("search", "final", "baseline")]
        whole = row["seconds"] / 60
        yield (
            str(row["gpus"]),
            f"{whole:.1f}" if row["done"] else f"not done after {whole:.1f}",
            *("-" if each is None else f"{each / 60:.1f}" for each in minutes),
            str(row["front"]),
        )


SECTIONS = (
    Section(
        "A search",
        "search",
        ("scored", "GPUs", "workers a GPU", "candidates an hour", "efficiency", "least busy GPU"),
        search,
    ),
    Section(
        "A supernet", "supernet", ("GPUs", "windows", "precision", "tokens a second", "efficiency"), supernet
    ),
    Section(
        "A winner",
        "winner",
        ("method", "GPUs", "compiled", "tokens a second", "over one GPU", "peak, GB a GPU"),
        winner,
    ),
    Section(
        "Latency tables beside trainings",
        "timing",
        ("GPUs", "the host", "parts", "prefill over idle", "decode over idle"),
        timing,
    ),
    Section(
        "From nothing to a front with baselines, in minutes",
        "end_to_end",
        ("GPUs", "all", "search", "finalists", "baselines", "networks on the front"),
        end_to_end,
    ),
)


def page(results: Path) -> str:
    """The whole page, of the results in a folder."""
    return "\n".join([HEAD, *(_section(section, results) for section in SECTIONS)]).rstrip() + "\n"


def _section(section: Section, results: Path) -> str:
    path = results / f"across_gpus_{section.name}.json"
    command = f"python -m benchmarks.across_gpus.{section.name} --gpus 1 2"
    title = f"## {section.title}\n"
    if not path.exists():
        return f"{title}\nNot run yet: `{command}`.\n"
    found = json.loads(path.read_text())
    lines = list(section.lines(found["rows"]))
    about = f"{found['device']}, torch {found['torch']}, {found['when'][:10]}, `{found['command']}`."
    if not lines:
        return f"{title}\n{about} Nothing was reached.\n"
    table = [section.columns, ["---"] * len(section.columns), *lines]
    failed = [row for row in found["rows"] if "failed" in row]
    more = f"\nNot reached: {len(failed)} of {len(found['rows'])} measurements.\n" if failed else ""
    return "\n".join([title, about, "", *(f"| {' | '.join(cells)} |" for cells in table), more])


def _thousands(rate: float) -> str:
    return f"{rate / 1e3:,.0f} k"


def _two(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _three(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def main(words: Sequence[str] | None = None) -> None:
    """Write the page."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--results", type=Path, default=RESULTS, help="where the results are")
    options.add_argument("--output", type=Path, default=PAGE, help="the page")
    given = options.parse_args(words)
    given.output.write_text(page(given.results))
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
