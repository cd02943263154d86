"""One differentiable search for one target, and its result, which is kept in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from evaluators.differentiable.collapse import Finding
from evaluators.differentiable.discretization import decided_by_score
from evaluators.differentiable.lagrangian import Pull
from evaluators.differentiable.outcome import choose
from evaluators.differentiable.repair import Choice, Target
from evaluators.differentiable.search import DifferentiableSearch
from evaluators.differentiable.settings import SearchSettings
from evaluators.scoring.base import Score
from evaluators.supernet.weights import digest_of
from evaluators.training.fit import fit
from foundation.errors import FileError
from foundation.files import read_json, write_json
from nas.engines.base import Setup
from nas.engines.darts.targets import allowed_space
from search_spaces.language.genotype import Genotype
from search_spaces.network.decoder import Decoder
from search_spaces.supernet import Supernet

TARGET_TOLERANCE = 0.05
"""The relative distance within which a target is met."""

RESULT = "found.json"
"""The file of the result of a finished search."""


@dataclass(frozen=True)
class Point:
    """A search on the weights of `supernet`, pulled towards its targets."""

    setup: Setup
    supernet: Supernet
    settings: SearchSettings
    pulls: Sequence[Pull]
    choose: str

    def result(self, folder: Path) -> dict[str, Any]:
        """The network that was found, with its costs and findings, as plain values.

        A search that was stopped is continued, and one that is finished is read.

        Raises:
            SpaceError: no allowed architecture was found.
        """
        search = self._search()
        about = {
            "trajectory": search.trajectory.digest,
            "choose": self.choose,
            "plan": self.setup.plan.constraints,
        }
        finished = _read(folder / RESULT, json.loads(json.dumps(about)))
        if finished is not None:
            return finished
        fit(search, folder=folder)
        targets = [pull.target for pull in self.pulls]
        choice, findings = choose(
            search,
            targets,
            how=cast(Literal["magnitude", "perturbation"], self.choose),
            space=allowed_space(self.setup),
            settle=lambda genotype: self._settled(search, genotype),
        )
        result = {"about": about, **_plain(choice, targets, findings)}
        write_json(folder / RESULT, result)
        plain: dict[str, Any] = json.loads(json.dumps(result))
        return plain

    def _search(self) -> DifferentiableSearch:
        evaluator, task = self.setup.shared_weights
        return DifferentiableSearch(
            self.supernet,
            task,
            self.settings,
            seed=self.setup.plan.seed,
            pulls=list(self.pulls),
            origin=digest_of(self.supernet),
            recipe=evaluator.recipe,
        )

    def _settled(self, search: DifferentiableSearch, genotype: Genotype) -> Genotype:
        """With genes that the mixture does not see: the best score, and among ties the smallest state."""
        (evaluator, _), plan = self.setup.shared_weights, self.setup.plan

        def score(spec: Decoder) -> Score:
            return evaluator.score(spec, plan.train_steps, plan.seed)

        def price(spec: Decoder) -> float:
            return float(spec.cost(plan.scenarios[0]).state_bytes)

        return decided_by_score(search.genes, genotype, search.mixture.unseen, score, price)


def meets_targets(point: Mapping[str, Any]) -> bool:
    """Whether the network that a search found costs what it was asked to cost."""
    costs: Mapping[str, float] = point["costs"]
    targets: Mapping[str, float] = point["targets"]
    return all(abs(costs[name] / value - 1) <= TARGET_TOLERANCE for name, value in targets.items())


def _plain(choice: Choice, targets: Sequence[Target], findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "genotype": dict(choice.genotype.genes),
        "digest": choice.genotype.digest,
        "targets": {target.name: target.value for target in targets},
        "costs": dict(choice.costs),
        "findings": [finding.to_plain() for finding in findings],
    }


def _read(path: Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a finished search, if it was this one."""
    try:
        result = read_json(path)
    except FileError:  # none yet, or a damaged one: the search is repeated
        return None
    return result if isinstance(result, dict) and result.get("about") == about else None
