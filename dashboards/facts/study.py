"""A study's settings and progress, and everything else that its report shows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from dashboards.facts.baselines import BaselineFacts, baseline_facts
from dashboards.facts.composition import CompositionFacts, composition_facts
from dashboards.facts.damaged import undamaged
from dashboards.facts.finalists import FinalistFacts, finalist_facts
from dashboards.facts.front import FrontFacts
from dashboards.facts.growth import HypervolumeFacts, growth
from dashboards.facts.modified import ModifiedFacts, modified_facts
from dashboards.facts.networks import (
    NetworkFacts,
    architecture,
    layers_of,
    one_line_of,
    quantity,
)
from dashboards.facts.next_steps import NextSteps, next_steps
from dashboards.facts.planes import planes
from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Reading
from dashboards.facts.records import (
    CorpusFacts,
    SupernetFacts,
    TableFacts,
    ValidationFacts,
    read_corpus,
    read_supernet,
    read_tables,
    read_validation,
)
from nas.engines.base import engine_title
from nas.pareto import nondominated
from nas.study.marks import rough_lines
from nas.study.proposers import Proposers, proposers_of
from nas.study.rungs import rung_lines, rungs_of
from nas.study.significance import tied
from nas.study.study import Study, of_most_steps
from nas.study.tally import tally_of
from nas.study.task import length_of
from nas.study.trial import Trial, TrialState, Value

COMPOSITION_SAMPLE = 2000
"""The composition of the search is counted over at most this many architectures, evenly spaced."""


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """A study's settings and progress.

    `gated` candidates met a gate. `seconds` is how long candidates were in progress, `loss_unit` that
    of the losses of the task. `scenarios` are texts by name. `rungs` say how far candidates were trained,
    where a scheduler decides that, `remarks` which proposals failed, why, and what is unreadable.
    """

    name: str
    store: str
    created: float
    space_name: str
    space_digest: str
    space_size: int | None
    objectives: tuple[Quantity, ...]
    constraints: tuple[str, ...]
    engine: str
    evaluator: str
    steps: int
    length: int | None
    seed: int
    scenarios: Mapping[str, str]
    planned: int
    counts: Mapping[str, int]
    repeated: int
    distinct: int
    seconds: float
    loss_unit: str = ""
    gated: int = 0
    rungs: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def quality(self) -> Quantity | None:
        """The objective that networks are trained for; None where nothing is trained."""
        return next((objective for objective in self.objectives if objective.scored), None)

    @property
    def scenario(self) -> str:
        """All scenarios in one line."""
        return "; ".join(self.scenarios.values())


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that a report shows; what a study does not have is None or empty.

    `tables` are those of all scenarios with latencies. `legend` says why numbers of the front are marked.
    """

    study: StudyFacts
    front: tuple[NetworkFacts, ...] = ()
    fronts: tuple[FrontFacts, ...] = ()
    hypervolume: HypervolumeFacts | None = None
    proposers: Proposers | None = None
    finals: FinalistFacts | None = None
    baselines: BaselineFacts | None = None
    modified: ModifiedFacts | None = None
    tables: tuple[TableFacts, ...] = ()
    supernet: SupernetFacts | None = None
    corpus: CorpusFacts | None = None
    validation: ValidationFacts | None = None
    composition: CompositionFacts | None = None
    legend: tuple[str, ...] = ()
    next_steps: NextSteps = NextSteps()

    @property
    def search_complete(self) -> bool:
        """Whether as many candidates were scored as planned."""
        return self.scored >= self.study.planned

    @property
    def scored(self) -> int:
        """How many candidates count towards the plan: those that failed or met a gate, too."""
        return self.study.gated + sum(self.study.counts.get(state, 0) for state in ("complete", "failed"))


