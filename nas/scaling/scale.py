"""A family of a study's network: a law from a small grid, and members that are trained and measured.

All of it are trials of the stage "scaled" of the study, as networks that are no architectures of its space.
So a run that was stopped goes on where it was, and members are shown and exported like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from evaluators.tasks.base import Task
from foundation.errors import EvaluationFailed, SettingError
from nas.executors.workers import Workers
from nas.objectives.base import objectives
from nas.progress import Progress
from nas.scaling.settings import ScalingSettings
from nas.steps.base import Context, run_steps
from nas.steps.baselines import add_costs
from nas.steps.measure import measure_all
from nas.steps.profile import cost_model
from nas.steps.scratch_training import training_from_scratch
from nas.store.folders import working_in
from nas.study.facts import add_fact
from nas.study.forecast import Work
from nas.study.given_networks import genotype_of_given
from nas.study.plan_objectives import quality_name
from nas.study.scoring import score_all
from nas.study.study import Study
from nas.study.task import task_of
from nas.study.trial import Fidelity, Trial, TrialState
from nas.validation.proxy import top_fidelity
from search_spaces.compound_scaling import Cost, Law, laws_of, member
from search_spaces.network.decoder import Decoder

STAGE = "scaled"
FACT = "scaling"
"""On a study's record, by the digest of the network: the law, what it was chosen by, and the factors."""


@dataclass(frozen=True)
class Member:
    """A network of the family: how many times the cost was asked for, and is, and its trial."""

    factor: float
    cost: float
    trial: Trial


@dataclass(frozen=True)
class Family:
    """The law, what every law of the grid scored at twice the cost, and the members, the network first."""

    law: Law
    grid: tuple[tuple[Law, Trial], ...]
    members: tuple[Member, ...]
    steps: int


def scale_network(
    study: Study,
    trial: Trial,
    settings: ScalingSettings,
    workers: Workers,
    progress: Progress,
    *,
    yes: bool = False,
) -> Family:
    """Choose the law, train the members and measure them; what is on record is not done again.

    Raises:
        SettingError: the network is no decoder, what costs is only known after training or is no objective,
            or no member comes within 10 % of its cost.
        EvaluationFailed: no network of the grid could be trained.
        ConsentNeeded: it would take over a week, or more memory than there is; not asked for with `yes`.
    """
    context = Context(study=study, workers=workers, progress=progress)
    network, task, steps = study.spec(trial), task_of(study), settings.train_steps or top_fidelity(study)
    if not isinstance(network, Decoder):
        raise SettingError(f"only a Decoder can be scaled, and this is a {type(network).__name__}")
    with working_in(study.folder):
        run_steps(context, ("corpus", "profile"))
        cost = _cost_of(context, settings.by)
        laws = laws_of(network, cost, settings.parts)
        _require_consent(
            study, task, [member(network, laws[0], f, cost) for f in settings.factors], steps, yes
        )
        doubled = [_named(trial, 2, member(network, law, 2, cost)) for law in laws]
        fast = settings.grid_steps or max(1, steps // 3)
        progress.say(f"{len(laws)} ways to grow at twice the {settings.by}, {fast} steps each")
        grid = tuple(zip(laws, _trained(context, doubled, fast, "choosing a law"), strict=True))
        law = _best(context, grid)
        grown = {1.0: network, **{f: member(network, law, f, cost) for f in settings.factors}}
        named = [_named(trial, factor, each) for factor, each in grown.items()]
        trials = _trained(context, named, steps, "training the family")
        _measure(context, trials)
        record = {"by": settings.by, "law": asdict(law), "factors": [*settings.factors], "steps": steps}
        add_fact(study, FACT, {**study.facts.get(FACT, {}), trial.digest: record})
        known = {each.digest: each for each in study.trials(STAGE) if each.fidelity.steps == steps}
    ratios = [cost(each) / cost(network) for each in grown.values()]
    members = zip(grown, ratios, [known[each.digest] for each in trials], strict=True)
    return Family(law, grid, tuple(Member(*each) for each in members), steps)


def _cost_of(context: Context, name: str) -> Cost:
    """A cheap objective as what a network costs.

    Raises:
        UnknownName: there is no such objective.
        SettingError: it is only known after training, or larger is better.
    """
    objective, model = objectives[name], cost_model(context)
    cheap = objective.cheap
    if cheap is None or objective.maximise:
        why = "is only known after training" if cheap is None else "is maximised"
        raise SettingError(f"{name} {why}: scale by what costs, such as prefill_flops")
    if not model.ready(objective):
        raise SettingError(f"study {context.study.name} has no latency table, which {name} needs")
    return lambda network: cheap(network, model).value


def _named(trial: Trial, factor: float, network: Decoder) -> tuple[str, Decoder]:
    return f"{trial.digest} x {factor:g}", network


def _trained(context: Context, named: Sequence[tuple[str, Decoder]], steps: int, title: str) -> list[Trial]:
    """The trials of networks that are trained from scratch; of equal ones, the same."""
    genotypes = [genotype_of_given(name, network) for name, network in named]
    fidelity = Fidelity(evaluator="scratch", steps=steps)
    with training_from_scratch(context, title, len(genotypes)) as (executor, on_trial):
        return score_all(
            context.study, genotypes, executor, stage=STAGE, fidelity=fidelity, on_trial=on_trial
        )


def _best(context: Context, grid: Sequence[tuple[Law, Trial]]) -> Law:
    """The law whose network scored best.

    Raises:
        EvaluationFailed: none has a score.
    """
    name = quality_name(context.plan)
    scored = [(trial.values[name].value, law) for law, trial in grid if trial.state is TrialState.COMPLETE]
    if not scored:
        raise EvaluationFailed(f"no network of the grid could be trained: {grid[0][1].reason}")
    score = max if objectives[name].maximise else min
    return score(scored, key=lambda each: each[0])[1]


def _measure(context: Context, trials: Sequence[Trial]) -> None:
    """Count or predict what the members cost, and measure them."""
    study = context.study
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    add_costs(study, complete, cost_model(context))
    measure_all(context, complete, what="the family")


def _require_consent(study: Study, task: Task, networks: Sequence[Decoder], steps: int, agreed: bool) -> None:
    """Ask before what takes very long; the grid costs less than its members together."""
    works = [Work(largest=each, length=task.length, device=study.plan.train_on) for each in networks]
    whole = [work.learning(steps, study.plan.train_batch).times(2) for work in works]
    sum(whole[1:], start=whole[0]).require_consent(agreed)
