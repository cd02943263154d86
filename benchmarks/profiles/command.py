"""The command line of the profile benchmarks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.profiles import accuracy, cost, published, repeat
from benchmarks.profiles.figures import draw
from benchmarks.profiles.results import Result, default_path
from benchmarks.profiles.spaces import try_kinds
from search_spaces.scenario import Scenario

PARTS = ("accuracy", "repeat", "cost", "claims")
DRAWN = ("accuracy", "claims")

SCENARIOS = {
    "cpu": "cpu",
    "cuda": "{device},engine=graph,dtype=bfloat16,prompt=512",
}
SECONDS = {"accuracy": {"cpu": 180.0, "cuda": 60.0}, "cost": {"cpu": 165.0, "cuda": 50.0}}
"""Given to a table; the cost part asks for less than its target, since the last batch runs over."""


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What to run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiles")
    parser.add_argument("--part", choices=("all", *PARTS, "draw"), default="all")
    parser.add_argument("files", nargs="*", type=Path, help="results to draw")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--scenario", help="instead of the usual one of the device")
    parser.add_argument("--size", choices=("cpu", "cuda", "tiny"), help="default: that of the device")
    parser.add_argument("--space", default="hybrid_lm", help="of the cost part")
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--seconds", type=float, help="for a table")
    parser.add_argument("--limit", type=float, default=420.0, help="seconds after which a part stops")
    parser.add_argument("--rounds", type=int, default=400, help="of the repeat part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/profiles_PART_DEVICE.json")
    parser.add_argument("--table", type=Path, help="where the accuracy part keeps its table, too")
    parser.add_argument("--ratios", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--try", nargs="+", dest="kinds", help=argparse.SUPPRESS)
    parser.add_argument("--try-scenario", help=argparse.SUPPRESS)
    parser.add_argument("--try-width", type=int, default=256, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] = ()) -> None:
    """Run one part or all that suit the device; print and keep what was found."""
    asked = arguments(argv)
    if asked.ratios:
        print(json.dumps(repeat.ratios(Scenario(**json.loads(asked.try_scenario)), asked.rounds)))
    elif asked.kinds:
        try_kinds(asked.kinds, Scenario(**json.loads(asked.try_scenario)), asked.try_width)
    elif asked.part == "draw":
        for path in asked.files:
            print(*draw(path))
    else:
        kind = asked.device.partition(":")[0]
        usual = ("accuracy", "cost", "claims") if kind == "cuda" else ("accuracy", "repeat", "cost")
        for part in usual if asked.part == "all" else (asked.part,):
            run(part, asked, without_paths(argv))


def without_paths(argv: Sequence[str]) -> str:
    """What was asked, as it is kept: where a machine puts its files tells nobody anything."""
    words = list(argv)
    for option in ("--out", "--table"):
        while option in words:
            del words[words.index(option) : words.index(option) + 2]
    return " ".join(words)


def run(part: str, asked: argparse.Namespace, words: str) -> None:
    """One part."""
    kind = asked.device.partition(":")[0]
    scenario = Scenario.parse(asked.scenario or SCENARIOS[kind].format(device=asked.device))
    size, seed = asked.size or kind, asked.seed
    seconds = SECONDS.get(part, {}).get(kind, 0.0) if asked.seconds is None else asked.seconds
    path = asked.out if asked.out and asked.part != "all" else default_path(part, asked.device)
    result = Result(path, f"python -m benchmarks.profiles {words}".strip(), scenario)
    if part == "accuracy":
        accuracy.run(
            scenario,
            result,
            size=size,
            networks=asked.networks,
            seconds=seconds,
            limit=asked.limit,
            seed=seed,
            output=asked.table,
        )
    elif part == "repeat":
        repeat.run(scenario, result, rounds=asked.rounds, limit=asked.limit)
    elif part == "cost":
        cost.run(scenario, result, space=asked.space, seconds=seconds, seed=seed)
    else:
        published.run(scenario, result, size=size, limit=asked.limit)
    if part in DRAWN:
        print(*draw(path), flush=True)
