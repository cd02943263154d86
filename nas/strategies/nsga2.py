"""NSGA-II (Deb et al. 2002, doi:10.1109/4235.996017) by Optuna's sampler, over the static genes of a space.

Optuna's genetic samplers draw afresh whatever is not a parameter of *every* parent, and the questions of a
branch are not. So each individual answers all genes of the space; those that its branches do not ask stay
silent, but are inherited, and speak again when a descendant asks them. They travel in the trial's memo.

Only the sampler's public methods are used, on an in-memory study that is fed finished trials: nothing is
stored, copied or looked up per proposal that the algorithm does not need.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import NSGAIISampler
from optuna.trial import FrozenTrial

from foundation.errors import SpaceError
from foundation.settings import Settings, setting
from foundation.wording import argument
from nas.strategies.base import Proposal, Strategy, strategies
from nas.study.trial import PARENTS, Trial, TrialState
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.space import PATIENCE, TRIES, Space

GENERATION = "generation"
SILENT = "silent"


@dataclass(frozen=True, kw_only=True)
class NSGA2Settings(Settings):
    """The published operators, with Optuna's defaults."""

    title = "strategy nsga2"

    population: int = setting(24, help="Individuals of a generation.", least=2, most=10**6)
    crossover_prob: float = setting(0.9, help="How often a child has two parents.", least=0, most=1)
    mutation_prob: float | None = setting(
        None, help="How often a gene is drawn afresh.", least=0, most=1, shown="1 / number of genes"
    )


@strategies.add
class NSGA2(Strategy):
    """Generations of `population` individuals; parents are the best by rank, then by crowding."""

    name = "nsga2"
    settings_kind = NSGA2Settings
    settings: NSGA2Settings

    def __init__(
        self,
        space: Space,
        goals: Sequence[tuple[str, bool]],
        *,
        seed: int,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(space, goals, seed=seed, settings=settings)
        self._domains: dict[str, BaseDistribution] = {
            gene.path: CategoricalDistribution(gene.labels) for gene in space.genes
        }
        self._varying = {path: d for path, d in self._domains.items() if not d.single()}
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line per in-memory study is noise
        self._study = optuna.create_study(directions=["maximize" if m else "minimize" for _, m in goals])
        optuna.logging.set_verbosity(verbosity)
        self._generation: list[FrozenTrial] = []  # of the newest generation, in the order told
        self._parents: list[FrozenTrial] = []  # survivors of the generations before
        self._read: set[int] = set()  # individuals that the sampler makes the next child of
        self._number_of_generation = 0

    @classmethod
    def remark(cls, settings: Settings, trials: int) -> str:
        """That nobody has children before the first generation is full."""
        assert isinstance(settings, NSGA2Settings)
        if trials > settings.population:
            return ""
        return (
            f"{argument('trials', trials)}: nsga2 draws its first {settings.population} candidates at random,"
            " so this is a random search; give more trials, or a smaller population"
        )

    def propose(self, number: int, dice: Random) -> Proposal:
        """A child of the last full generation's survivors; while there is none, a random draw."""
        sampler = self._sampler(number)
        for count in range(TRIES):
            answers = self._answers(sampler, dice)
            genotype, spec = self.space.draw(partial(_given, answers=answers))
            objection = self.space.objection(spec)
            if objection is not None and count >= PATIENCE:
                moved = self.space.moved_to_allowed(genotype)
                genotype, spec = moved or (genotype, spec)
                objection = None if moved else objection
            if objection is None:
                memo = {
                    GENERATION: self._number_of_generation,
                    PARENTS: sorted(self._read),
                    SILENT: _silent(answers, genotype),
                }
                return Proposal(genotype, memo, spec)
        raise SpaceError(f"{self.space.name}: none of {TRIES} children is allowed; the last: {objection}")

    def moved(self, proposal: Proposal, genotype: Genotype, spec: Any) -> Proposal:
        """The proposal at another architecture; what that does not ask stays silent, and is inherited."""
        answers = {**proposal.memo[SILENT], **proposal.genotype.genes}
        memo = {**proposal.memo, SILENT: _silent(answers, genotype)}
        return Proposal(genotype, memo, spec)

    def tell(self, trial: Trial) -> None:
        """Count a finished trial into its generation; failures leave no descendants."""
        if trial.state is not TrialState.COMPLETE:
            return
        self._generation.append(self._individual(trial))
        if len(self._generation) >= self.settings.population:
            self._parents = self._sampler(trial.number).select_parent(self._study, 1)
            self._generation = []
            self._number_of_generation += 1

    def _individual(self, trial: Trial) -> FrozenTrial:
        return _Individual(
            read=self._read,
            number=trial.number,
            trial_id=trial.number,
            state=optuna.trial.TrialState.COMPLETE,
            value=None,
            values=[trial.values[name].value for name, _ in self.goals],
            datetime_start=None,
            datetime_complete=None,
            params={**trial.memo.get(SILENT, {}), **trial.genotype.genes},
            distributions=self._domains,
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )

    def _answers(self, sampler: _Sampler, dice: Random) -> dict[str, Label]:
        """An answer to every gene: inherited, or uniform where there are no parents or it mutates."""
        self._read.clear()
        given = sampler.sample_relative(self._study, self._parents[0], self._varying) if self._parents else {}
        return {
            gene.path: given[gene.path] if gene.path in given else dice.choice(gene.labels)
            for gene in self.space.genes
        }

    def _sampler(self, number: int) -> _Sampler:
        digest = hashlib.sha256(f"{self.seed}/{number}".encode()).digest()
        return _Sampler(
            self._generation,
            self._parents,
            settings=self.settings,
            seed=int.from_bytes(digest[:4], "big"),
        )


def _silent(answers: Mapping[str, Label], genotype: Genotype) -> dict[str, Label]:
    """The answers to what a genotype does not ask."""
    return {path: answers[path] for path in answers if path not in genotype.genes}


def _given(path: str, labels: tuple[Label, ...], *, answers: Mapping[str, Label]) -> Label:
    return answers[path]


class _Individual(FrozenTrial):
    """A trial that notes that its answers are read, which a sampler does where it makes a child of it."""

    def __init__(self, *, read: set[int], **trial: Any) -> None:
        super().__init__(**trial)
        self._read = read

    @property
    def params(self) -> dict[str, Any]:
        """The answers."""
        self._read.add(self.number)
        return self._params

    @params.setter
    def params(self, params: dict[str, Any]) -> None:
        self._params = params


class _Sampler(NSGAIISampler):
    """Optuna's NSGA-II with its populations handed over, instead of looked up among all trials."""

    def __init__(
        self,
        population: list[FrozenTrial],
        parents: list[FrozenTrial],
        *,
        settings: NSGA2Settings,
        seed: int,
    ) -> None:
        super().__init__(
            population_size=settings.population,
            crossover_prob=settings.crossover_prob,
            mutation_prob=settings.mutation_prob,
            seed=seed,
        )
        self._newest, self._survivors = population, parents

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        return 1

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return self._newest

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return self._survivors
