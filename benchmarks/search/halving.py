"""`python -m benchmarks.search.halving`: how much of the front of whole trainings schedulers reach for less.

    python -m benchmarks.search.halving                    # three seeds; three minutes of a core
    python -m benchmarks.search.halving --problem hybrids
    python -m benchmarks.search.halving --fresh            # trains anew: 5 minutes more, or 20 for hybrids

For each seed, candidates of a byte-level space are drawn and trained to the end, with a look at the
validation windows after some steps on the way: a training is the same whether looked at or not
(`tests/nas/test_rungs.py`). The project's own driver and schedulers then search the same candidates with what
was looked at as their scores, in the order in which they were drawn and in four others, since who comes first
has a part in who is promoted. What counts is the hypervolume of the candidates that they trained to the end,
over that of all candidates trained to the end, and the steps of training.

The looks are kept (`results/halving_curves*.json`), so that schedulers are compared again in minutes.
Schedulers were chosen on the first problem; the second was trained afterwards.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, keep, show_plainly
from evaluators.scoring.scratch import FromScratch
from evaluators.tasks.language import LanguageModelling
from nas.driver import run
from nas.executors.local import InProcess
from nas.pareto import Points, hypervolume, nondominated, reference_point
from nas.schedulers.base import Ladder, schedulers
from nas.search_setup import Search
from nas.store import Store
from nas.strategies.base import Proposal, Strategy
from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.genotype import Genotype
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.scenario import Scenario

COMMAND = "python -m benchmarks.search.halving"
SEEDS, ORDERS = 3, 5
GOALS = (("bits_per_byte", False), ("params", False))


@dataclass(frozen=True)
class Problem:
    """Candidates to be trained on windows of `length` bytes, and what searches them.

    They are scored after `looks` steps, the last of which is a whole training. All ladders but the usual one
    of three rungs take at most a third of the steps of whole trainings.
    """

    name: str
    space: Callable[[], Space]
    candidates: int
    length: int
    looks: tuple[int, ...]
    ladders: tuple[Ladder, ...]

    @property
    def full(self) -> int:
        """The steps of a whole training."""
        return self.looks[-1]


def byte_space() -> Space:
    """Networks of one or two layers and 3,000 to 40,000 parameters."""
    layer = Layer(
        sequence_mixer=one_of(
            ShortConv(kernel=one_of(2, 4, 8)),
            Attention(num_heads=2, num_kv_heads=one_of(1, 2), window=one_of(8, 32)),
        ),
        channel_mixer=SwiGLU(expansion=one_of(1, 2, 3)),
    )
    return Space(
        Decoder(vocab=256, d_model=one_of(8, 16, 24, 32), layers=repeat(layer, (1, 2))), name="bytes"
    )


def hybrid_space() -> Space:
    """Hybrids of two or three layers and 10,000 to 116,000 parameters."""
    layer = Layer(
        sequence_mixer=one_of(
            ShortConv(kernel=4),
            Attention(num_heads=4, num_kv_heads=one_of(1, 4)),
            GatedLinearAttention(num_heads=4, head_dim=8, state_dim=one_of(4, 8)),
            RGLRU(num_heads=4, head_dim=one_of(8, 16)),
        ),
        channel_mixer=SwiGLU(expansion=one_of(1, 2, 4)),
    )
    return Space(
        Decoder(vocab=256, d_model=one_of(16, 24, 32, 48), layers=repeat(layer, (2, 3))), name="hybrids"
    )


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem(
            name="bytes",
            space=byte_space,
            candidates=81,
            length=32,
            looks=(5, 10, 20, 40, 60, 120, 180),
            ladders=(
                Ladder((20, 60, 180)),
                Ladder((40, 180), 0.14),
                Ladder((20, 180), 0.25),
                Ladder((10, 180), 0.29),
            ),
        ),
        Problem(
            name="hybrids",
            space=hybrid_space,
            candidates=60,
            length=32,
            looks=(7, 14, 27, 54, 80, 160, 240),
            ladders=(
                Ladder((27, 80, 240)),
                Ladder((54, 240), 0.14),
                Ladder((27, 240), 0.24),
                Ladder((14, 240), 0.29),
            ),
        ),
    )
}


@dataclass
class Recorded:
    """Candidates of a seed, each with its parameters and its score (mean, standard error) after each look."""

    seed: int
    genes: list[dict[str, Any]]
    params: list[int]
    scores: list[dict[str, tuple[float, float]]]

    def front(self) -> Points:
        """The points of the candidates that no other dominates after whole trainings."""
        points = self.points(range(len(self.genes)))
        return points[nondominated(points)]

    def points(self, which: Sequence[int]) -> Points:
        """What candidates are like after whole trainings, [N, 2]."""
        points: Points = np.array([(self._last(i), float(self.params[i])) for i in which])
        return points

    def _last(self, candidate: int) -> float:
        scores = self.scores[candidate]
        return scores[max(scores, key=int)][0]

    def in_order(self, order: Sequence[int]) -> Recorded:
        """The same candidates in another order."""
        return Recorded(
            self.seed,
            [self.genes[i] for i in order],
            [self.params[i] for i in order],
            [self.scores[i] for i in order],
        )


def trained(problem: Problem, seed: int) -> Recorded:
    """Draw candidates and train each to the end."""
    space, dice = problem.space(), Random(seed)
    drawn = dict[str, Genotype]()
    while len(drawn) < problem.candidates:
        genotype = space.sample(dice)
        drawn[genotype.digest] = genotype
    recorded = Recorded(seed, [], [], [])
    task = LanguageModelling.make(data=None, length=problem.length, windows=64)
    with tempfile.TemporaryDirectory() as folder:
        evaluator = FromScratch(task, folder, batch=8, threads=1, horizon=problem.full)
        for genotype in drawn.values():
            spec = space.close(genotype)
            looks = {steps: evaluator.score(spec, steps, seed) for steps in problem.looks}
            evaluator.forget(spec, problem.full, seed)
            recorded.genes.append(dict(genotype.genes))
            recorded.params.append(spec.cost(Scenario()).params)
            recorded.scores.append(
                {str(steps): (round(s.value, 5), round(s.standard_error, 5)) for steps, s in looks.items()}
            )
    return recorded


class InOrder(Strategy):
    """Proposes given candidates one after the other."""

    name = "in_order"

    def __init__(self, space: Space, candidates: Sequence[Genotype]) -> None:
        super().__init__(space, GOALS, seed=0)
        self._left = list(reversed(candidates))

    def propose(self, number: int, dice: Random) -> Proposal:
        """The next one."""
        return Proposal(self._left.pop())


class Looked:
    """The score of a candidate after so many steps, as it was when it was trained."""

    def __init__(self, recorded: Recorded, space: Space) -> None:
        specs = [to_json(space.close(Genotype(genes))) for genes in recorded.genes]
        self.scores = dict(zip(specs, recorded.scores, strict=True))

    def __call__(self, spec: Any, steps: int, seed: int) -> Value:
        """In bits per byte."""
        scores = self.scores[to_json(spec)]
        value, error = scores[str(steps)]
        curve = tuple((int(look), score) for look, (score, _) in scores.items() if int(look) < steps)
        return Value(value, error, "scratch", curve=curve)


def counted(spec: Any, steps: int, seed: int) -> Value:
    """The parameters of a network."""
    return Value(float(spec.cost(Scenario()).params))


def searched(problem: Problem, recorded: Recorded, scheduler: str, ladder: Ladder) -> list[Trial]:
    """The trials of a search of the candidates, by the project's driver."""
    space = problem.space()

    def point(trial: Trial) -> tuple[float, ...]:
        return tuple(trial.values[name].value for name, _ in GOALS)

    with Store("sqlite://") as store:
        study = store.create_study("s", space_digest=space.digest, space_json="{}", config={})
        search = Search(
            store=store,
            study_id=study.id,
            space=space,
            strategy=InOrder(space, [Genotype(genes) for genes in recorded.genes]),
            executor=InProcess({"bits_per_byte": Looked(recorded, space), "params": counted}),
            fidelity=Fidelity(evaluator="scratch", steps=problem.full),
            seed=recorded.seed,
            scheduler=schedulers[scheduler](
                ladder, trials=len(recorded.genes), point_of=point, scores=["bits_per_byte"]
            ),
        )
        run(search, len(recorded.genes))
        return store.trials(study.id)


