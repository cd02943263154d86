"""What genetic strategies have in common: generations, crossover, and mutation of the genes that speak.

Trials come out of order and one at a time here, so a generation is any `population` finished trials in a
row. Every individual answers all genes of the space; those that its branches do not ask stay silent, but are
inherited, and speak again when a descendant asks them. They travel in the trial's memo. Only genes that are
asked mutate, one of them on average; a number goes to the next larger or smaller one as often as to any.

Half of the crossovers are uniform, half take a stretch of genes from one parent (two-point crossover): genes
that stand beside each other, as those of a layer and of the next, are good together or not.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from foundation.settings import Settings, setting
from foundation.wording import argument
from nas.strategies.base import Proposal
from nas.strategies.memory import Remembering
from nas.study.trial import PARENTS, Trial, TrialState
from search_spaces.language.genotype import Genotype, Label

GENERATION = "generation"
SILENT = "silent"


@dataclass(frozen=True, kw_only=True)
class GeneticSettings(Settings):
    """The published operators."""

    population: int = setting(24, help="Individuals of a generation.", least=2, most=10**6)
    crossover_prob: float = setting(0.9, help="How often a child has two parents.", least=0, most=1)
    mutation_prob: float | None = setting(
        None, help="How often a gene changes.", least=0, most=1, shown="1 / number of genes that are asked"
    )
    step_prob: float = setting(
        0.5,
        help="How often a number that changes becomes the next larger or smaller one.",
        least=0,
        most=1,
    )


@dataclass(frozen=True)
class Individual:
    """A scored candidate: answers to all genes, and values of which all are minimised."""

    number: int
    answers: Mapping[str, Label]
    values: tuple[float, ...]


class Genetic(Remembering):
    """Generations of `population` individuals, of which the survivors are parents of the next."""

    settings_kind = GeneticSettings
    settings: GeneticSettings

    def prepare(self) -> None:
        """No generation yet."""
        super().prepare()
        self._labels = {gene.path: gene.labels for gene in self.space.genes}
        self._ladders = {path: sorted(labels) for path, labels in self._labels.items() if _numbers(labels)}  # type: ignore[type-var]
        self._generation: list[Individual] = []  # the newest, in the order told
        self._parents: list[Individual] = []  # survivors of the generations before
        self._number_of_generation = 0

    @classmethod
    def remark(cls, settings: Settings, trials: int) -> str:
        """That nobody has children before the first generation is full."""
        assert isinstance(settings, GeneticSettings)
        if trials > settings.population:
            return ""
        return (
            f"{argument('trials', trials)}: {cls.name} draws its first {settings.population} candidates at"
            " random, so this is a random search; give more trials, or a smaller population"
        )

    @abstractmethod
    def survivors(self, individuals: list[Individual], dice: Random) -> list[Individual]:
        """Those `population` of more individuals that may have children."""

    @abstractmethod
    def parent(self, individuals: list[Individual], dice: Random) -> Individual:
        """One of the survivors (in the order of `survivors`), to have a child."""

    def propose(self, number: int, dice: Random) -> Proposal:
        """A child of the last full generation's survivors; while there is none, a random draw."""
        genotype, spec, origin = self.fresh(partial(self._child, dice), dice)
        answers, parents = origin or ({}, [])
        memo = {
            GENERATION: self._number_of_generation,
            PARENTS: parents,
            SILENT: _silent(answers, genotype),
        }
        return Proposal(genotype, memo, spec)

    def moved(self, proposal: Proposal, genotype: Genotype, spec: Any) -> Proposal:
        """The proposal at another architecture; what that does not ask stays silent, and is inherited."""
        answers = {**proposal.memo.get(SILENT, {}), **proposal.genotype.genes}
        moved = super().moved(proposal, genotype, spec)
        return Proposal(genotype, {**moved.memo, SILENT: _silent(answers, genotype)}, spec)

    def learn(self, trial: Trial) -> None:
        """Count a finished trial into its generation; failures leave no descendants."""
        if trial.state is not TrialState.COMPLETE:
            return
        dice = Random(f"{self.seed}/{trial.number}/told")
        answers = {**trial.memo.get(SILENT, {}), **trial.genotype.genes}
        for path, labels in self._labels.items():
            if path not in answers:  # the trial was another strategy's, or moved
                answers[path] = dice.choice(labels)
        self._generation.append(Individual(trial.number, answers, trial.losses(self.goals)))
        if len(self._generation) >= self.settings.population:
            self._parents = self.survivors(self._parents + self._generation, dice)
            self._generation = []
            self._number_of_generation += 1

    def _child(self, dice: Random) -> tuple[Genotype, Any, tuple[dict[str, Label], list[int]]]:
        """A genotype, its architecture, and its answers to all genes with the numbers of its parents."""
        parents = self._pair(dice)
        if parents:
            answers = self._crossed(parents, dice)
        else:
            answers = {path: dice.choice(labels) for path, labels in self._labels.items()}
        genotype, spec = self.space.draw(partial(_given, answers=answers))
        if parents:
            self._mutate(answers, genotype, dice)
            genotype, spec = self.space.draw(partial(_given, answers=answers))
        return genotype, spec, (answers, sorted({parent.number for parent in parents}))

    def _pair(self, dice: Random) -> list[Individual]:
        """Two parents, or one, or none while there are none."""
        if not self._parents:
            return []
        first = self.parent(self._parents, dice)
        if dice.random() >= self.settings.crossover_prob:
            return [first]
        return [first, self.parent([each for each in self._parents if each is not first], dice)]

    def _crossed(self, parents: list[Individual], dice: Random) -> dict[str, Label]:
        """An answer to every gene, of one of the parents."""
        first, second = parents[0].answers, parents[-1].answers
        if dice.random() < 0.5:
            return {path: dice.choice((first, second))[path] for path in self._labels}
        start, end = sorted(dice.randrange(len(self._labels) + 1) for _ in range(2))
        return {
            path: (second if start <= place < end else first)[path] for place, path in enumerate(self._labels)
        }

    def _mutate(self, answers: dict[str, Label], genotype: Genotype, dice: Random) -> None:
        """Change some of the answers that the genotype consists of."""
        asked = [path for path in genotype.genes if len(self._labels[path]) > 1]
        rate = self.settings.mutation_prob
        rate = 1 / max(len(asked), 1) if rate is None else rate
        for path in asked:
            if dice.random() < rate:
                answers[path] = self._other(path, answers[path], dice)

    def _other(self, path: str, answer: Label, dice: Random) -> Label:
        """Another answer to a gene."""
        ladder = self._ladders.get(path)
        if ladder and dice.random() < self.settings.step_prob:
            place = ladder.index(answer)
            return dice.choice(ladder[max(place - 1, 0) : place] + ladder[place + 1 : place + 2])
        return dice.choice([label for label in self._labels[path] if label != answer])


def _numbers(labels: Sequence[Label]) -> bool:
    """Whether the answers are numbers, of which there is something between the least and the largest."""
    return len(labels) > 2 and all(type(label) in (int, float) for label in labels)


def _silent(answers: Mapping[str, Label], genotype: Genotype) -> dict[str, Label]:
    """The answers to what a genotype does not ask."""
    return {path: answers[path] for path in answers if path not in genotype.genes}


def _given(path: str, labels: tuple[Label, ...], *, answers: Mapping[str, Label]) -> Label:
    return answers[path]