def read_facts(study: Study) -> Facts:
    """Read a study, finished or not, into plain values."""
    reading = Reading(study)
    reading.refresh()
    trials, finals = study.trials("search"), study.trials("final")
    records = study.facts
    scored = of_most_steps(distinct_complete(trials))
    front = list(reading.predicted_members)
    measured = study.measured()
    shown = [values for trial in front for values in (trial.values, measured.get(trial.digest, {}))]
    one_lines = {trial.digest: one_line_of(study, trial) for trial in [*front, *finals]}
    remarks = tally_of(study).problems
    tables = undamaged(read_tables, records, "latency table", remarks)
    supernet = undamaged(read_supernet, records.get("supernet"), "supernet", remarks)
    corpus = undamaged(read_corpus, records.get("corpus"), "corpus", remarks)
    validation = undamaged(read_validation, records.get("validation"), "validation", remarks)
    return Facts(
        study=replace(study_facts(study, trials), remarks=tuple(remarks)),
        front=front_networks(study, front, one_lines, measured),
        fronts=planes(
            study,
            reading.scored,
            front,
            objectives=study.plan.objectives,
            one_lines=one_lines,
            finalists={trial.digest for trial in finals},
            measured=measured,
        ),
        hypervolume=growth(reading.scored, reading.objectives),
        proposers=proposers_of(trials),
        finals=finalist_facts(
            finals,
            {trial.digest: trial for trial in scored},
            measured,
            one_lines,
            study.quality.name if study.quality else None,
        ),
        baselines=baseline_facts(study, measured),
        modified=modified_facts(study),
        tables=tables or (),
        supernet=supernet,
        corpus=corpus,
        validation=validation,
        composition=_composition(study, front, scored),
        legend=tuple(rough_lines(shown, study.table_errors)),
        next_steps=next_steps(study, front),
    )


def study_facts(study: Study, trials: Sequence[Trial]) -> StudyFacts:
    """A study's settings and progress."""
    plan, space = study.plan, study.record.config.get("space", {})
    size = space.get("size")
    return StudyFacts(
        name=study.name,
        store=study.store.url,
        created=study.record.created,
        space_name=str(space.get("name", "space")),
        space_digest=study.record.space_digest,
        space_size=int(size) if str(size).isdecimal() else None,
        objectives=tuple(quantity(name, study) for name in plan.objectives),
        constraints=tuple(plan.constraints),
        engine=engine_title(plan),
        evaluator=plan.evaluator,
        steps=plan.train_steps,
        length=length_of(study),
        loss_unit=study.scored_task.unit if study.scored_task else "",
        seed=plan.seed,
        scenarios={scenario.name: str(scenario) for scenario in plan.scenarios},
        planned=plan.trials,
        counts=dict(Counter(trial.state.value for trial in trials if not trial.goes_on)),
        repeated=sum(trial.reused is not None for trial in trials),
        gated=sum(trial.state is TrialState.INFEASIBLE and trial.counts for trial in trials),
        distinct=len(distinct_complete(trials)),
        seconds=busy_seconds(trials),
        rungs=tuple(rung_lines(rungs_of(study))),
    )


def busy_seconds(trials: Sequence[Trial]) -> float:
    """How long at least one of these trials was in progress: the time between two sessions does not count."""
    total, until = 0.0, -math.inf
    spans = [(trial.started, trial.finished) for trial in trials if trial.finished is not None]
    for started, finished in sorted(spans):
        total += max(0.0, finished - max(started, until))
        until = max(until, finished)
    return total


def distinct_complete(trials: Sequence[Trial]) -> list[Trial]:
    """The complete trials, each architecture once."""
    by_digest = {}
    for trial in trials:
        if trial.state is TrialState.COMPLETE and trial.reused is None:
            by_digest[trial.digest] = trial
    return list(by_digest.values())


def front_of(study: Study, scored: Sequence[Trial]) -> list[Trial]:
    """The trials that no other dominates in all objectives, sorted by the first one."""
    points = study.points(scored)
    front = [
        (point, trial)
        for point, trial, keep in zip(points, scored, nondominated(points), strict=True)
        if keep
    ]
    return [trial for _, trial in sorted(front, key=lambda pair: pair[0])]


def front_networks(
    study: Study,
    front: Sequence[Trial],
    one_lines: Mapping[str, str],
    measured: Mapping[str, Mapping[str, Value]],
) -> tuple[NetworkFacts, ...]:
    """The front; a member is tied when the next one in quality is not significantly worse."""
    name = study.quality.name if study.quality else ""
    with_quality = [trial for trial in front if name in trial.values]
    pairs = pairwise(sorted(with_quality, key=lambda trial: trial.values[name].value))
    ties = {better.digest for better, worse in pairs if tied(better.values[name], worse.values[name])}
    left = {trial.digest for trial in study.undominated_as_measured(front, measured)}
    return tuple(
        NetworkFacts(
            digest=trial.digest,
            number=trial.number,
            one_line=one_lines[trial.digest],
            layers=layers_of(study, trial),
            values=trial.values,
            measured=measured.get(trial.digest, {}),
            tied=trial.digest in ties,
            outdone=trial.digest not in left,
        )
        for trial in front
    )


def _composition(study: Study, front: Sequence[Trial], scored: Sequence[Trial]) -> CompositionFacts | None:
    step = -(-len(scored) // COMPOSITION_SAMPLE) or 1
    return composition_facts(
        [architecture(study, trial) for trial in front],
        [architecture(study, trial) for trial in scored[::step]],
    )
