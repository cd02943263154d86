"""Does the front that a search finds beat the networks that a sceptic would choose?

    python -m benchmarks.training.front --data FOLDER                    # `gpu` on one GPU, over an hour
    python -m benchmarks.training.front --space laptop --steps 300 --seeds 2    # the same on a CPU

A study of the space, with finalists and its baselines, as `nas search` makes it. Then the winners and the
baselines that were trained longest, each from several random seeds, for equal tokens, by the same recipe. A
winner is held against each baseline that is no faster and no smaller, or the other way round, in pairs of
equal seeds: the difference in bits per byte, its standard error over seeds, and what was measured of both.

Everything can be stopped and called again: the study and each seed go on where they were. `--folder` holds
the study and the scores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import nas
from benchmarks.common import keep, show_plainly
from foundation.files import read_json, write_json
from foundation.statistics import mean_and_error
from nas.study.baselines import STAGE, rungs_of
from nas.study.evaluators import scratch_evaluator
from nas.study.given_networks import given_name
from nas.study.study import Study
from nas.study.task import task_of
from nas.study.trial import Trial, TrialState
from search_spaces.sizing import weight_bytes

NAME = "training_front"
WINNERS = 2
HIDDEN = ("seeds", "winner", "tokens", "architecture")
"""What of a row is kept and not printed."""

EQUAL = 1.05
"""Costs within this factor are equal: timings settle within a few per cent."""


def main() -> None:
    """Search, train what is compared from every seed, and print the table."""
    wanted = _arguments()
    folder = Path(wanted.folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {name: _value(text) for name, _, text in (each.partition("=") for each in wanted.set)}
    settings |= {} if wanted.data is None else {"data": wanted.data}
    store = str(folder / "studies.db")
    study = nas.search(wanted.space, name="front", store=store, yes=True, **settings)
    rows = compared(study, folder / "scores.json", wanted)
    show_plainly("Winners and baselines, bits per byte over seeds", [_shown(row) for row in rows])
    verdicts = list(_verdicts(rows))
    for line in verdicts:
        print(line)
    command = f"python -m benchmarks.training.front --space {wanted.space}"
    keep(NAME, command, rows, device=study.plan.train_on, verdicts=verdicts)


def compared(study: Study, path: Path, wanted: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each network: what was measured of it, and its scores by seed."""
    scores: dict[str, dict[str, float]] = read_json(path) if path.exists() else {}
    evaluator = scratch_evaluator(study.plan, task_of(study), study.folder)
    steps = wanted.steps or max(study.plan.finalist_steps)
    rows = []
    for name, trial in _networks(study):
        own = scores.setdefault(f"{trial.digest} {steps}", {})
        for seed in range(wanted.seeds):
            if str(seed) not in own:
                own[str(seed)] = evaluator.score(study.spec(trial), steps, seed).value
                write_json(path, scores)
                print(f"{name}, seed {seed}: {own[str(seed)]:.4f} bits per byte", flush=True)
        mean, error = mean_and_error(list(own.values())) if len(own) > 1 else (own["0"], float("nan"))
        costs = {key: study.numbers(trial)[key].value for key in _costs(study) if key in study.numbers(trial)}
        tokens = steps * study.plan.train_batch * task_of(study).length
        row = {"network": name, "winner": trial.stage != STAGE, "bits_per_byte": mean, "error": error}
        spec = study.spec(trial)
        row |= {**costs, "bytes": weight_bytes(spec), "tokens": tokens, "seeds": own}
        rows.append(row | {"architecture": str(spec).splitlines()})
    return rows


def _networks(study: Study) -> list[tuple[str, Trial]]:
    """The winners, which were trained longest and score best, and the baselines beside them."""
    last = [rung for rung in rungs_of(study) if rung.members]
    finals = [trial for rung in reversed(last) for trial in rung.members]
    quality = study.plan.objectives[0]
    longest: dict[str, Trial] = {}
    for trial in sorted(finals, key=lambda t: (-t.fidelity.steps, t.values[quality].value)):
        longest.setdefault(trial.digest, trial)
    winners = list(longest.values())[:WINNERS]
    beside: dict[str, Trial] = {}
    done = [trial for trial in study.trials(STAGE) if trial.state is TrialState.COMPLETE]
    for trial in sorted(done, key=lambda t: (-t.fidelity.steps, t.values[quality].value)):
        beside.setdefault(given_name(trial.genotype), trial)
    named = [(f"winner {i}", trial) for i, trial in enumerate(winners, 1)]
    return named + list(beside.items())


def _costs(study: Study) -> list[str]:
    """The quantities that networks are compared at beside their bytes."""
    return [name for name in study.plan.objectives if name.endswith("_ms")]


def _verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Every winner against every baseline, at each cost that is equal or better."""
    told = []
    for winner in (row for row in rows if row["winner"]):
        for other in (row for row in rows if not row["winner"]):
            pairs = [winner["seeds"][seed] - other["seeds"][seed] for seed in winner["seeds"]]
            mean, error = mean_and_error(pairs) if len(pairs) > 1 else (pairs[0], float("nan"))
            for cost in (name for name in winner if name.endswith("_ms") or name == "bytes"):
                ratio = winner[cost] / other[cost]
                sign = "no more" if ratio <= EQUAL else "more"
                told.append(
                    f"{winner['network']} against {other['network']}: {mean:+.4f}"
                    f" ± {error:.4f} bits per byte at {ratio:.2f} of its {cost} ({sign})"
                )
    return told


def _value(text: str) -> Any:
    """A setting of the plan: JSON where it looks like it, else a word."""
    return json.loads(text) if text[:1] in '[{"0123456789' else text


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in HIDDEN}


def _arguments() -> argparse.Namespace:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--space", default="gpu")
    parser.add_argument("--data", default=None, help="text: a folder; default: Python's own library")
    parser.add_argument("--folder", default="studies/front", help="where the study and the scores are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=None, help="default: those of the last finalists")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the plan")
    return parser.parse_args()


if __name__ == "__main__":
    main()