def reached(problem: Problem, recorded: Recorded, scheduler: str, ladder: Ladder) -> dict[str, Any]:
    """The share of the hypervolume, and of the training steps."""
    shares, spent, ended = [], [], []
    for number in range(ORDERS):
        order = list(range(len(recorded.genes)))
        if number:
            Random(number).shuffle(order)
        trials = searched(problem, recorded.in_order(order), scheduler, ladder)
        share, steps, whole = _outcome(problem, recorded, trials)
        shares.append(share)
        spent.append(steps)
        ended.append(whole)
    return {
        "seed": recorded.seed,
        "scheduler": scheduler,
        "rungs": " ".join(map(str, ladder.steps)),
        "candidates": len(recorded.genes),
        "on the true front": len(recorded.front()),
        "trained to the end": max(ended),
        "share of the steps": round(max(spent), 3),
        "share of the hypervolume": round(shares[0], 4),
        f"mean of {ORDERS} orders": round(statistics.fmean(shares), 4),
        "least": round(min(shares), 4),
    }


def _outcome(problem: Problem, recorded: Recorded, trials: Sequence[Trial]) -> tuple[float, float, int]:
    """The share of the hypervolume, that of the steps, and how many were trained to the end."""
    steps = dict[int, int]()
    for trial in trials:
        steps[trial.candidate] = max(steps.get(trial.candidate, 0), trial.fidelity.steps)
    numbers = {Genotype(genes).digest: i for i, genes in enumerate(recorded.genes)}
    last = [t for t in trials if t.fidelity.steps == problem.full and t.state is TrialState.COMPLETE]
    whole = recorded.points([numbers[trial.digest] for trial in last])
    reference = reference_point(recorded.points(range(len(recorded.genes))))
    share = hypervolume(whole, reference) / hypervolume(recorded.front(), reference)
    return share, sum(steps.values()) / (len(recorded.genes) * problem.full), len(whole)


