"""Which blocks of a space a runtime cannot run: it converts models, and not everything can be expressed.

Of each kind one part is prepared, as it is when it is timed. What the runtime refuses makes the whole kind
illegal in the scenario, with the reason; conversions of the others are kept, and used when they are timed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from foundation.errors import ProfileError
from hw_profiles.latency.parts import Part, part_calls
from hw_profiles.runtimes.base import runtime_of
from search_spaces.scenario import Scenario


def legal_parts(
    parts: Sequence[Part],
    scenario: Scenario,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    *,
    seed: int = 0,
) -> tuple[tuple[Part, ...], dict[str, str]]:
    """The parts that the scenario's runtime runs, and by name the kinds of all others, with its reason.

    `progress` hears which kind is tried, and how many of how many were.
    """
    if not runtime_of(scenario).converts:
        return tuple(parts), {}
    illegal: dict[str, str] = {}
    examples = {part.kind: part for part in parts if part.block is not None}
    for tried, (kind, part) in enumerate(sorted(examples.items())):
        progress(f"trying {kind} in {scenario.engine}", tried, len(examples))
        try:
            with torch.no_grad():
                part_calls(part, scenario, seed=seed)
        except ProfileError as error:
            illegal[kind] = str(error)
    return tuple(part for part in parts if part.kind not in illegal), illegal
