"""Trials until the optimum of a small known space is found, by strategy and seed.

    python -m benchmarks.search.known_optimum

The space has 6,561 architectures of four layers, each of two kinds with sizes of their own. The error says
how unlike a network is to a hidden one, layer by layer, with a penalty for equal neighbours; the size is
additive. The optimum is that of MnasNet's soft reward at a target size, known by enumeration. A strategy
that trades off the two objectives is judged by the same reward.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nas.strategies.base import Proposal, make_strategy
from nas.strategies.mnasnet import MnasNet
from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space

RESULTS = Path(__file__).parent.parent / "results" / "search_known_optimum.json"
GOALS = [("error", False), ("size", False)]
TARGET = 12.0
MOST = 2000


@dataclass(frozen=True)
class Slow:
    """A layer of one kind; `heads` tell how large it is."""

    heads: Any = one_of(1, 2, 4)
    span: Any = one_of(1, 2)


@dataclass(frozen=True)
class Fast:
    """A layer of the other kind."""

    state: Any = one_of(1, 3, 5)


@dataclass(frozen=True)
class Stack:
    """Four layers."""

    layers: Any


SPACE = Space(Stack((one_of(Slow(), Fast()),) * 4), name="known")
HIDDEN = (Slow(2, 2), Fast(3), Slow(4, 1), Fast(5))


def error(spec: Stack) -> float:
    """How unlike the hidden network: 0 for itself, up to 1 for each layer."""
    pairs = list(zip(spec.layers, HIDDEN, strict=True))
    same = sum(a == b for a, b in zip(spec.layers, spec.layers[1:], strict=False))
    return sum(_unlike(layer, hidden) for layer, hidden in pairs) + 0.3 * same


def size(spec: Stack) -> float:
    """What a network costs."""
    return float(sum(_size(layer) for layer in spec.layers))


def _unlike(layer: Any, hidden: Any) -> float:
    if type(layer) is not type(hidden):
        return 1.0
    return 0.15 * sum(
        abs(mine - theirs) for mine, theirs in zip(vars(layer).values(), vars(hidden).values(), strict=True)
    )


def _size(layer: Any) -> int:
    return layer.heads * layer.span if isinstance(layer, Slow) else layer.state


def outcome(number: int, proposal: Proposal) -> Trial:
    """The trial of a proposal."""
    spec = SPACE.close(proposal.genotype)
    return Trial(
        number=number,
        genotype=proposal.genotype,
        fidelity=Fidelity(evaluator="known"),
        seed=0,
        state=TrialState.COMPLETE,
        values={"error": Value(error(spec)), "size": Value(size(spec))},
        memo=proposal.memo,
    )


def judge() -> MnasNet:
    """What has the reward."""
    return MnasNet(SPACE, GOALS, seed=0, settings=MnasNet.settings_kind.from_plain({"target": TARGET}))


@cache
def best_reward(strategy: MnasNet | None = None) -> float:
    """The highest of the space."""
    known = strategy or judge()
    return max(known.reward(error(spec), size(spec)) for spec in map(SPACE.close, SPACE.enumerate()))


def trials_to_optimum(name: str, seed: int, most: int = MOST, **settings: Any) -> int | None:
    """How many trials a strategy needs until it proposes an optimum; None after `most`."""
    known, best = judge(), best_reward()
    if name == "mnasnet":
        settings = {"target": TARGET, **settings}
    strategy = make_strategy(name, SPACE, GOALS, seed=seed, settings=settings)
    for number in range(most):
        trial = outcome(number, strategy.ask(number))
        if known.reward(*(value.value for value in trial.values.values())) >= best - 1e-9:
            return number + 1
        strategy.tell(trial)
    return None


def main(seeds: int = 10) -> None:
    """Print and keep the trials of every strategy."""
    contenders: dict[str, tuple[str, dict[str, Any]]] = {
        "mnasnet (ppo)": ("mnasnet", {}),
        "mnasnet (reinforce)": ("mnasnet", {"algorithm": "reinforce"}),
        "aging": ("aging", {}),
        "local": ("local", {}),
        "nsga2": ("nsga2", {}),
        "auto": ("auto", {}),
        "random": ("random", {}),
    }
    results = {}
    for title, (name, settings) in contenders.items():
        tries = [trials_to_optimum(name, seed, **settings) for seed in range(seeds)]
        results[title] = tries
        median = statistics.median(MOST if each is None else each for each in tries)
        print(f"{title:20} median {median:6.0f}  {tries}", flush=True)
    RESULTS.write_text(json.dumps({"space": SPACE.size(), "most": MOST, "trials": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
