"""Exact choice: is it the optimum, is it fast, and what is it worth to choose architecture and bits together?

    python -m benchmarks.oneshot.exact --out benchmarks/results/oneshot_exact.json --processes 2

Three questions, each a table.

`brute_force`: over random tables of 6 places x 5 options under 1 to 3 budgets, how often does the choice
equal brute force, how often is greedy worse, and by how much.

`speed`: 48 places x 54 options x 3 bit-widths under 1 to 3 budgets, free, and tied (two places share their
bits, as the halves of a layer do). Scores and costs are random. Seconds to a proven optimum, by the wall and
by the CPU's clock; greedy beside.

`joint`: per seed a supernet (4 layers, 7 sequence mixers, 3 channel mixers, 4 widths of weights, 2 of the
decode state) is trained on bytes, aligned to its best large network and scored block by block. Under many
pairs of budgets on weight and state bytes the joint choice stands against choosing the architecture first,
its bits afterwards, both steps exact: `first` reckons with 8 bits everywhere while it chooses the
architecture; `first, best of all` may reckon with each width in turn, and keeps what comes out best. Figures
are ratios of hypervolumes of (divergence from the parent, weight bytes, state bytes), bytes in logarithms:
divergence as the sum of scores, and really, of the whole networks that were chosen. Three comparisons:

- `granted`   every way under the same budgets, each network placed at what was granted;
- `used`      the same networks placed at the bytes that they use: a way that leaves a budget unused, because
              its architecture was fixed too early, gets that back;
- `matched`   the joint choice under exactly the bytes that each network of the other way uses.

Budgets under which `first` finds no network at all are counted; it has no point there. Additivity (predicted
against real divergence on random networks) is told beside them.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch

from benchmarks.common import provenance, show_plainly
from evaluators.blockwise.alignment import align
from evaluators.blockwise.replacement import Replacements
from evaluators.corpus import load_corpus
from evaluators.scoring.base import Score
from evaluators.scoring.windows import state_segment, window_losses
from evaluators.supernet.sandwich import sandwich
from evaluators.supernet.training import SupernetTraining
from evaluators.tasks.language import LanguageModelling
from evaluators.training.fit import fit
from nas.engines.exact.additivity import additivity
from nas.engines.exact.greedy import greedy
from nas.engines.exact.integer_program import ChoiceProblem, Unreachable
from nas.engines.exact.slots import Option, Slot, Solution
from nas.engines.exact.tables import ScoredSpace, random_networks, scored_space
from nas.pareto import hypervolume, reference_point
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.sublayers import Sublayer
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario
from search_spaces.supernet import Supernet

Row = dict[str, Any]
Found = list[tuple[dict[str, float], Decoder]]
"""Budgets, and what was chosen under them."""

COSTS = ("weight_bytes", "state_bytes")
SCENARIO = Scenario(prompt=512, new_tokens=64)
WEIGHTS, STATES = (3, 4, 8, 16), (8, 16)
MEASURES = tuple(f"{name}, {how}" for how in ("granted", "used", "matched") for name in ("scores", "real"))
OTHERS = ("first", "first, best of all")
SHARES = (0.03, 0.08, 0.15, 0.25, 0.4, 0.6)
"""Budgets, as shares of the way from the least of a cost to the parent's."""


