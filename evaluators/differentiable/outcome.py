"""From a finished search to one architecture, with everything that a reader of it should know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from torch import Tensor

from evaluators.differentiable.collapse import Finding, degenerate
from evaluators.differentiable.discretization import by_perturbation
from evaluators.differentiable.repair import Choice, Target, repaired
from evaluators.differentiable.search import DifferentiableSearch
from foundation.text import percent
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.space import Space
from search_spaces.mixture.conditions import Genes

DECIDED = 0.9
"""The share of an option that was decided; the rest is left for repairs."""


def choose(
    search: DifferentiableSearch,
    targets: Sequence[Target] = (),
    *,
    how: Literal["magnitude", "perturbation"] = "magnitude",
    space: Space | None = None,
    settle: Callable[[Genotype], Genotype] | None = None,
) -> tuple[Choice, tuple[Finding, ...]]:
    """One architecture, and all findings about it.

    `space` is the same tree with more constraints; `settle` answers anew what the mixture does not see. What
    was decided by perturbation or by `settle` is changed only where a target needs it.

    Raises:
        SpaceError: no allowed architecture was found.
    """
    genes, shares = search.genes if space is None else Genes(space), search.shares.cpu()
    if how == "perturbation":
        decided = by_perturbation(search.genes, search.logits, search.validation_loss, seed=search.seed)
        shares = _tilted(search.genes, shares, decided)
    unseen = search.mixture.unseen
    if settle is not None and unseen:
        settled = settle(repaired(genes, shares, targets, seed=search.seed).genotype).genes
        shares = _tilted(search.genes, shares, {path: settled[path] for path in unseen if path in settled})
    choice = repaired(genes, shares, targets, seed=search.seed)
    return choice, tuple(_findings(search, choice, targets))


def _findings(search: DifferentiableSearch, choice: Choice, targets: Sequence[Target]) -> list[Finding]:
    findings = [*search.findings, *_deviations(search)]
    if choice.excess > 0:
        missed = ", ".join(f"{t.name} {choice.costs[t.name]:.4g} for {t.value:.4g}" for t in targets)
        text = f"no likely architecture meets every target; the nearest has {missed}"
        findings.append(Finding("target missed", search.step, text, {"excess": choice.excess}))
    bad = degenerate(search.empty.of(choice.genotype), search.step)
    return [*findings, bad] if bad else findings


def _tilted(genes: Genes, shares: Tensor, decided: Mapping[str, Label]) -> Tensor:
    """Shares that leave a tenth for all options but the decided ones."""
    shares = shares.clone()
    for path, label in decided.items():
        gene = genes.gene(path)
        shares[genes.slice(gene)] *= 1 - DECIDED
        shares[genes.start[path] + genes.index(gene, label)] += DECIDED
    return shares


def _deviations(search: DifferentiableSearch) -> list[Finding]:
    """A finding for every target whose cost does not add up over layers."""
    return [
        Finding(
            "not additive",
            search.step,
            f"{pull.target.name} does not add up over layers: its expectation is off by up to"
            f" {percent(pull.expected.deviation, places=2)}, and was repaired by the true values",
            {"deviation": pull.expected.deviation},
        )
        for pull in search.lagrangian.pulls
        if not pull.expected.exact
    ]
