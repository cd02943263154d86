"""Search by a model of the objectives, with evolution beside it where the model is blind.

A few extreme and random candidates come first. Then a Gaussian process for each objective, on the genes that
are asked, says of children of the best candidates how much hypervolume each is expected to add to the front;
the best children have children in their turn, a dozen times, and the best of all, about a thousand, is
proposed. Candidates that are still being scored count as if they had the values expected of them, so any
number of workers may ask. While nothing new is heard the next proposals come of the same children, in a
millisecond each.

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

from foundation.settings import Settings, setting
from foundation.wording import argument
from nas.strategies.base import Proposal, Strategy, strategies
from nas.strategies.memory import LISTED
from nas.strategies.surrogate.breeding import Children, breed
from nas.strategies.surrogate.choosing import Beliefs, Chooser
from nas.strategies.surrogate.encoding import Encoding, Rows
from nas.strategies.surrogate.knowledge import LEAST, Learner
from nas.strategies.surrogate.outcomes import Outcomes
from nas.study.known_costs import KnownCosts
from nas.study.seed import Seed
from nas.study.trial import FALLBACK, PARENTS, PROPOSER, SKILL, Trial
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.space import PATIENCE

START, MODEL, EVOLUTION, CHANCE = "start", "model", "evolution", "chance"
"""What proposes; chance does after the start where no child is both new and allowed."""

SCALE, STRAIGHT, BENT = "scale", "straight", "bent"
"""In the memo of what the model proposed where it has bent scales: on which."""

EXTREMES = 4
"""Candidates of the smallest and the largest answers in turn; names are drawn."""


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
    slow_after_news = True

    def prepare(self) -> None:
        """A model that knows nothing."""
        super().prepare()
        self._encoding = Encoding(self.space)
        self._learner = Learner(self._encoding)
        self._outcomes = Outcomes(self._encoding, self.goals)
        self._chooser = Chooser(self._encoding, self._outcomes, self.settings.children)
        self._listed = list(self.space.enumerate()) if self.space.size() <= LISTED else []
        self._beliefs: Beliefs | None = None
        self._scales: dict[int, bool] = {}
        self._heard = 0
        self._again: list[Trial] = []

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

    def inform(self, known: KnownCosts) -> None:
        """Hear what can be computed of a candidate: these values have no errors."""
        super().inform(known)
        self._outcomes.inform(known.names)

    def ask(self, number: int) -> Proposal:
        """A candidate for trial `number`, which is awaited."""
        for (
            trial
        ) in self._awaited_again():  # proposed since something was heard, and before the search stopped
            self._asked(trial.number)
            self._outcomes.await_trial(trial.number, trial.genotype)
        proposal = self._asked(number)
        self._outcomes.await_trial(number, proposal.genotype)
        return proposal

    def _asked(self, number: int) -> Proposal:
        proposal = super().ask(number)
        if self._beliefs is not None and self._beliefs.shortlist is not None:
            self._beliefs.shortlist.believe(self._encoding.row(proposal.genotype))
        return proposal

    def propose(self, number: int, dice: Random) -> Proposal:
        """An extreme or random candidate at first, then the model's choice, or a child as it comes."""
        chance = np.random.default_rng(dice.getrandbits(128))
        memo: dict[str, Any] = {PARENTS: [], PROPOSER: START}
        children = Children(self._first(number, chance), np.empty((0, 2), np.int64))
        if number < self.settings.start and self._outcomes.lessons < self.settings.start:
            return self._allowed(children, memo, dice)
        beliefs = self._believed()
        heard, model, parents = beliefs.heard, beliefs.model, beliefs.parents
        if model is not None:
            memo[SKILL] = {name: round(s, 3) for (name, _), s in zip(self.goals, model.skill, strict=True)}
        if len(parents):
            blind = model is not None and min(model.skill) < self.settings.least_skill
            if blind:
                memo[FALLBACK] = self.settings.least_skill
            if model is None or blind or chance.random() < self.settings.plain:
                memo[PROPOSER] = EVOLUTION
                children = breed(self._encoding, heard.rows[parents], PATIENCE, chance)
            else:
                memo[PROPOSER] = MODEL
                if beliefs.shortlist is None:
                    beliefs.shortlist = self._chooser.shortlist(model, beliefs, chance)
                if model.unbent is not None:
                    memo[SCALE] = STRAIGHT if beliefs.shortlist.model.unbent is None else BENT
                children = beliefs.shortlist.best(chance)
        return self._allowed(children, memo, dice, heard.numbers[parents].tolist())

    def moved(self, proposal: Proposal, genotype: Genotype, spec: Any) -> Proposal:
        """The proposal at another architecture, which is awaited in its place."""
        self._outcomes.move(proposal.genotype, genotype)
        return replace(proposal, genotype=genotype, spec=spec)

    def take_up(self, trial: Trial) -> None:
        """Await a trial that was being scored when the search stopped.

        Those proposed since the last outcome are proposed again before the next, so that it comes of the
        children that they came of.
        """
        if trial.heard == self._heard:
            self._again.append(trial)
        else:
            self._outcomes.await_trial(trial.number, trial.genotype)

    def tell(self, trial: Trial) -> None:
        """Learn from an outcome; what could not be scored says where not to look."""
        self._news(trial)
        self._outcomes.tell(trial)
        if SCALE in trial.memo:
            self._scales[trial.number] = trial.memo[SCALE] == STRAIGHT

    def refine(self, trial: Trial) -> None:
        """Believe the newest values of a candidate, with their errors."""
        self._news(trial)
        self._outcomes.refine(trial)

    def _news(self, trial: Trial) -> None:
        self._beliefs = None
        if trial.told is not None:
            self._heard = max(self._heard, trial.told + 1)
        for earlier in self._awaited_again():
            self._outcomes.await_trial(earlier.number, earlier.genotype)

    def _awaited_again(self) -> list[Trial]:
        again, self._again = self._again, []
        return again

    def _believed(self) -> Beliefs:
        """What follows from the outcomes so far."""
        if self._beliefs is None:
            outcomes = self._outcomes
            model = self._learner.model(outcomes.learned(), outcomes.first_learned())
            self._beliefs = Beliefs.of(outcomes.heard(), model, self._scales)
        return self._beliefs

    def _first(self, number: int, chance: np.random.Generator) -> Rows:
        """Rows to begin with: one of extremes, and random ones should it be taken."""
        rows = self._encoding.random(PATIENCE, chance)
        if number < min(EXTREMES, self.settings.start):
            least = number % 2 == 0
            edge = np.where(least, 0, self._encoding.sizes - 1)
            rows[0] = np.where(self._encoding.numeric, edge, rows[0])
        return self._encoding.canonical(rows)

    def _allowed(
        self, children: Children, memo: dict[str, Any], dice: Random, numbers: Sequence[int] = ()
    ) -> Proposal:
        """The first of the children that may be proposed, else any; `numbers` are the parents' trials."""
        found = self._new(children.rows)
        if found is None:
            genotype, spec = self._any(dice)
            return Proposal(genotype, {PARENTS: [], PROPOSER: CHANCE}, spec)
        index, genotype, spec = found
        if len(children.parents):
            memo[PARENTS] = sorted({numbers[i] for i in children.parents[index] if i >= 0})
        return Proposal(genotype, memo, spec)

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
