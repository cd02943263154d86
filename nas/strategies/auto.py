"""Search by a model of the objectives, with evolution beside it where the model is blind.

A few extreme and random candidates come first. Then a Gaussian process for each objective, on the genes that
are asked, says of about a thousand children of the best candidates how much hypervolume each is expected to
add to the front; the best of them breeds once more, and the best of all is proposed. Candidates that are
still being scored count as if they had the values expected of them, so any number of workers may ask.

A share of the proposals are children as they come. All of them are while the model does not predict: every
value is predicted from all others, and the skill, the rank correlation of the two, is in each trial's memo
beside what proposed it. No architecture is proposed twice while there is another.

A study that begins with others' values learns from them at once. Where they may mean something else here, how
far they are off is told by those candidates that were scored in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.settings import Settings, setting
from foundation.wording import argument
from nas.pareto import nondominated, reference_point
from nas.strategies.base import Proposal, Strategy, strategies
from nas.strategies.memory import LISTED
from nas.strategies.surrogate.acquisition import expected_improvement
from nas.strategies.surrogate.breeding import Children, breed
from nas.strategies.surrogate.encoding import Encoding, Rows
from nas.strategies.surrogate.heard import Heard
from nas.strategies.surrogate.knowledge import LEAST, Learner, Model
from nas.strategies.surrogate.outcomes import Outcomes
from nas.study.seed import Seed
from nas.study.trial import FALLBACK, PARENTS, PROPOSER, SKILL, Trial
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.space import PATIENCE

START, MODEL, EVOLUTION, CHANCE = "start", "model", "evolution", "chance"
"""What proposes; chance does after the start where no child is both new and allowed."""

EXTREMES = 4
"""Candidates of the smallest and the largest answers in turn; names are drawn."""

FEWEST_PARENTS = 12

WORK = 6e7
"""Multiplications of a proposal; in a space of many genes fewer children are looked at."""


@dataclass(frozen=True, kw_only=True)
class AutoSettings(Settings):
    """How much is tried before and beside the model."""

    title = "strategy auto"

    start: int = setting(16, help="Extreme and random candidates at first.", least=LEAST, most=10**6)
    children: int = setting(1000, help="Children that the model chooses from.", least=2, most=10**5)
    plain: float = setting(0.15, help="Share of proposals that are children as they come.", least=0, most=1)
    least_skill: float = setting(
        0.2,
        help="Rank correlation of predicted and true values below which the model is not asked.",
        least=-1,
        most=1,
    )


@strategies.add
class Auto(Strategy):
    """In doubt: a model learns the objectives from few candidates, and evolution helps where it cannot."""

    name = "auto"
    use = "in doubt, and whenever a candidate takes longer than some tens of milliseconds"
    settings_kind = AutoSettings
    settings: AutoSettings

    def prepare(self) -> None:
        """A model that knows nothing."""
        super().prepare()
        self._encoding = Encoding(self.space)
        self._learner = Learner(self._encoding)
        self._outcomes = Outcomes(self._encoding, self.goals)
        self._listed = list(self.space.enumerate()) if self.space.size() <= LISTED else []

    @classmethod
    def remark(cls, settings: Settings, trials: int) -> str:
        """That the model is never asked before the first candidates are there."""
        assert isinstance(settings, AutoSettings)
        if trials > settings.start:
            return ""
        return (
            f"{argument('trials', trials)}: auto draws its first {settings.start} candidates without a model,"
            " so this is a random search; give more trials, or a smaller start"
        )

    def begin_with(self, seeds: Sequence[Seed]) -> None:
        """Learn from the values of other studies, as far as they hold here."""
        super().begin_with(seeds)
        self._outcomes.learn_from(seeds)

    def ask(self, number: int) -> Proposal:
        """A candidate for trial `number`, which is awaited."""
        proposal = super().ask(number)
        self._outcomes.await_trial(number, proposal.genotype)
        return proposal

    def propose(self, number: int, dice: Random) -> Proposal:
        """An extreme or random candidate at first, then the model's choice, or a child as it comes."""
        chance = np.random.default_rng(dice.getrandbits(128))
        heard = self._outcomes.heard()
        begun = number >= self.settings.start or self._outcomes.lessons >= self.settings.start
        model = (
            self._learner.model(self._outcomes.learned(), self._outcomes.first_learned()) if begun else None
        )
        memo: dict[str, Any] = {PARENTS: [], PROPOSER: START}
        children = Children(self._first(number, chance), np.empty((0, 2), np.int64))
        if model is not None:
            memo[SKILL] = {name: round(s, 3) for (name, _), s in zip(self.goals, model.skill, strict=True)}
        if begun and heard.scored.any():
            parents = _parents(heard)
            blind = model is not None and min(model.skill) < self.settings.least_skill
            if blind:
                memo[FALLBACK] = self.settings.least_skill
            if model is None or blind or chance.random() < self.settings.plain:
                memo[PROPOSER] = EVOLUTION
                children = breed(self._encoding, heard.rows[parents], PATIENCE, chance)
            else:
                memo[PROPOSER] = MODEL
                children = self._best(model, heard, parents, chance)
            numbers = heard.numbers[parents]
        found = self._new(children.rows)
        if found is None:
            genotype, spec = self._any(dice)
            proposal = Proposal(genotype, {PARENTS: [], PROPOSER: CHANCE}, spec)
        else:
            index, genotype, spec = found
            if len(children.parents):
                memo[PARENTS] = sorted({int(numbers[i]) for i in children.parents[index] if i >= 0})
            proposal = Proposal(genotype, memo, spec)
        return proposal

    def moved(self, proposal: Proposal, genotype: Genotype, spec: Any) -> Proposal:
        """The proposal at another architecture, which is awaited in its place."""
        self._outcomes.move(proposal.genotype, genotype)
        return replace(proposal, genotype=genotype, spec=spec)

    def take_up(self, trial: Trial) -> None:
        """Await a trial that was being scored when the search stopped."""
        self._outcomes.await_trial(trial.number, trial.genotype)

    def tell(self, trial: Trial) -> None:
        """Learn from an outcome; what could not be scored says where not to look."""
        self._outcomes.tell(trial)

    def refine(self, trial: Trial) -> None:
        """Believe the newest values of a candidate, with their errors."""
        self._outcomes.refine(trial)

    def _first(self, number: int, chance: np.random.Generator) -> Rows:
        """Rows to begin with: one of extremes, and random ones should it be taken."""
        rows = self._encoding.random(PATIENCE, chance)
        if number < min(EXTREMES, self.settings.start):
            least = number % 2 == 0
            edge = np.where(least, 0, self._encoding.sizes - 1)
            rows[0] = np.where(self._encoding.numeric, edge, rows[0])
        return self._encoding.canonical(rows)

    def _best(
        self, model: Model, heard: Heard, parents: NDArray[np.int64], chance: np.random.Generator
    ) -> Children:
        """Children by what they are expected to add, best first."""
        count = self.settings.children
        width = model.kernels.centres.genes.shape[1] * len(model.kernels.centres.genes)
        count = max(2, min(count, int(WORK / width)))
        front = self._front(model, heard)
        awaited = self._outcomes.awaited()
        if len(awaited):
            points = model.similarities(awaited)
            front = np.vstack((front, model.predict(points)[0]))
            model = model.given(points)
        # beyond the front so far, or beyond all so far: the one looks between its ends, the other past them
        reference = reference_point(front[nondominated(front)])
        if chance.random() < 0.5:
            reference = np.maximum(reference, model.scale(heard.values[heard.scored]).max(axis=0))
        random = self._encoding.canonical(self._encoding.random(count // 8, chance))
        first = breed(self._encoding, heard.rows[parents], count // 2, chance)
        pool = self._unseen(
            np.vstack((first.rows, random)),
            np.vstack((first.parents, np.full((len(random), 2), -1))),
        )
        if not len(pool.rows):
            return pool
        gains = self._gains(model, pool.rows, front, reference, chance)
        chosen = np.argsort(-gains, kind="stable")[: max(2, count // 40)]
        second = breed(self._encoding, pool.rows[chosen], count // 2, chance)
        grandchildren = self._unseen(second.rows, pool.parents[chosen][second.parents[:, 0]])
        if len(grandchildren.rows):
            more = self._gains(model, grandchildren.rows, front, reference, chance)
            gains = np.concatenate((gains, more))
            pool = Children(
                np.vstack((pool.rows, grandchildren.rows)),
                np.vstack((pool.parents, grandchildren.parents)),
            )
        order = np.argsort(-gains, kind="stable")[:PATIENCE]
        return Children(pool.rows[order], pool.parents[order])

    def _gains(
        self, model: Model, rows: Rows, front: Any, reference: Any, chance: np.random.Generator
    ) -> NDArray[np.float64]:
        points = model.similarities(rows)
        means, deviations = model.predict(points)
        gains: NDArray[np.float64] = expected_improvement(means, deviations, front, reference, chance)
        return gains * model.viable(points)

    def _front(self, model: Model, heard: Heard) -> NDArray[np.float64]:
        """Scaled values of the front; of those with errors, what the model believes they are."""
        values = model.scale(heard.values)
        for i, number in enumerate(heard.numbers.tolist()):
            values[i] = model.means.get(number, values[i])
        values = values[heard.scored]
        front: NDArray[np.float64] = values[nondominated(values)]
        return front

    def _unseen(self, rows: Rows, parents: NDArray[np.int64]) -> Children:
        """The rows that nobody has proposed, each once."""
        which = self._outcomes.new(rows)
        return Children(rows[which], parents[which])

    def _new(self, rows: Rows) -> tuple[int, Genotype, Any] | None:
        """The first row that is an allowed architecture and was not proposed, if one is."""
        for index, row in enumerate(rows):
            if not self._outcomes.is_new(row):
                continue
            genotype, spec = self.space.draw(_Given(self._encoding.answers(row)))
            if self.space.objection(spec) is None:
                return index, genotype, spec
        return None

    def _any(self, dice: Random) -> tuple[Genotype, Any]:
        """An allowed architecture, a new one if there is one."""
        for genotype in dice.sample(self._listed, len(self._listed)):
            found = self._new(self._encoding.row(genotype)[None])
            if found is not None:
                return found[1:]
        for _ in range(PATIENCE):
            genotype, spec = self.space.propose_with_spec(lambda path, labels: dice.choice(labels))
            if self._outcomes.is_new(self._encoding.row(genotype)):
                break
        return genotype, spec


class _Given:
    """Answers that are known."""

    def __init__(self, answers: dict[str, Label]) -> None:
        self._answers = answers

    def __call__(self, path: str, labels: Iterable[Label]) -> Label:
        return self._answers[path]


def _parents(heard: Heard) -> NDArray[np.int64]:
    """The front, and what is next behind it where that is small."""
    values = heard.values[heard.scored]
    return heard.ranked()[: max(sum(nondominated(values)), FEWEST_PARENTS)]
