"""Differentiable search: gradient steps on a mixture of all architectures, one run per target on a cost.

Liu et al. 2019, arXiv:1806.09055 (`variant=first`, `second`); Dong & Yang 2019, arXiv:1910.04465 (`gdas`);
and `modern`: every kind of block first learns to do what the block of one good network does at its place
(`evaluators.blockwise.alignment`), then only the logits move, in minutes. The cost that is swept is the first
objective of the study that is known before training (say `decode_ms`); each of `points` targets, costs of
random architectures from cheap to dear, gives one architecture, which lies within 5 % of its target by the
latency table itself.

What the mixture does not see (bits of the decode state) is decided at the end by reading subnets. A search
that collapses stops and goes back, and every finding is on the study's record under "darts".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from random import Random
from typing import Any, Literal, cast

from evaluators.blockwise.alignment import align, digest_of
from evaluators.differentiable.collapse import Finding
from evaluators.differentiable.discretization import Choice, Target, decided_by_score
from evaluators.differentiable.expected_cost import ExpectedCost, expected_cost
from evaluators.differentiable.lagrangian import Pull
from evaluators.differentiable.outcome import choose
from evaluators.differentiable.search import DifferentiableSearch
from evaluators.differentiable.settings import VARIANTS, SearchSettings
from evaluators.scoring.base import Score
from evaluators.supernet.evaluator import FromSupernet
from evaluators.supernet.sandwich import sandwich
from evaluators.tasks.base import Task
from evaluators.training.fit import fit
from foundation.errors import SettingError
from foundation.files import write_json
from foundation.settings import setting
from nas.engines.base import Engine, Found, Prepared, Setup, engines
from nas.objectives.base import Objective, objectives
from nas.study.constraints import Constraint, first_violation
from nas.study.plan import Plan
from nas.study.study import Study
from nas.study.trial import Trial
from nas.validation.claims import Claims
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.mixture.relaxable import check_space
from search_spaces.network.decoder import Decoder
from search_spaces.supernet import Supernet

DISCRETIZATIONS = ("magnitude", "perturbation")
SAMPLED = 200
"""Random architectures whose costs the targets are spread over."""

TAILS = (0.1, 0.9)
"""The quantiles between which they are spread."""

NEAR = 0.05
"""The relative distance within which a target is met."""

PARENTS = 6
"""Large networks of which the best is what the others are aligned to."""


@engines.add
@dataclass(frozen=True, kw_only=True)
class Darts(Engine):
    """Gradient steps on the logits of all choices, one run for each target."""

    name = "darts"

    variant: str = setting("modern", help="How the logits learn.", choices=VARIANTS)
    steps: int = setting(100, help="Steps of the logits.", least=1)
    warm_up: int = setting(0, help="Steps at the beginning in which only the weights learn.", least=0)
    batch: int = setting(4, help="Windows that are read in a step.", least=1)
    rate: float = setting(0.05, help="Learning rate of the logits.", above=0)
    points: int = setting(4, help="Targets, from cheap to expensive.", least=1)
    targets: tuple[float, ...] = setting((), help="Targets on the cost, instead of `points`.")
    cost: str = setting(
        "", help="The objective that is swept.", shown="the first that is known before training"
    )
    choose: str = setting(
        "perturbation", help="How an architecture is read off the logits.", choices=DISCRETIZATIONS
    )
    align: int = setting(
        60,
        help="Steps that the candidates of `modern` are aligned before; 0: as the supernet left them.",
        least=0,
    )
    guard: bool = setting(True, help="Stop a search that collapses, and go back.")

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.relaxation  # complains where steps and warm-up do not fit

    @cached_property
    def relaxation(self) -> SearchSettings:
        """How each run searches."""
        return SearchSettings(
            variant=self.variant,
            steps=self.steps,
            warm_up=self.warm_up,
            batch=self.batch,
            rate=self.rate,
            # a reading takes a dozen gradients: ten readings cost about as much as the search itself
            watch_every=max(1, self.steps // 10),
            watch_batches=1,
            guard=self.guard,
        )

    @property
    def alignment_steps(self) -> int:
        """Steps of alignment, which only the variant `modern` has."""
        return self.align if self.variant == "modern" else 0

    def check(self, space: Space, plan: Plan) -> None:
        """Raise for a space that cannot be relaxed, and for a cost that cannot be swept."""
        check_space(space)
        if self._swept(plan) is None and self.targets:
            raise SettingError("engine darts: targets need an objective that is known before training")

    def prepare(self, setup: Setup) -> Prepared:
        """One search per target, each taken up where it stopped."""
        evaluator, task = setup.shared_weights
        objective = self._swept(setup.plan)
        sweep = None if objective is None else self._sweep(setup, objective)
        targets: Sequence[Target | None] = [None] if sweep is None else sweep[0]
        supernet = self._supernet(setup, evaluator, task)
        found, told = list[Genotype](), list[dict[str, Any]]()
        with setup.progress.bar(f"relaxing ({self.relaxation.variant})", len(targets)) as bar:
            for number, target in enumerate(targets):
                pulls = [] if target is None or sweep is None else [Pull(target, sweep[1])]
                outcome = self._outcome(setup, supernet, pulls, setup.folder / f"point-{number}")
                found.append(Genotype(outcome["genotype"]))
                told.append(outcome)
                bar.update(number + 1)
        for outcome in told:
            for finding in outcome["findings"]:
                setup.progress.say(f"darts: {finding['text']}")
        setup.note("darts", {"settings": asdict(self.relaxation), "points": told})
        return Prepared(Found(setup, found, by=self.name))

    @classmethod
    def claims(cls, study: Study, truths: Sequence[Trial] = ()) -> Claims | None:
        """How many targets were met, and the findings; it ranks no networks."""
        points = study.facts.get(cls.name, {}).get("points", [])
        met = [_meets_targets(point) for point in points if point.get("targets")]
        remarks = [f"{sum(met)} of {len(met)} targets met within {100 * NEAR:.0f} %"] if met else []
        remarks += dict.fromkeys(finding["text"] for point in points for finding in point["findings"])
        by = "gradients, one network for each target, and ranks no others"
        return Claims(engine=cls.name, by=by, remarks=tuple(remarks)) if points else None

    @classmethod
    def effort(cls, study: Study) -> dict[str, int]:
        """How many searches were run."""
        points = study.facts.get(cls.name, {}).get("points", [])
        return {"searches run": len(points)} if points else {}

    def _swept(self, plan: Plan) -> Objective | None:
        """The objective whose targets are swept."""
        if self.cost:
            found = objectives[self.cost]
            if found.cheap is None:
                raise SettingError(f"engine darts: {self.cost} is only known after training")
            return found
        known = [objectives[name] for name in plan.objectives if name in objectives]
        return next((objective for objective in known if objective.cheap is not None), None)

    def _sweep(self, setup: Setup, objective: Objective) -> tuple[list[Target], ExpectedCost]:
        total = objective.of_networks(setup.cost_model)
        expected = expected_cost(setup.space, total, seed=setup.plan.seed)
        values = list(self.targets)
        if not values:
            space, dice = allowed_space(setup), Random(f"{setup.plan.seed}/targets")
            costs = sorted(total([space.close(space.sample(dice)) for _ in range(SAMPLED)]))
            low, high = (costs[round(tail * (SAMPLED - 1))] for tail in TAILS)
            steps = max(1, self.points - 1)
            wished = [low + (high - low) * i / steps for i in range(self.points)]
            # costs that some architecture has: in a coarse space nothing may lie near the others
            values = [costs[min(range(SAMPLED), key=partial(_gap, costs, wish))] for wish in wished]
        return [Target(objective.name, value, total) for value in dict.fromkeys(values)], expected

    def _supernet(self, setup: Setup, evaluator: FromSupernet, task: Task) -> Supernet:
        """The candidates: as the study's supernet learned them, or aligned to the best of some networks."""
        plan, shared = setup.plan, evaluator.supernet
        if self.alignment_steps < 1:
            return shared
        tried = [sandwich(setup.space, Random(f"{plan.seed}/parent/{i}"))[0] for i in range(PARENTS)]
        parent = min(tried, key=lambda spec: evaluator.score(spec, plan.steps, plan.seed).value)
        with setup.progress.bar("aligning candidates", self.alignment_steps) as bar:
            aligned = align(
                shared,
                parent,
                task,
                steps=self.alignment_steps,
                seed=plan.seed,
                batch=self.relaxation.batch,
                recipe=evaluator.recipe,
                folder=setup.folder / "aligned",
                on_step=lambda step, error: bar.update(step, f"error {error:.2f}"),
            )
        return aligned.supernet

    def _outcome(self, setup: Setup, supernet: Supernet, pulls: list[Pull], folder: Path) -> dict[str, Any]:
        """What the search for one target found, as plain values; kept in its folder."""
        evaluator, task = setup.shared_weights
        origin, seed = digest_of(supernet), setup.plan.seed
        search = DifferentiableSearch(
            supernet,
            task,
            self.relaxation,
            seed=seed,
            pulls=pulls,
            origin=origin,
            recipe=evaluator.recipe,
        )
        about = {
            "trajectory": search.trajectory.digest,
            "choose": self.choose,
            "plan": setup.plan.constraints,
        }
        known = _read(folder / "found.json", json.loads(json.dumps(about)))
        if known is not None:
            return known
        fit(search, folder=folder)
        targets = [pull.target for pull in pulls]
        how = cast(Literal["magnitude", "perturbation"], self.choose)
        choice, findings = choose(
            search, targets, how=how, space=allowed_space(setup), settle=_settler(setup, search)
        )
        outcome = {"about": about, **_plain(choice, targets, findings)}
        write_json(folder / "found.json", outcome)
        return json.loads(json.dumps(outcome))


