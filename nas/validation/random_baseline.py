"""The study's search against random choice: the gain in hypervolume over random networks, equally scored.

What is compared are trials: those of the engine, the random ones that it made beside its own, and further
random networks, scored as trials of the stage "validate", so that nothing is scored twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nas.engines.base import PROPOSED_BY, RANDOM
from nas.executors.base import Executor
from nas.objectives.base import CostModel, objectives
from nas.study.evaluators import fidelity
from nas.study.facts import VALIDATION, add_fact
from nas.study.scoring import OnTrial, score_all
from nas.study.study import Study
from nas.study.trial import Trial, TrialState
from nas.validation.effort import effort_of, effort_text
from nas.validation.errors import NothingToCompare
from nas.validation.gain import Candidate, Gain, gain, scaled
from nas.validation.random_networks import STAGE, draw_allowed


@dataclass(frozen=True)
class GainOverRandom:
    """The gain at equal count, and that over all random candidates on record."""

    equal: Gain
    over_all: Gain


def gain_over_random(
    study: Study,
    cost_model: CostModel,
    proxy: Executor,
    *,
    random: int | None = None,
    on_trial: OnTrial = lambda trial: None,
) -> GainOverRandom:
    """The hypervolume of what the engine found over that of random architectures from the same weights.

    Random trials that the engine made beside its own are used; where they are fewer than `random`, others
    are scored. By default there are as many as the engine scored, where a supernet scores them; where each
    must be trained from scratch, only those on record are used. The result is put on the study's record.

    Raises:
        NothingToCompare: an objective is a function of a user's program, or there are too few candidates.
    """
    own = [n for n in study.plan.objectives if n not in objectives or objectives[n].scored_by]
    if own:
        raise NothingToCompare(f"random choice cannot be scored by {', '.join(own)}: a function of a program")
    searched, by_chance = searched_and_random(study)
    digests = {trial.digest for trial in by_chance}
    drawn = draw_allowed(study, still_wanted(study, random), cost_model, without=digests)
    scored = score_all(study, drawn, proxy, stage=STAGE, fidelity=fidelity(study.plan), on_trial=on_trial)
    by_chance += with_costs(study, scored, cost_model)
    sides = candidates(study, searched, by_chance)
    equal, over_all = (
        gain(*sides, against=against, seed=study.plan.seed) for against in (None, len(by_chance))
    )
    effort = effort_of(study)
    fact = {
        **equal.to_json(),
        "over_all": over_all.to_json(),
        "scored_here": len(drawn),
        "spent": effort,
        "effort": effort_text(effort),
    }
    add_fact(study, VALIDATION, {**study.facts.get(VALIDATION, {}), "gain": fact})
    return GainOverRandom(equal, over_all)


def searched_and_random(study: Study) -> tuple[list[Trial], list[Trial]]:
    """What the engine proposed, and the random trials that it made beside; each architecture once, in order.

    Trials that failed count, for they were tried; those that broke a constraint cost nothing. Where a
    scheduler stopped candidates early, those that were trained to the end are compared.
    """
    whole = fidelity(study.plan)
    counted: dict[str, Trial] = {}
    for trial in study.trials():
        if (trial.counts or trial.goes_on) and trial.reused is None and trial.fidelity.steps == whole.steps:
            counted[trial.digest] = trial
    searched = [trial for trial in counted.values() if trial.memo.get(PROPOSED_BY) != RANDOM]
    return searched, [trial for trial in counted.values() if trial.memo.get(PROPOSED_BY) == RANDOM]


def still_wanted(study: Study, random: int | None = None) -> int:
    """How many random architectures have to be scored, so that there are `random` of them.

    See `gain_over_random` for the default.
    """
    searched, by_chance = searched_and_random(study)
    if not searched or (random is None and study.plan.evaluator == "scratch"):
        return 0
    return max(0, (len(searched) if random is None else random) - len(by_chance))


def with_costs(study: Study, trials: Sequence[Trial], cost_model: CostModel) -> list[Trial]:
    """The same trials with the objectives that are computed before training; kept in the store."""
    asked = [objectives[name] for name in study.plan.objectives]
    complete = []
    for trial in trials:
        spec = study.spec(trial)
        values = {o.name: o.cheap(spec, cost_model) for o in asked if o.cheap and o.name not in trial.values}
        complete.append(replace(trial, values={**trial.values, **values}))
    study.store.save(study.record.id, complete)
    return complete


def candidates(study: Study, *sides: Sequence[Trial]) -> list[list[Candidate]]:
    """The objectives of trials as points to be minimised, costs in logarithms; None for one that failed."""
    trials = [trial for side in sides for trial in side if trial.state is TrialState.COMPLETE]
    points = scaled(study.points(trials), [o.cheap is not None for o in study.objectives])
    lookup = {(t.stage, t.number): point for t, point in zip(trials, points, strict=True)}
    return [[lookup.get((trial.stage, trial.number)) for trial in side] for side in sides]
