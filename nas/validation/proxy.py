"""The study's proxy against training from scratch: do they put random networks in the same order?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from nas.engines.base import engines
from nas.executors.base import Executor
from nas.objectives.base import CostModel
from nas.study.evaluators import fidelity
from nas.study.facts import VALIDATION, add_fact
from nas.study.plan_objectives import quality_name, scored_names
from nas.study.scoring import OnTrial, score_all
from nas.study.study import Study
from nas.study.trial import Fidelity, Trial, TrialState
from nas.validation.agreement import Agreement, agreement
from nas.validation.claims import Claims
from nas.validation.errors import NothingToCompare
from nas.validation.random_networks import STAGE, random_networks


@dataclass(frozen=True)
class ProxyCheck:
    """The proxy's agreement with training from scratch, and what the engine itself had claimed.

    `others` are agreements in scores besides the study's first one, where they could be compared, and
    `truths` the trainings from scratch.
    """

    agreement: Agreement
    claims: Claims | None
    others: tuple[tuple[str, Agreement], ...] = ()
    truths: tuple[Trial, ...] = ()


def top_fidelity(study: Study) -> int:
    """The training steps of the study's last rung; of every candidate where it has none."""
    return study.plan.finalist_steps[-1] if study.plan.finalist_steps else study.plan.train_steps


def is_own_truth(study: Study, steps: int) -> bool:
    """Whether the search itself trained every candidate from scratch for so many steps."""
    return fidelity(study.plan) == Fidelity(evaluator="scratch", steps=steps)


def check_proxy(
    study: Study,
    networks: int,
    steps: int,
    *,
    proxy: Executor,
    truth: Executor,
    cost_model: CostModel | None = None,
    on_trial: OnTrial = lambda trial: None,
) -> ProxyCheck:
    """Score random networks by the study's proxy and by training from scratch; compare the rankings.

    The result is put on the study's record. Nothing is scored twice.

    Raises:
        NothingToCompare: there are too few networks, or the proxy is this very training.
    """
    plan, quality = study.plan, quality_name(study.plan)
    fidelities = fidelity(plan), Fidelity(evaluator="scratch", steps=steps)
    if is_own_truth(study, steps):
        raise NothingToCompare(
            f"the search itself trained every candidate from scratch for {steps} steps: there is no proxy to"
            " check"
        )
    genotypes = random_networks(study, networks, cost_model)
    by_proxy, by_truth = (
        score_all(study, genotypes, executor, stage=STAGE, fidelity=spending, on_trial=on_trial)
        for executor, spending in zip((proxy, truth), fidelities, strict=True)
    )
    both = [
        (guess, true)
        for guess, true in zip(by_proxy, by_truth, strict=True)
        if guess.state is true.state is TrialState.COMPLETE
    ]
    ranks, others = _agreement_in(quality, both), list[tuple[str, Agreement]]()
    for name in scored_names(plan):
        with suppress(NothingToCompare):
            if name != quality:
                others.append((name, _agreement_in(name, both)))
    claims = engines[plan.engine].claims(study, [true for _, true in both])
    fact = {
        **study.facts.get(VALIDATION, {}),
        **ranks.to_json(),
        "steps": steps,
        "proxy": plan.evaluator,
        "claims": claims.to_json() if claims else None,
        "others": {name: found.ranking() for name, found in others},
    }
    add_fact(study, VALIDATION, fact)
    return ProxyCheck(ranks, claims, tuple(others), tuple(true for _, true in both))


def _agreement_in(score: str, both: Sequence[tuple[Trial, Trial]]) -> Agreement:
    return agreement([(p.values[score].value, t.values[score].value, p.digest) for p, t in both])
