"""What the controls of a front's page ask for, as facts: for its figure, and for the file that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dashboards.app.controls import bounds_of
from dashboards.app.front_view import view_of
from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.recent import Recent
from dashboards.facts.baselines import baseline_facts
from dashboards.facts.explore import ExploreFacts, explore
from dashboards.facts.reading import Reading
from dashboards.facts.replay import members_after
from dashboards.facts.rescoring import Rescored, rescored
from nas.study.trial import Trial

MOST_PRICED = 8
"""Studies by another table that are kept."""

MOST_CHOSEN = 200
"""Points of a lasso that are listed."""


class Explored:
    """The fronts of a store's studies as readers ask for them."""

    def __init__(self, live: LiveStore) -> None:
        self.live = live
        self._kept: Recent[Rescored | None] = Recent(MOST_PRICED)

    def facts(
        self,
        reading: Reading,
        *,
        axes: Sequence[Any],
        bounds: Sequence[Any],
        kept: Any,
        log: Any,
        over: Any,
        table: Any,
        pick: Any,
        after: int | None,
    ) -> tuple[ExploreFacts, Rescored | None]:
        """What is seen, and the networks by another table, where one is asked for."""
        view = replace(view_of(reading, axes, log, bounds_of(kept, bounds), pick), after=after)
        priced = self._priced(reading, table) if table else None
        facts = explore(
            reading,
            view,
            priced=priced,
            baselines=reading.kept("baselines", lambda: baseline_facts(reading.study, reading.measured)),
            overlays=self.overlays(over, reading),
        )
        return facts, priced

    def overlays(self, over: Any, reading: Reading) -> list[Reading]:
        """The other studies that are laid over it."""
        names = [name for name in over if isinstance(name, str)] if isinstance(over, list) else []
        known = [name for name in dict.fromkeys(names) if name in self.live.names()]
        return [self.live.study(name) for name in known if name != reading.study.name]

    def _priced(self, reading: Reading, table: Any) -> Rescored | None:
        """The networks by another table, kept: pricing two thousand of them takes a second."""
        key = (key_of(reading.study.record), reading.revision, str(table))
        return self._kept.get(key, lambda: rescored(reading, str(table)))


def chosen_numbers(chosen: Any) -> list[int]:
    """The trials of a lasso, as an address holds them: 3.17.20."""
    words = chosen.split(".", MOST_CHOSEN)[:MOST_CHOSEN] if isinstance(chosen, str) else []
    return [int(word) for word in words if word.isascii() and word.isdecimal() and len(word) < 19]


def listed_networks(reading: Reading, chosen: Any, after: int | None) -> tuple[list[Trial], str]:
    """The networks of a lasso, else those of the front, and what they are."""
    if trials := list(reading.whole(chosen_numbers(chosen)).values()):
        return trials, "Those inside the lasso."
    if after is not None:
        trials = list(reading.whole(members_after(reading, after)).values())
        return trials, f"The front after trial {after:,}, with the numbers that are known now."
    return list(reading.members), "The front in all objectives. Drag a lasso to list others."
