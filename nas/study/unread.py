"""Settings that count for nothing beside the others, and are refused where a user wrote them.

Defaults, a study's own and a space's, say nothing of what a user expects: only what was given is looked at.
"""

from __future__ import annotations

from collections.abc import Collection

from evaluators.supernet.folder import read_about
from foundation.errors import SettingError
from foundation.settings import describe
from foundation.wording import argument
from nas.engines.base import engines
from nas.steps.baselines import Baselines
from nas.steps.finalists import Finalists
from nas.steps.repeats import Repeats
from nas.study.plan import Plan
from nas.study.plan_objectives import quality_of, scored_names

OPTIONS = {described.name: described.option for described in describe(Plan)}


def require_read(plan: Plan, given: Collection[str]) -> None:
    """Make sure that each of these settings of a plan, which a user wrote, counts for something in it.

    Raises:
        SettingError: one does not; what would be right is said.
        UnknownName: there is no such engine.
    """
    rules = (
        _of_engine(plan),
        _of_seeds(plan),
        _of_supernet(plan, given),
        _of_rungs(plan),
        _of_tables(plan),
        _of_networks(plan),
    )
    for unread in rules:
        for name, why in unread.items():
            if name in given and getattr(plan, name):
                what = argument(name, getattr(plan, name), option=OPTIONS[name])
                raise SettingError(f"{what} counts for nothing: {why}")


def _of_engine(plan: Plan) -> dict[str, str]:
    """What an engine that proposes by itself does not ask."""
    if engines[plan.engine].asks_strategy:
        return {}
    others = [name for name, kind in engines.items() if kind.asks_strategy]
    right = f"leave it out, or add {argument('engine', others[0])}"
    return {"strategy": f"engine {plan.engine} proposes by itself: {right}"}


def _of_seeds(plan: Plan) -> dict[str, str]:
    if plan.seed_from:
        return {}
    seeds = argument("seed_from", "STUDY")
    return {"seeds_first": f"there are no candidates to begin with: add {seeds}, or leave it out"}


def _of_supernet(plan: Plan, given: Collection[str]) -> dict[str, str]:
    """How the supernet of a folder was trained cannot be changed any more."""
    wanted = {"train_steps": "steps", "train_batch": "batch"}
    if plan.supernet is None or not set(wanted).intersection(given):
        return {}
    about = read_about(plan.supernet)
    return {
        name: f"{plan.supernet} learned with {about[field]}: leave it out"
        for name, field in wanted.items()
        if getattr(plan, name) != about[field]
    }


def _of_rungs(plan: Plan) -> dict[str, str]:
    """What is promoted, or repeated, needs rungs or finalists."""
    unread: dict[str, str] = {}
    in_rungs = Finalists().wanted(plan) and len(plan.finalist_steps) > 1
    if plan.scheduler == "full" and not in_rungs:
        right = f"add {argument('scheduler', 'halving')}, or {argument('finalists')} in several rungs"
        unread["keep"] = f"nothing is promoted from rung to rung: {right}, or leave it out"
    alone = f"no network is trained by itself: add {argument('finalists')}, or leave it out"
    if plan.final_seeds > 1 and not Repeats().wanted(plan):
        unread["final_seeds"] = alone
    if plan.baselines and not Baselines().wanted(plan):
        unread["baselines"] = alone
    return unread


def _of_tables(plan: Plan) -> dict[str, str]:
    if plan.roofline is None:
        return {}
    why = f"{argument('roofline', plan.roofline)} takes the place of tables: leave one of the two out"
    return {"strict_table": why}


def _of_networks(plan: Plan) -> dict[str, str]:
    """What needs scores that are learned."""
    unread: dict[str, str] = {}
    if quality_of(plan) is None:
        learned = argument("objectives", "bits_per_byte", option="objective")
        unread["measure"] = (
            f"the networks have no weights: add an objective such as {learned}, or leave it out"
        )
    if len(scored_names(plan)) < 2:
        unread["shared_training"] = "there are not several tasks to share it: leave it out"
    return unread