def allowed_space(setup: Setup) -> Space:
    """The study's space, less what its constraints on predicted numbers forbid."""
    constraints = [Constraint.parse(text) for text in setup.plan.constraints]

    def keeps_constraints(spec: Any) -> bool:
        return first_violation(constraints, spec, setup.cost_model) is None

    added = [keeps_constraints] if constraints else []
    return Space(setup.space.root, constraints=[*setup.space.constraints, *added], name=setup.space.name)


def _settler(setup: Setup, search: DifferentiableSearch) -> Callable[[Genotype], Genotype]:
    """Decides what the mixture does not see: the best score, and among ties the smallest decode state."""
    (evaluator, _), plan = setup.shared_weights, setup.plan

    def score(spec: Decoder) -> Score:
        return evaluator.score(spec, plan.steps, plan.seed)

    def price(spec: Decoder) -> float:
        return float(spec.cost(plan.scenarios[0]).state_bytes)

    def settle(genotype: Genotype) -> Genotype:
        return decided_by_score(search.genes, genotype, search.mixture.unseen, score, price)

    return settle


def _plain(choice: Choice, targets: Sequence[Target], findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "genotype": dict(choice.genotype.genes),
        "digest": choice.genotype.digest,
        "targets": {target.name: target.value for target in targets},
        "costs": dict(choice.costs),
        "findings": [finding.to_plain() for finding in findings],
    }


def _meets_targets(point: Mapping[str, Any]) -> bool:
    """Whether the network that a search found costs what it was asked to cost."""
    costs: Mapping[str, float] = point["costs"]
    return all(abs(costs[name] / value - 1) <= NEAR for name, value in point["targets"].items())


def _read(path: Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """What a finished search wrote, if it was this one."""
    try:
        known: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return known if known.get("about") == about else None


def _gap(costs: Sequence[float], wish: float, number: int) -> float:
    return abs(costs[number] - wish)