def main() -> None:
    """Run, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tables", type=int, default=500, help="random tables for brute force")
    parser.add_argument("--steps", type=int, default=200, help="training steps of each supernet")
    parser.add_argument("--align", type=int, default=80, help="steps of alignment")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    began = perf_counter()
    result: dict[str, Any] = {**provenance("python -m benchmarks.oneshot.exact"), "settings": _plain(given)}
    result["brute_force"] = [brute_force(costs, given.tables // 3) for costs in (1, 2, 3)]
    show_plainly("equal to brute force, 6 places x 5 options", result["brute_force"])
    result["speed"] = [
        speed(costs, tied=tied, seeds=given.seeds) for tied in (False, True) for costs in (1, 2, 3)
    ]
    show_plainly("48 places x 54 options x 3 bit-widths", result["speed"])
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        result["joint"] = list(
            pool.map(partial(joint, steps=given.steps, aligned=given.align), range(given.seeds))
        )
    show_plainly("joint choice over architecture first, then bits", [_short(row) for row in result["joint"]])
    result["joint_summary"] = summary(result["joint"])
    show_plainly("over seeds", result["joint_summary"])
    result["seconds"] = round(perf_counter() - began, 1)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(result, indent=1) + "\n")


def brute_force(costs: int, tables: int) -> Row:
    """The choice against all 15,625 of each table."""
    equal = reachable = worse = stuck = 0
    gaps = []
    for seed in range(tables):
        dice = np.random.default_rng((costs, seed))
        scores = dice.normal(0.2, 0.5, (6, 5))
        prices = dice.gamma(1.0, 1.0, (6, 5, costs)) * 10.0 ** dice.integers(-4, 9, costs)
        bounds = prices.min(1).sum(0) + dice.uniform(0.02, 0.8, costs) * np.ptp(prices, axis=1).sum(0)
        truth = _least(scores, prices, bounds)
        choice = _choice(scores, prices)
        budgets = {str(i): float(bound) for i, bound in enumerate(bounds)}
        try:
            found = choice.best(budgets)
        except Unreachable:
            equal += math.isinf(truth)
            continue
        reachable += 1
        equal += abs(found.score - truth) <= 1e-9 * max(1.0, abs(truth))
        rough = greedy(choice, budgets)
        stuck += rough is None
        if rough is not None:
            worse += rough.score > truth + 1e-9
            gaps.append(rough.score - truth)
    return {
        "budgets": costs,
        "tables": tables,
        "equal": equal,
        "reachable": reachable,
        "greedy worse": worse,
        "greedy stuck": stuck,
        "greedy's mean gap": statistics.fmean(gaps),
    }


def speed(costs: int, *, tied: bool, seeds: int) -> Row:
    """Seconds to a proven optimum, over seeds and three tightnesses of the budgets."""
    seconds, busy, proven, gaps = [], [], [], []
    for seed in range(seeds):
        choice = ChoiceProblem(_large_places(seed, costs, tied=tied))
        most = choice.best().costs
        for share in (0.3, 0.5, 0.8):
            least = {name: choice.least(name).costs[name] for name in most}
            budgets = {name: least[name] + share * (most[name] - least[name]) for name in most}
            began = perf_counter(), process_time()
            try:
                found = choice.best(budgets)
            except Unreachable:
                continue
            seconds.append(perf_counter() - began[0])
            busy.append(process_time() - began[1])
            proven.append(found.proven)
            rough = None if tied else greedy(choice, budgets)
            if rough is not None:
                gaps.append(rough.score / found.score - 1)
    return {
        "budgets": costs,
        "tied": tied,
        "runs": len(seconds),
        "proven": sum(proven),
        "median s": statistics.median(seconds),
        "largest s": max(seconds),
        "median CPU s": statistics.median(busy),
        "largest CPU s": max(busy),
        "greedy worse by": f"{100 * statistics.fmean(gaps):.1f} %" if gaps else "",
    }


def joint(seed: int, *, steps: int, aligned: int) -> Row:
    """One seed: a supernet, its scores, and the three ways to choose under the same budgets."""
    torch.set_num_threads(1)
    began, space = perf_counter(), hybrids()
    with tempfile.TemporaryDirectory() as folder:
        corpus = load_corpus(None, cache=Path(folder))
        task = LanguageModelling(corpus.folder, length=96, windows=32)
        training = SupernetTraining(space, task, steps=steps, seed=seed, batch=8)
        fit(training)
        parent = _parent(training.supernet, task, seed)
        supernet = training.supernet
        if aligned:
            supernet = align(supernet, parent, task, steps=aligned, seed=seed, batch=8).supernet
        replacements = Replacements(supernet, parent, task)
        scores = replacements.measure()
        totals = {name: partial(_counted, name) for name in COSTS}
        net = scored_space(space, parent, scores, totals)
        specs = random_networks(net, 30, seed=seed)
        real = [replacements.divergence(spec).kl for spec in specs]
        adding = additivity([net.predicted(spec) for spec in specs], real, seed=seed)
        chosen = under_budgets(net)
        chosen |= {f"matched to {other}": matched(net, chosen[other]) for other in OTHERS}
        wanted = {spec for found in chosen.values() for _, spec in found}
        measured = {spec: replacements.divergence(spec).kl for spec in wanted}
    predicted = {spec: net.predicted(spec) for spec in measured}
    return {
        "seed": seed,
        "seconds": round(perf_counter() - began, 1),
        "scored": len(scores),
        "additivity": adding.to_json(),
        "budgets": {name: len(found) for name, found in chosen.items()},
        "networks": {name: len({spec for _, spec in found}) for name, found in chosen.items()},
        "ratios": {other: ratios(chosen, other, predicted, measured) for other in OTHERS},
        "better, equal, worse": {
            other: compared(chosen["joint"], chosen[other], measured) for other in OTHERS
        },
    }


def hybrids() -> Space:
    """Byte-level hybrids of 4 layers, 48 wide."""
    layer = Layer(
        sequence_mixer=one_of(
            Attention(num_heads=4, num_kv_heads=one_of(1, 2, 4), head_dim=12),
            Attention(num_heads=4, num_kv_heads=2, head_dim=12, window=32),
            GatedLinearAttention(num_heads=4, head_dim=12, state_dim=12),
            RGLRU(num_heads=4, head_dim=12),
            ShortConv(kernel=3),
        ),
        channel_mixer=SwiGLU(expansion=one_of(1, 2, 3)),
        bits=Bits(weight=one_of(*WEIGHTS), state=one_of(*STATES)),
    )
    return Space(Decoder(d_model=48, layers=(layer,) * 4), name="hybrids")


def under_budgets(net: ScoredSpace) -> dict[str, Found]:
    """What each way chooses under each pair of budgets; nothing where it finds nothing."""
    least = {name: net.problem.least(name).costs[name] for name in COSTS}
    most = {name: _counted(name, [net.parent])[0] for name in COSTS}
    plain = {bits: _at(net, bits) for bits in WEIGHTS}
    found: dict[str, Found] = {"joint": [], "first": [], "first, best of all": []}
    for shares in product(SHARES, repeat=len(COSTS)):
        budgets = {n: least[n] + share * (most[n] - least[n]) for n, share in zip(COSTS, shares, strict=True)}
        stepwise = {bits: _stepwise(net, plain[bits], budgets) for bits in WEIGHTS}
        known = [chosen for chosen in stepwise.values() if chosen is not None]
        try:
            found["joint"].append((budgets, net.spec(net.problem.best(budgets))))
        except Unreachable:
            assert not known, "the stepwise choice found what the joint one did not"
            continue
        if (usual := stepwise[8]) is not None:
            found["first"].append((budgets, net.spec(usual)))
        if known:
            best = min(known, key=lambda chosen: chosen.score)
            found["first, best of all"].append((budgets, net.spec(best)))
    return found


def matched(net: ScoredSpace, other: Found) -> Found:
    """The joint choice under the bytes that the networks of another way use."""
    found = []
    for _, spec in other:
        used = {cost: _counted(cost, [spec])[0] for cost in COSTS}
        found.append((used, net.spec(net.problem.best(used))))
    return found


def ratios(
    chosen: Mapping[str, Found], other: str, predicted: Mapping[Decoder, float], real: Mapping[Decoder, float]
) -> dict[str, float]:
    """The hypervolume of the joint choice over that of another way, by every measure."""
    found = {}
    for name, divergence in (("scores", predicted), ("real", real)):
        for how in ("granted", "used", "matched"):
            mine = chosen[f"matched to {other}" if how == "matched" else "joint"]
            ours, theirs = (
                [_point(divergence[spec], budgets, spec, used=used) for budgets, spec in ways]
                for ways, used in ((mine, how == "used"), (chosen[other], how != "granted"))
            )
            reference = reference_point([*ours, *theirs])
            found[f"{name}, {how}"] = hypervolume(ours, reference) / hypervolume(theirs, reference)
    return found


def _point(
    divergence: float, budgets: Mapping[str, float], spec: Decoder, *, used: bool
) -> tuple[float, ...]:
    spent = [_counted(cost, [spec])[0] if used else budgets[cost] for cost in COSTS]
    return divergence, *map(math.log, spent)


def compared(one: Found, other: Found, divergence: Mapping[Decoder, float]) -> list[int]:
    """Under how many budgets the first really diverges less, as much, and more; nothing is worst."""
    counts = [0, 0, 0]
    theirs = {tuple(budgets.values()): spec for budgets, spec in other}
    for budgets, spec in one:
        against = theirs.get(tuple(budgets.values()))
        mine, its = divergence[spec], math.inf if against is None else divergence[against]
        counts[0 if mine < its else 1 if mine == its else 2] += 1
    return counts


def summary(rows: Sequence[Row]) -> list[Row]:
    """Ratios of hypervolumes over the seeds: mean, spread, least, most."""
    found = []
    for by in MEASURES:
        for other in OTHERS:
            values = [row["ratios"][other][by] for row in rows]
            found.append(
                {
                    "by": by,
                    "joint over": other,
                    "mean": statistics.fmean(values),
                    "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
                    "least": min(values),
                    "most": max(values),
                    "at least 1": f"{sum(value >= 1 for value in values)} of {len(values)}",
                }
            )
    return found


def _at(net: ScoredSpace, weight: float) -> ChoiceProblem:
    """The choice among architectures alone: bits fixed at this width, the state at 8, scores those of 16."""
    places = []
    for place in net.problem.slots:
        options = []
        for option in place.options:
            sublayer = option.name
            if not isinstance(sublayer, Sublayer) or sublayer.block is None:
                options.append(option)
            elif (sublayer.bits.weight, sublayer.bits.state) == (weight, min(STATES)):
                whole = replace(sublayer, bits=Bits())
                options.append(replace(option, score=net.scores[whole].kl))
        places.append(Slot(place.name, tuple(options)))
    return ChoiceProblem(places)


def _stepwise(
    net: ScoredSpace, architectures: ChoiceProblem, budgets: Mapping[str, float]
) -> Solution | None:
    """The best architecture at fixed bits, and then its best bits; None where either breaks a budget."""
    try:
        first = architectures.best(budgets)
    except Unreachable:
        return None
    names = [p.options[i].name for p, i in zip(architectures.slots, first.picks, strict=True)]
    places, kept = [], []
    for place, name in zip(net.problem.slots, names, strict=True):
        numbers = [i for i, option in enumerate(place.options) if _alike(option, name)]
        kept.append(numbers)
        places.append(Slot(place.name, tuple(place.options[i] for i in numbers)))
    try:
        second = ChoiceProblem(places).best(budgets)
    except Unreachable:
        return None
    picks = tuple(numbers[i] for numbers, i in zip(kept, second.picks, strict=True))
    return replace(second, picks=picks)


def _alike(option: Option, chosen: Hashable) -> bool:
    """The same block, at whatever bits."""
    content = option.name
    if isinstance(content, Sublayer) and isinstance(chosen, Sublayer):
        return replace(content, bits=chosen.bits) == chosen
    return content == chosen


def _counted(name: str, specs: Sequence[Decoder]) -> list[float]:
    return [float(getattr(spec.cost(SCENARIO), name)) for spec in specs]


def _parent(supernet: Supernet, task: LanguageModelling, seed: int) -> Decoder:
    """The best of ten networks of the largest sizes."""

    def loss(spec: Decoder) -> float:
        subnet = supernet.subnet(spec)
        return Score.of(window_losses(subnet, task, segment=state_segment(spec)).tolist()).value

    tried = [sandwich(supernet.space, Random(f"{seed}/parent/{i}"))[0] for i in range(10)]
    return min(dict.fromkeys(tried), key=loss)


def _choice(scores: np.ndarray, prices: np.ndarray) -> ChoiceProblem:
    places = []
    for p, (row, costs) in enumerate(zip(scores.tolist(), prices.tolist(), strict=True)):
        named = [{str(i): amount for i, amount in enumerate(amounts)} for amounts in costs]
        options = (Option(o, score, own) for o, (score, own) in enumerate(zip(row, named, strict=True)))
        places.append(Slot(f"place {p}", tuple(options)))
    return ChoiceProblem(places)


def _least(scores: np.ndarray, prices: np.ndarray, bounds: np.ndarray) -> float:
    """The least score by going through everything."""
    sums, spent = np.zeros(1), np.zeros((1, len(bounds)))
    for own, costs in zip(scores, prices, strict=True):
        sums = (sums[:, None] + own).ravel()
        spent = (spent[:, None] + costs).reshape(len(sums), -1)
    kept = (spent <= bounds).all(1)
    return float(sums[kept].min()) if kept.any() else math.inf


def _large_places(seed: int, costs: int, *, tied: bool) -> list[Slot]:
    """48 places of 54 random options, each at three widths that cost score and save bytes."""
    dice, places = np.random.default_rng((seed, costs)), []
    for p in range(48):
        options = []
        for o in range(54):
            score, ms, size, state = dice.gamma(2.0, 0.05), *dice.uniform((0.1, 1e4, 0.0), (1.0, 1e5, 5e4))
            for bits, (worse, stored) in enumerate([(0.0, 1.0), (0.01, 0.53), (0.08, 0.28)]):
                amounts = dict(list({"bytes": size * stored, "ms": ms, "state": state}.items())[:costs])
                when = {f"bits {p // 2}": frozenset({bits})} if tied else {}
                options.append(Option((o, bits), score + worse * dice.uniform(0.3, 3.0), amounts, when))
        places.append(Slot(f"place {p}", tuple(options)))
    return places


def _short(row: Row) -> Row:
    kept = {"seed": row["seed"], "seconds": row["seconds"], "scored": row["scored"]}
    kept |= {name: row["additivity"][name] for name in ("tau", "tau_low", "tau_high", "ratio", "error")}
    kept |= {f"{name}'s budgets": row["budgets"][name] for name in ("joint", "first")}
    return kept | {f"joint against {other}": counts for other, counts in row["better, equal, worse"].items()}


def _plain(given: argparse.Namespace) -> Row:
    return {name: value for name, value in vars(given).items() if name != "out"}


if __name__ == "__main__":
    main()
