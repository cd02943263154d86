"""How far a study can be trusted: its proxy against training from scratch, its front against random choice.

Both ask random architectures that keep the study's constraints, as trials of the stage "validate", so that
nothing is scored twice.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from foundation.errors import SettingError
from nas.engines.base import BY
from nas.executors.base import Executor
from nas.objectives.base import Bench, objectives
from nas.study.constraints import Constraint, first_violation
from nas.study.evaluators import fidelity
from nas.study.facts import PREPARED, add_fact
from nas.study.plan_objectives import quality_name
from nas.study.scoring import score_all
from nas.study.study import Study
from nas.study.trial import Fidelity, Trial, TrialState
from nas.validation.agreement import Agreement, agreement
from nas.validation.claims import Claims, claims_of
from nas.validation.gain import Candidate, Gain, gain, scaled
from search_spaces.language.genotype import Genotype

__all__ = ["Agreement", "agreement", "random_networks", "validate", "validate_gain"]

FACT = "validation"
COUNTED = (TrialState.COMPLETE, TrialState.FAILED)

Hear = Callable[[Trial], None]


@dataclass(frozen=True)
class Checked:
    """The proxy's agreement with training from scratch, and what the engine itself had claimed."""

    agreement: Agreement
    claims: Claims | None


@dataclass(frozen=True)
class Gained:
    """The gain at equal count, and that over all random candidates that are known."""

    equal: Gain
    over_all: Gain


def top_fidelity(study: Study) -> int:
    """The training steps of the study's last rung; of every candidate where it has none."""
    return study.plan.rungs[-1] if study.plan.rungs else study.plan.steps


def random_networks(study: Study, count: int, bench: Bench | None = None) -> list[Genotype]:
    """Distinct random architectures that keep the study's constraints, the same at every call.

    Raises:
        SettingError: there are not so many.
    """
    found = _drawn(study, count, bench or Bench(study.plan.scenario))
    if len(found) < count:
        raise SettingError(f"the space has no {count} distinct architectures to validate on")
    return found


def validate(
    study: Study,
    networks: int,
    steps: int,
    *,
    proxy: Executor,
    truth: Executor,
    bench: Bench | None = None,
    on_trial: Hear = lambda trial: None,
) -> Checked:
    """Score random networks by the study's proxy and by training from scratch; compare the rankings.

    Raises:
        SettingError: there are too few networks, or the proxy is this very training.
    """
    plan, quality = study.plan, quality_name(study.plan)
    fidelities = fidelity(plan), Fidelity(evaluator="scratch", steps=steps)
    if fidelities[0] == fidelities[1]:
        raise SettingError(
            f"the search itself trained every candidate from scratch for {steps} steps: there is no proxy to"
            " check"
        )
    genotypes = random_networks(study, networks, bench)
    by_proxy, by_truth = (
        score_all(study, genotypes, executor, stage="validate", fidelity=spending, on_trial=on_trial)
        for executor, spending in zip((proxy, truth), fidelities, strict=True)
    )
    both = [
        (one, other)
        for one, other in zip(by_proxy, by_truth, strict=True)
        if one.state is other.state is TrialState.COMPLETE
    ]
    found = agreement([(p.values[quality].value, t.values[quality].value, p.digest) for p, t in both])
    claims = claims_of(study, [truth for _, truth in both], quality)
    add_fact(
        study,
        FACT,
        {
            **study.facts.get(FACT, {}),
            **found.to_json(),
            "steps": steps,
            "proxy": plan.evaluator,
            "claims": claims.to_json() if claims else None,
        },
    )
    return Checked(found, claims)


def validate_gain(
    study: Study,
    bench: Bench,
    proxy: Executor,
    *,
    random: int | None = None,
    on_trial: Hear = lambda trial: None,
) -> Gained:
    """The hypervolume of what the engine found over that of random architectures from the same weights.

    Random trials that the engine made beside its own are used; where they are fewer than `random`, others
    are scored. By default there are as many as the engine scored, where a supernet scores them; where each
    must be trained from scratch, only those on record are used.

    Raises:
        SettingError: an objective is only known to a Python program, or there are too few candidates.
    """
    unknown = [name for name in study.plan.objectives if name not in objectives]
    if unknown:
        raise SettingError(f"random choice cannot be scored by {', '.join(unknown)}: a function of a program")
    found, by_chance = found_and_random(study)
    wanted, known = still_wanted(study, random), {trial.digest for trial in by_chance}
    drawn = _drawn(study, wanted, bench, without=known)
    scored = score_all(
        study, drawn, proxy, stage="validate", fidelity=fidelity(study.plan), on_trial=on_trial
    )
    by_chance += with_costs(study, scored, bench)
    sides = candidates(study, found, by_chance)
    measured, over_all = (
        gain(*sides, against=against, seed=study.plan.seed) for against in (None, len(by_chance))
    )
    effort = spent(study)
    fact = {
        **measured.to_json(),
        "over_all": over_all.to_json(),
        "scored_here": len(drawn),
        "spent": effort,
        "effort": told_effort(effort),
    }
    add_fact(study, FACT, {**study.facts.get(FACT, {}), "gain": fact})
    return Gained(measured, over_all)


