"""Differentiable search: gradient steps on a mixture of all architectures, one run per target on a cost.

Liu et al. 2019, arXiv:1806.09055 (`variant=first`, `second`); Dong & Yang 2019, arXiv:1910.04465 (`gdas`);
and `modern`: every kind of block first learns to do what the block of one good network does at its place
(`evaluators.blockwise.alignment`), then only the logits move, in minutes. The cost that is swept is the first
objective of the study that is computed before training (say `decode_ms`); each of `points` targets, costs of
random architectures from cheap to expensive, gives one architecture, which lies within 5 % of its target by
the latency table itself.

What the mixture does not see (bits of the decode state) is decided at the end by reading subnets. A search
that collapses stops and returns to its last good state, and every finding is on the study's record under
"darts".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from random import Random
from typing import Any

from evaluators.blockwise.alignment import align
from evaluators.differentiable.lagrangian import Pull
from evaluators.differentiable.settings import VARIANTS, SearchSettings
from evaluators.supernet.evaluator import FromSupernet
from evaluators.supernet.sandwich import sandwich
from evaluators.tasks.base import Task
from foundation.errors import SettingError
from foundation.settings import MANY, setting
from nas.engines.base import Engine, FoundThenRandom, Prepared, Setup, engines
from nas.engines.darts.point import TARGET_TOLERANCE, Point, meets_targets
from nas.engines.darts.targets import sweep_of, swept_objective
from nas.study.plan import Plan
from nas.study.plan_objectives import asked_objectives
from nas.study.study import Study
from nas.study.trial import Trial
from nas.validation.claims import Claims
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.mixture.relaxable import check_space
from search_spaces.supernet import Supernet

DISCRETIZATIONS = ("magnitude", "perturbation")
"""How an architecture is read off the logits."""

PARENTS = 6
"""Large networks of which the best is what the others are aligned to."""


@engines.add
@dataclass(frozen=True, kw_only=True)
class Darts(Engine):
    """Gradient steps on the logits of all choices, one run for each target."""

    name = "darts"

    variant: str = setting("modern", help="How the logits learn.", choices=VARIANTS)
    steps: int = setting(100, help="Steps of the logits.", least=1, most=MANY)
    warm_up: int = setting(
        0, help="Steps at the beginning in which only the weights learn.", least=0, most=MANY
    )
    batch: int = setting(4, help="Windows that are read in a step.", least=1, most=10**6)
    rate: float = setting(0.05, help="Learning rate of the logits.", above=0, most=1e6)
    points: int = setting(4, help="Targets, from cheap to expensive.", least=1, most=10**4)
    targets: tuple[float, ...] = setting(
        (), help="Targets on the cost, instead of `points`.", above=0, most=1e18
    )
    cost: str = setting(
        "", help="The objective that is swept.", shown="the first that is computed before training"
    )
    choose: str = setting(
        "perturbation", help="How an architecture is read off the logits.", choices=DISCRETIZATIONS
    )
    align: int = setting(
        60,
        help="Steps that the candidates of `modern` are aligned before; 0: as the supernet left them.",
        least=0,
        most=MANY,
    )
    guard: bool = setting(True, help="Stop a search that collapses, and go back.")

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.relaxation  # refuses steps and warm-up that do not fit together

    def require_read(self, given: Collection[str]) -> None:
        """Targets that are named are not counted, and only `modern` aligns."""
        if self.targets and "points" in given:
            raise SettingError("engine darts: targets are named, so points counts for nothing: leave one out")
        if self.align and "align" in given and not self.alignment_steps:
            raise SettingError(
                f"engine darts: variant={self.variant} aligns nothing, so align counts for nothing: leave it"
                " out, or set variant=modern"
            )

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

    @property
    def gradient_steps(self) -> int:
        """Of the weights' half of the data and of the logits', for every target, and of alignment."""
        return 2 * self.steps * (len(self.targets) or self.points) + self.alignment_steps

    @property
    def sequences(self) -> int:
        """The windows of a step."""
        return self.batch

    def check(self, space: Space, plan: Plan) -> None:
        """Raise for a space that cannot be relaxed, and for a cost that cannot be swept."""
        check_space(space)
        swept = swept_objective(self.cost, plan)
        if swept is None and self.targets:
            raise SettingError("engine darts: targets need an objective that is computed before training")
        if swept is not None and swept.needs_table and swept not in asked_objectives(plan):
            raise SettingError(f"engine darts: cost={swept.name} must be one of the study's objectives")

    def prepare(self, setup: Setup) -> Prepared:
        """One search per target, each taken up where it stopped."""
        evaluator, task = setup.shared_weights
        swept = swept_objective(self.cost, setup.plan)
        sweep = None if swept is None else sweep_of(setup, swept, self.targets, self.points)
        supernet = self._supernet(setup, evaluator, task)
        results = list[dict[str, Any]]()
        pulls: list[list[Pull]] = [[]] if sweep is None else [[pull] for pull in sweep]
        with setup.progress.bar(f"relaxing ({self.relaxation.variant})", len(pulls)) as bar:
            for number, towards in enumerate(pulls):
                point = Point(setup, supernet, self.relaxation, towards, self.choose)
                results.append(point.result(setup.folder / f"point-{number}"))
                bar.update(number + 1)
        for finding in (finding for result in results for finding in result["findings"]):
            setup.progress.say(f"darts: {finding['text']}")
        setup.note("darts", {"settings": asdict(self.relaxation), "points": results})
        networks = [Genotype(result["genotype"]) for result in results]
        return Prepared(FoundThenRandom(setup, networks, engine=self.name))

    @classmethod
    def claims(cls, study: Study, truths: Sequence[Trial] = ()) -> Claims | None:
        """How many targets were met, and the findings; it ranks no networks."""
        points = study.facts.get(cls.name, {}).get("points", [])
        met = [meets_targets(point) for point in points if point.get("targets")]
        remarks = (
            [f"{sum(met)} of {len(met)} targets met within {100 * TARGET_TOLERANCE:.0f} %"] if met else []
        )
        remarks += dict.fromkeys(finding["text"] for point in points for finding in point["findings"])
        by = "gradients, one network for each target, and ranks no others"
        return Claims(engine=cls.name, by=by, remarks=tuple(remarks)) if points else None

    @classmethod
    def effort(cls, study: Study) -> dict[str, int]:
        """How many searches were run."""
        points = study.facts.get(cls.name, {}).get("points", [])
        return {"searches run": len(points)} if points else {}

    def _supernet(self, setup: Setup, evaluator: FromSupernet, task: Task) -> Supernet:
        """The candidates: as the study's supernet learned them, or aligned to the best of some networks."""
        plan, shared = setup.plan, evaluator.supernet
        if self.alignment_steps < 1:
            return shared
        candidates = [sandwich(setup.space, Random(f"{plan.seed}/parent/{i}"))[0] for i in range(PARENTS)]
        parent = min(candidates, key=lambda spec: evaluator.score(spec, plan.train_steps, plan.seed).value)
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
