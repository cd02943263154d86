"""Once-for-all: a strategy asks, and any subnet of the trained supernet answers at once.

Cai et al. 2020, arXiv:1908.09791. The strategy is the plan's (`--strategy`), with its settings. With the
evaluator "scratch" each candidate is trained by itself instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from nas.engines.base import Engine, Prepared, Setup, engines
from nas.strategies.base import Strategy, make_strategy
from nas.study.plan import Plan
from search_spaces.language.space import Space


@engines.add
class OnceForAll(Engine):
    """A search by trials."""

    name = "ofa"
    needs_supernet = False  # it may, and by default does
    asks_strategy = True

    def check(self, space: Space, plan: Plan) -> None:
        """Raise where the strategy does not take the settings."""
        _strategy(space, [(name, False) for name in plan.objectives], plan)

    def prepare(self, setup: Setup) -> Prepared:
        """The strategy of the plan."""
        return Prepared(_strategy(setup.space, setup.goals, setup.plan))


def _strategy(space: Space, goals: Sequence[tuple[str, bool]], plan: Plan) -> Strategy:
    return make_strategy(plan.strategy, space, goals, seed=plan.seed, settings=plan.settings)