def found_and_random(study: Study) -> tuple[list[Trial], list[Trial]]:
    """What the engine proposed, and the random trials that it made beside; each architecture once, in order.

    Trials that failed count, for they were tried; those that broke a constraint cost nothing.
    """
    known: dict[str, Trial] = {}
    for trial in study.trials():
        if trial.state in COUNTED and trial.reused is None:
            known[trial.digest] = trial
    mine = [trial for trial in known.values() if trial.memo.get(BY) != "random"]
    return mine, [trial for trial in known.values() if trial.memo.get(BY) == "random"]


def still_wanted(study: Study, random: int | None = None) -> int:
    """How many random architectures have to be scored, so that there are `random` (see `validate_gain`)."""
    found, by_chance = found_and_random(study)
    if not found or (random is None and study.plan.evaluator == "scratch"):
        return 0
    return max(0, (len(found) if random is None else random) - len(by_chance))


def with_costs(study: Study, trials: Sequence[Trial], bench: Bench) -> list[Trial]:
    """The same, with the objectives that are known before training; kept in the store."""
    asked = [objectives[name] for name in study.plan.objectives]
    known = []
    for trial in trials:
        spec = study.spec(trial)
        values = {o.name: o.cheap(spec, bench) for o in asked if o.cheap and o.name not in trial.values}
        known.append(replace(trial, values={**trial.values, **values}))
    study.store.save(study.record.id, known)
    return known


def candidates(study: Study, *sides: Sequence[Trial]) -> list[list[Candidate]]:
    """The objectives of trials as points to be minimised, costs in logarithms; None for one that failed."""
    trials = [trial for side in sides for trial in side if trial.state is TrialState.COMPLETE]
    points = scaled(study.points(trials), [o.cheap is not None for o in study.objectives])
    lookup = {(t.stage, t.number): point for t, point in zip(trials, points, strict=True)}
    return [[lookup.get((trial.stage, trial.number)) for trial in side] for side in sides]


def spent(study: Study) -> dict[str, Any]:
    """What the engine did before its first trial, as far as that is on record.

    `seconds` of it; `candidate_seconds`, the median of a trial; and how many blocks (`halves`), whole
    networks or searches (`points`) it took.
    """
    facts = study.facts
    times = [
        trial.finished - trial.started
        for trial in study.trials()
        if trial.state is TrialState.COMPLETE and trial.reused is None and trial.finished is not None
    ]
    exact, darts = facts.get("exact", {}), facts.get("darts", {})
    told = {
        "seconds": facts.get(PREPARED, {}).get("seconds"),
        "candidate_seconds": round(statistics.median(times), 4) if times else None,
        "halves": exact.get("scored"),
        "networks": len(exact["networks"]) if "networks" in exact else None,
        "points": len(darts["points"]) if "points" in darts else None,
    }
    return {"engine": study.plan.engine, **{name: value for name, value in told.items() if value is not None}}


def told_effort(spent: Mapping[str, Any]) -> str:
    """What `spent` holds, in words."""
    engine = spent["engine"]
    parts = {
        "halves": "parts of layers scored",
        "networks": "random networks tried",
        "points": "searches run",
    }
    done = ", ".join(f"{spent[name]:,} {what}" for name, what in parts.items() if name in spent)
    if not done and "seconds" not in spent:
        return f"{engine} chooses while it scores, so both sides cost the same, on the same trained weights"
    text = f"Not counted is what {engine} did before its first trial"
    text += f" ({done})" if done else ""
    seconds, each = spent.get("seconds"), spent.get("candidate_seconds")
    if seconds is None:
        return f"{text}: how long that took is not on record"
    text += f": {seconds:.0f} s"
    return f"{text}, in which about {seconds / each:,.0f} more candidates could be scored" if each else text


def _drawn(study: Study, count: int, bench: Bench, without: Collection[str] = ()) -> list[Genotype]:
    """Distinct allowed architectures, `count` of them or as many as are found."""
    constraints = [Constraint.parse(text) for text in study.plan.constraints]
    dice, found = Random(f"validate/{study.plan.seed}"), dict[Genotype, bool]()
    for _ in range(100 * count):
        genotype = study.space.sample(dice)
        if genotype in found or genotype.digest in without:
            continue
        spec = study.space.close(genotype) if constraints else None
        found[genotype] = first_violation(constraints, spec, bench) is None
        if sum(found.values()) == count:
            break
    return [genotype for genotype, allowed in found.items() if allowed]
