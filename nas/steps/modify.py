"""The step behind all others: modifiers (`then`) make other networks of those that were trained longest.

Each list goes on behind the last modifier that is on record in the network's folder (`nas.modification`), so
a study that is stopped in between does none of them twice.
"""

from __future__ import annotations

import time
from typing import Any

from foundation.errors import EvaluationFailed, SettingError
from nas.modification import MODIFIED, figures_of, modify
from nas.modifiers.base import Modifier
from nas.modifiers.lists import modifiers_of
from nas.modifiers.settings import ModificationSettings
from nas.steps.base import Context, Step, steps
from nas.steps.baselines import add_costs
from nas.steps.corpus import opened_task, opened_tasks
from nas.steps.measure import measure_all
from nas.steps.profile import cost_model
from nas.study.export import best_weights
from nas.study.given_networks import genotype_of_given
from nas.study.measuring import left_to_measure
from nas.study.model_code import code_of, load
from nas.study.modified import (
    LIST,
    OF,
    RECORDS,
    STAGE,
    bases_of,
    folder_of,
    modified_trials,
    name_of,
    plain_list,
)
from nas.study.plan import Plan
from nas.study.plan_objectives import quality_of
from nas.study.study import Study
from nas.study.trial import Fidelity, Trial, TrialState, Value
from nas.training.start import Start
from search_spaces.network.decoder import Decoder
from search_spaces.network.model_files import read_config


@steps.add
class Modify(Step):
    """Wanted where the plan names modifiers and something is trained."""

    name = "modify"
    needs = ("measure", "finalists", "baselines", "repeats")

    def wanted(self, plan: Plan) -> bool:
        """Whether there is something to apply to networks with weights."""
        return bool(plan.then) and quality_of(plan) is not None

    def done(self, context: Context) -> bool:
        """Whether they were applied to all these networks, and the results were measured."""
        return not _left(context) and not left_to_measure(context.study, _complete(context.study))

    def run(self, context: Context) -> None:
        """Apply them to what is left, one network after the other, and measure what comes out."""
        study, left, modifiers = context.study, _left(context), modifiers_of(context.plan.then)
        for number, base in enumerate(left, 1):
            context.progress.say(f"network {number} of {len(left)}: {name_of(base, modifiers)}")
            trial = _modified(context, base, modifiers)
            if trial.state is TrialState.FAILED:
                context.progress.say(f"{base.digest} failed: {trial.reason}")
                study.store.save(study.record.id, [trial])
            else:
                add_costs(study, [trial], cost_model(context))
        measure_all(context, _complete(study), what="what was modified")


def _complete(study: Study) -> list[Trial]:
    return [trial for trial in modified_trials(study) if trial.state is TrialState.COMPLETE]


def _left(context: Context) -> list[Trial]:
    """The networks that the modifiers of the plan were not applied to."""
    study, wanted = context.study, plain_list(modifiers_of(context.plan.then))
    done = {
        (trial.memo[OF], trial.fidelity.steps)
        for trial in modified_trials(study)
        if trial.memo.get(LIST) == wanted
    }
    return [base for base in bases_of(study) if (base.digest, base.fidelity.steps) not in done]


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what differs between equal runs."""
    return {name: value for name, value in record.items() if name != "seconds"}


def _modified(context: Context, base: Trial, modifiers: tuple[Modifier, ...]) -> Trial:
    """The trial of the network that modifiers make of another one."""
    study, task, began = context.study, opened_task(context), time.time()
    device = context.plan.train_on
    model, about = best_weights(study, base, task)
    spec: Decoder = model.spec
    start = Start(model, about, code=code_of(spec), tokenizer=task.tokenizer_json())
    plain = plain_list(modifiers)
    folder = folder_of(study, base.digest, plain)
    memo: dict[str, Any] = {OF: base.digest, LIST: plain}
    outcome: dict[str, Any] = {"state": TrialState.COMPLETE}
    try:
        where = ModificationSettings(train_on=device)
        again = f"`nas resume {study.name}`"
        modify(start, modifiers, folder, where, task=task, progress=context.progress, again=again)
        made = load(folder, device=device, trust_code=True)  # this study has written it
        spec = made.spec
        memo[RECORDS] = [_timeless(record) for record in read_config(folder)["about"][MODIFIED]]
        scores = {name: figures_of(made, each).score for name, each in opened_tasks(context).items()}
        outcome["values"] = {
            name: Value(score.value, score.standard_error, STAGE, score.samples)
            for name, score in scores.items()
        }
    except (SettingError, EvaluationFailed) as error:
        outcome = {"state": TrialState.FAILED, "reason": str(error)}
    return Trial(
        number=study.store.next_number(study.record.id, STAGE),
        genotype=genotype_of_given(name_of(base, modifiers), spec),
        fidelity=Fidelity(evaluator=STAGE, steps=base.fidelity.steps),
        seed=context.plan.seed,
        stage=STAGE,
        started=began,
        finished=time.time(),
        memo=memo,
        **outcome,
    )
