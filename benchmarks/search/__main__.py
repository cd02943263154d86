"""`python -m benchmarks.search`: the share of the true front's hypervolume after 50 to 1,000 evaluations.

    python -m benchmarks.search                        # everything that is not in the results yet
    python -m benchmarks.search --problem interacting --contender auto --seeds 2 --budget 200
    python -m benchmarks.search --fresh                # again from the start

What counts are the true values of those architectures that a search would report: of what it has seen, the
undominated by values as measured. A row is kept as soon as it is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, keep, show_plainly
from benchmarks.search.contenders import CONTENDERS
from benchmarks.search.problems import MAKERS, Problem, problem
from nas.pareto import hypervolume, nondominated

BUDGETS = (50, 100, 200, 500, 1000)
SEEDS = 5
SLOW = {"Optuna TPE": 200}
"""The largest budget of those that take minutes for more."""

NAME, COMMAND = "search", "python -m benchmarks.search"


def reached(task: Problem, contender: str, seed: int, budget: int) -> dict[str, Any]:
    """The shares of the hypervolume after each budget, the share of repeats, and the time of its own."""
    chance = np.random.default_rng(seed)
    true: list[tuple[float, ...]] = []
    measured: list[tuple[float, ...]] = []
    seen = set[Any]()

    def score(spec: Any) -> tuple[float, ...]:
        values = task.evaluate(spec)
        seen.add(spec)
        true.append(values)
        measured.append((*values[:-1], values[-1] + task.noise * chance.standard_normal()))
        return measured[-1]

    spent = CONTENDERS[contender](task.space, task.objectives, task.noise, score, budget, seed)
    shares = {}
    for count in (b for b in BUDGETS if b <= budget):
        reported = np.array(true[:count])[np.array(nondominated(measured[:count]), dtype=bool)]
        shares[str(count)] = round(hypervolume(reported, task.reference) / task.ideal, 4)
    repeats = round(1 - len(seen) / len(true), 3)
    return {"shares": shares, "repeats": repeats, "ms a proposal": round(1000 * spent / budget, 2)}


def main(words: Sequence[str] | None = None) -> int:
    """Run what is missing, keep it, and print the means."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.partition("\n")[0])
    parser.add_argument("--problem", action="append", choices=list(MAKERS))
    parser.add_argument("--contender", action="append", choices=list(CONTENDERS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--budget", type=int, default=max(BUDGETS), choices=BUDGETS)
    parser.add_argument("--fresh", action="store_true", help="forget the rows that are there")
    chosen = parser.parse_args(words)
    rows = [] if chosen.fresh else kept()
    missing = set[str]()
    for seed in range(chosen.seeds):
        for name in chosen.problem or MAKERS:
            for contender in chosen.contender or CONTENDERS:
                budget = min(chosen.budget, SLOW.get(contender, chosen.budget))
                if contender in missing or _is_there(rows, name, contender, seed, budget):
                    continue
                try:
                    result = reached(problem(name), contender, seed, budget)
                except ModuleNotFoundError as error:
                    sys.stderr.write(f"{contender} is left out: {error}\n")
                    missing.add(contender)
                    continue
                key = {"problem": name, "contender": contender, "seed": seed}
                rows = [row for row in rows if not key.items() <= row.items()] + [{**key, **result}]
                keep(NAME, COMMAND, rows)
                print(key, result, flush=True)
    show_plainly("mean share of the true front's hypervolume (± standard deviation over seeds)", means(rows))
    return 0


def kept() -> list[dict[str, Any]]:
    """The rows of earlier runs."""
    path = RESULTS / f"{NAME}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    return rows


def means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each problem and contender."""
    lines = []
    for name in MAKERS:
        for contender in CONTENDERS:
            mine = [row for row in rows if (row["problem"], row["contender"]) == (name, contender)]
            if not mine:
                continue
            line: dict[str, Any] = {"problem": name, "contender": contender, "seeds": len(mine)}
            for budget in map(str, BUDGETS):
                shares = [row["shares"][budget] for row in mine if budget in row["shares"]]
                line[budget] = f"{np.mean(shares):.3f} ± {np.std(shares):.3f}" if shares else "-"
            line["repeats"] = f"{np.mean([row['repeats'] for row in mine]):.2f}"
            line["ms"] = f"{np.mean([row['ms a proposal'] for row in mine]):.1f}"
            lines.append(line)
    return lines


def _is_there(rows: Sequence[dict[str, Any]], name: str, contender: str, seed: int, budget: int) -> bool:
    key = {"problem": name, "contender": contender, "seed": seed}
    return any(key.items() <= row.items() and str(budget) in row["shares"] for row in rows)


if __name__ == "__main__":
    sys.exit(main())
