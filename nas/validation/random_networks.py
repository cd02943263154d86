"""Random architectures that satisfy a study's constraints: what proxies and searches are compared on."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

from foundation.wording import argument
from nas.objectives.base import CostModel
from nas.study.constraints import first_violation, parsed_constraints
from nas.study.study import Study
from nas.validation.errors import NothingToCompare
from search_spaces.language.genotype import Genotype

STAGE = "validate"
"""The stage of their trials."""

TRIES = 100
"""Draws for each network that is wanted."""


def random_networks(study: Study, count: int, cost_model: CostModel | None = None) -> list[Genotype]:
    """Distinct random architectures that satisfy the study's constraints, the same at every call.

    Raises:
        NothingToCompare: there are not so many.
    """
    drawn = draw_allowed(study, count, cost_model or CostModel.of(study.plan.scenarios))
    require_networks(count, len(drawn))
    return drawn


def require_networks(count: int, there_are: int) -> None:
    """Raise `NothingToCompare` where there are fewer networks than are asked for."""
    if there_are < count:
        raise NothingToCompare(
            f"{argument('scratch_networks', count)} is more than the space has: it has only {there_are} that"
            " keep its constraints; ask for at most so many"
        )


def draw_allowed(
    study: Study, count: int, cost_model: CostModel, without: Collection[str] = ()
) -> list[Genotype]:
    """The same, or as many as there are; `without` are digests to leave out."""
    constraints = parsed_constraints(study.plan)
    dice, allowed = Random(f"validate/{study.plan.seed}"), dict[Genotype, bool]()
    for _ in range(TRIES * count):
        genotype = study.space.sample(dice)
        if genotype in allowed or genotype.digest in without:
            continue
        spec = study.space.close(genotype) if constraints else None
        allowed[genotype] = first_violation(constraints, spec, cost_model) is None
        if sum(allowed.values()) == count:
            break
    return [genotype for genotype, kept in allowed.items() if kept]
