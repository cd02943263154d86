"""What a study says of an architecture, for whoever proposes it: whether it may be, what it costs, its score.

A `Judge` is sent to the processes of other libraries: it holds no store, and what it finds out is written by
`take_up` in the process that has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluators.scoring.scratch import FromScratch
from foundation.errors import EvaluationFailed, IllegalArchitecture
from nas.engines.base import PROPOSED_BY
from nas.executors.base import Scorer, WorkItem, score_item
from nas.objectives.base import CostModel, Objective, objectives
from nas.steps.base import Context, in_order, steps
from nas.steps.corpus import opened_tasks
from nas.steps.profile import cost_model
from nas.steps.search import SearchByTrials, scorers_without_training
from nas.steps.train import evaluators
from nas.store.folders import working_in
from nas.study.constraints import Constraint, gates_of, parsed_constraints
from nas.study.evaluators import EvaluatorScorer, fidelity, scorers_of
from nas.study.plan_objectives import recorded_costs, scored_names
from nas.study.study import Study
from nas.study.trial import PARENTS, Trial, TrialState, Value
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.space import Space


@dataclass(frozen=True, kw_only=True)
class Judge:
    """The space, objectives and constraints of a study, and what scores its architectures."""

    space: Space
    scorers: Mapping[str, Scorer]
    seed: int
    steps: int
    cost_model: CostModel
    cheap: tuple[Objective, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    gates: tuple[Constraint, ...] = ()

    @classmethod
    def of(cls, study: Study) -> Judge:
        """That of a study; what must be measured or learned before its first candidate is done now.

        Raises:
            SettingError: only its program can continue the study.
            EvaluationFailed: its supernet cannot be trained.
        """
        plan, known = study.plan, Study(study.store, study.record, study.with_source().space)
        known.functions = study.functions
        functions = {n for n in plan.objectives if n not in objectives}
        if known.space.digest != study.record.space_digest or not functions <= known.functions.keys():
            source = Study(study.store, study.record)  # rules and functions in code are in its source
            known = Study(study.store, study.record, source.reloaded_space())
            known.functions = source.functions
        context = Context(study=known, functions=known.functions)
        begun = replace(plan, trials=max(1, plan.trials))
        with working_in(study.folder):
            for step in in_order(steps):
                if step.name in SearchByTrials.needs and step.wanted(begun) and not step.done(context):
                    step.run(context)
            scorers = scorers_without_training(context)
            costs = cost_model(context)
            if scored_names(plan):
                scorers |= scorers_of(plan, evaluators(context), opened_tasks(context))
        return cls(
            space=known.space,
            scorers=scorers,
            seed=plan.seed,
            steps=plan.train_steps,
            cost_model=costs,
            cheap=recorded_costs(known.space, plan, costs),
            constraints=parsed_constraints(plan),
            gates=gates_of(plan),
        )

    def answered(self, answers: Mapping[str, Any]) -> tuple[Genotype, Any]:
        """The genotype of these answers by path, and its architecture; answers to what is not asked are free.

        Raises:
            IllegalArchitecture: a question has no answer, or one that is no option; or the space forbids it.
        """

        def answer(path: str, labels: tuple[Label, ...]) -> Label:
            if path not in answers:
                raise IllegalArchitecture(f"{path} has no answer: it is one of {labels}")
            return option_of(path, labels, answers[path])

        genotype, spec = self.space.draw(answer)
        self.space.check(spec)
        return genotype, spec

    def costs(self, spec: Any) -> dict[str, Value]:
        """What is known of an architecture before it is scored.

        Raises:
            EvaluationFailed: a constraint is broken, or an objective of a user's own has no value.
        """
        costs = {o.name: o.cheap(spec, self.cost_model) for o in self.cheap if o.cheap}
        _require_kept(self.constraints, costs)
        return costs

    def score(self, spec: Any, steps: int, folder: Path | None = None) -> dict[str, Value]:
        """What the scorers say after so many steps of training, of which `folder` has the checkpoints.

        Raises:
            EvaluationFailed: there is no score, or that after all steps breaks a gate.
        """
        scorers = {name: _keeping_in(scorer, folder) for name, scorer in self.scorers.items()}
        outcome = score_item(scorers, WorkItem(0, spec, steps, self.seed))
        if outcome.reason:
            raise EvaluationFailed(outcome.reason)
        if steps >= self.steps:
            _require_kept(self.gates, outcome.values)
        return dict(outcome.values)

    @property
    def trains_each(self) -> bool:
        """Whether a candidate is trained by itself, so that its score depends on the steps."""
        scorers = self.scorers.values()
        return any(isinstance(s, EvaluatorScorer) and isinstance(s.evaluator, FromScratch) for s in scorers)


def option_of(path: str, labels: Sequence[Label], answer: Any) -> Label:
    """The label that an answer means, which another library may have turned into a number of its own type.

    Raises:
        IllegalArchitecture: none.
    """
    alike = [label for label in labels if type(label) is type(answer) and label == answer]
    equal = alike or [label for label in labels if label is not None and bool(label == answer)]
    if not equal and not (answer is None and None in labels):
        raise IllegalArchitecture(f"{path} is one of {tuple(labels)}, not {answer!r}")
    return equal[0] if equal else None


def take_up(study: Study, trials: Sequence[Trial]) -> list[Trial]:
    """Write outcomes into a study as trials of its search, numbered on from those on record; those written.

    What is on record already, of the same architecture, fidelity and seed, is left out.

    Raises:
        StoreError: the study was opened for reading only, or is being copied or removed.
    """
    with working_in(study.folder):
        known = {(t.digest, t.fidelity, t.seed) for t in study.trials() if t.state is TrialState.COMPLETE}
        number = study.store.next_number(study.record.id, "search")
        taken: list[Trial] = []
        for trial in trials:
            if (key := (trial.digest, trial.fidelity, trial.seed)) in known:
                continue
            known.add(key)
            taken.append(replace(trial, number=number + len(taken)))
        study.store.save(study.record.id, taken)
    return taken


def trial_of(study: Study, genotype: Genotype, *, by: str, **outcome: Any) -> Trial:
    """An unnumbered trial of a study with its outcome (fields of `Trial`), proposed by another library."""
    memo = {PROPOSED_BY: by, PARENTS: []}
    plan = study.plan
    return Trial(number=0, genotype=genotype, fidelity=fidelity(plan), seed=plan.seed, memo=memo, **outcome)


def _require_kept(constraints: Sequence[Constraint], values: Mapping[str, Value]) -> None:
    for constraint in constraints:
        if (violation := constraint.violation(values)) is not None:
            raise EvaluationFailed(violation)


def _keeping_in(scorer: Scorer, folder: Path | None) -> Scorer:
    """The scorer with its checkpoints in a folder, where it trains."""
    if not isinstance(scorer, EvaluatorScorer) or not isinstance(scorer.evaluator, FromScratch):
        return scorer
    return EvaluatorScorer(replace(scorer.evaluator, checkpoints=None if folder is None else str(folder)))