def kept(curves: str) -> list[Recorded]:
    """The trainings that are there."""
    path = RESULTS / f"{curves}.json"
    return [Recorded(**row) for row in json.loads(path.read_text())["rows"]] if path.is_file() else []


def main(words: Sequence[str] | None = None) -> int:
    """Train what is missing, search it by every scheduler, keep and print that."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.partition("\n")[0])
    parser.add_argument("--problem", choices=PROBLEMS, default="bytes")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--fresh", action="store_true", help="train again")
    chosen = parser.parse_args(words)
    problem = PROBLEMS[chosen.problem]
    first = chosen.problem == "bytes"
    end, command = ("", COMMAND) if first else (f"_{problem.name}", f"{COMMAND} --problem {problem.name}")
    curves = f"halving_curves{end}"
    recorded = [] if chosen.fresh else kept(curves)
    for seed in range(chosen.seeds):
        if seed not in [each.seed for each in recorded]:
            recorded.append(trained(problem, seed))
            keep(curves, command, [vars(each) for each in recorded])
    rows = [
        reached(problem, each, scheduler, ladder)
        for scheduler in schedulers
        for ladder in problem.ladders
        if scheduler != "full"
        for each in recorded
    ]
    keep(f"halving{end}", command, rows)
    show_plainly("Schedulers beside whole trainings of all candidates", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
