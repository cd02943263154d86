"""`python -m benchmarks.search.halving`: how much of the front of whole trainings schedulers reach for less.

    python -m benchmarks.search.halving                # three seeds; about 5 minutes of a core

For each seed, candidates of a small byte-level space are drawn and trained to the end, with a look at the
validation windows after some steps on the way: a training is the same whether looked at or not
(`tests/nas/test_rungs.py`). The project's own driver and schedulers then search the same candidates, in the
same order, with what was looked at as their scores. What counts is the hypervolume of the candidates that
they trained to the end, over that of all candidates trained to the end, and the steps of training.

The looks are kept (`results/halving_curves.json`), so that schedulers are compared again in seconds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

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
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.genotype import Genotype
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.scenario import Scenario

NAME, COMMAND = "halving", "python -m benchmarks.search.halving"
CURVES = "halving_curves"
CANDIDATES, SEEDS = 81, 3
FULL = 180
LADDERS = (Ladder((20, 60, FULL)), Ladder((40, FULL), 0.14))
"""Two that take at most a third of the steps of whole trainings."""

LOOKS = (5, 10, 20, 40, 60, 120, 180)
"""Steps after which candidates are scored; the rungs are among them."""

GOALS = (("bits_per_byte", False), ("params", False))


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
        full = str(FULL)
        points: Points = torch.tensor(
            [(self.scores[i][full][0], float(self.params[i])) for i in which]
        ).numpy()
        return points


def trained(seed: int, candidates: int) -> Recorded:
    """Draw candidates and train each to the end."""
    space, dice = byte_space(), Random(seed)
    drawn = dict[str, Genotype]()
    while len(drawn) < candidates:
        genotype = space.sample(dice)
        drawn[genotype.digest] = genotype
    recorded = Recorded(seed, [], [], [])
    task = LanguageModelling.make(data=None, length=32, windows=64)
    with tempfile.TemporaryDirectory() as folder:
        evaluator = FromScratch(task, folder, batch=8, threads=1, horizon=FULL)
        for genotype in drawn.values():
            spec = space.close(genotype)
            looks = {steps: evaluator.score(spec, steps, seed) for steps in LOOKS}
            evaluator.forget(spec, FULL, seed)
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
        curve = tuple((look, scores[str(look)][0]) for look in LOOKS if look < steps)
        return Value(value, error, "scratch", curve=curve)


def counted(spec: Any, steps: int, seed: int) -> Value:
    """The parameters of a network."""
    return Value(float(spec.cost(Scenario()).params))


def searched(recorded: Recorded, scheduler: str, ladder: Ladder) -> list[Trial]:
    """The trials of a search of the candidates, by the project's driver."""
    space = byte_space()

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
            fidelity=Fidelity(evaluator="scratch", steps=FULL),
            seed=recorded.seed,
            scheduler=schedulers[scheduler](
                ladder, trials=len(recorded.genes), point_of=point, scores=["bits_per_byte"]
            ),
        )
        run(search, len(recorded.genes))
        return store.trials(study.id)


def reached(recorded: Recorded, scheduler: str, ladder: Ladder) -> dict[str, Any]:
    """The share of the hypervolume, and of the training steps."""
    trials = searched(recorded, scheduler, ladder)
    steps = dict[int, int]()
    for trial in trials:
        steps[trial.candidate] = max(steps.get(trial.candidate, 0), trial.fidelity.steps)
    numbers = {Genotype(genes).digest: i for i, genes in enumerate(recorded.genes)}
    whole = [numbers[t.digest] for t in trials if t.fidelity.steps == FULL and t.state is TrialState.COMPLETE]
    reference = reference_point(recorded.points(range(len(recorded.genes))))
    share = hypervolume(recorded.points(whole), reference) / hypervolume(recorded.front(), reference)
    spent = sum(steps.values()) / (len(recorded.genes) * FULL)
    return {
        "seed": recorded.seed,
        "scheduler": scheduler,
        "rungs": " ".join(map(str, ladder.steps)),
        "candidates": len(recorded.genes),
        "on the true front": len(recorded.front()),
        "trained to the end": len(whole),
        "share of the steps": round(spent, 3),
        "share of the hypervolume": round(share, 4),
    }


def kept() -> list[Recorded]:
    """The trainings that are there."""
    path = RESULTS / f"{CURVES}.json"
    return [Recorded(**row) for row in json.loads(path.read_text())["rows"]] if path.is_file() else []


def main(words: Sequence[str] | None = None) -> int:
    """Train what is missing, search it by every scheduler, keep and print that."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    parser.add_argument("--fresh", action="store_true", help="train again")
    chosen = parser.parse_args(words)
    recorded = [] if chosen.fresh else kept()
    for seed in range(chosen.seeds):
        if seed not in [each.seed for each in recorded]:
            recorded.append(trained(seed, chosen.candidates))
            keep(CURVES, COMMAND, [vars(each) for each in recorded])
    rows = [
        reached(each, scheduler, ladder)
        for scheduler in schedulers
        for ladder in LADDERS
        for each in recorded
    ]
    keep(NAME, COMMAND, rows)
    show_plainly("Schedulers beside whole trainings of all candidates", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
