"""Progressive shrinking: a supernet's training in phases, each of which opens more of the space.

First only the largest networks are trained; then sizes inside the blocks vary; then depth; then width (Cai et
al. 2020, arXiv:1908.09791). A phase is itself a space, a part of the whole one: what may not vary yet is held
at its largest option. Between kinds of blocks no option is the largest, so no kind is held back: in every
phase each kind is dealt evenly at each place (`evaluators.supernet.sandwich`). A kind that came last would
meet neighbours that have settled without it, and the ranking of kinds would be one of their ages.

    sizes   numbers inside the layers: heads, channels, experts, bits, windows
    depth   how many layers
    width   d_model
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from evaluators.supernet.sandwich import is_size
from foundation.errors import SpaceError
from foundation.settings import Settings, setting
from search_spaces.language.choices import OneOf
from search_spaces.language.space import Space
from search_spaces.language.walk import children, with_children
from search_spaces.network.decoder import Decoder

SIZES, DEPTH, WIDTH = DIMENSIONS = ("sizes", "depth", "width")


@dataclass(frozen=True)
class Phase(Settings):
    """A part of a training: what `varies` in it, and its `share` of the steps.

    Raises:
        SettingError: something varies that is not known, or no positive share.
    """

    name: str = setting(help="What it is called.")
    varies: tuple[str, ...] = setting(help="What is open.", choices=DIMENSIONS)
    share: float = setting(help="Its part of all steps, relative to the other phases.", above=0, most=1e6)


WHOLE = (Phase("whole", DIMENSIONS, 1.0),)
"""Everything from the start: the plain sandwich rule."""

SHRINKING = (
    Phase("full", (), 0.05),
    Phase("sizes", (SIZES,), 0.05),
    Phase("depth", (SIZES, DEPTH), 0.05),
    Phase("width", DIMENSIONS, 0.85),
)
"""The whole space, as scores will ask for it, has the largest share: with 55 % small networks stay behind."""


def starts(phases: Sequence[Phase], steps: int) -> list[int]:
    """The step at which each phase begins, when there are `steps` in all; short ones may be empty."""
    shares = list(accumulate(phase.share for phase in phases))
    return [0, *(round(steps * share / shares[-1]) for share in shares[:-1])]


def phase_at(phases: Sequence[Phase], steps: int, step: int) -> int:
    """The number of the phase that the step after `step` steps belongs to."""
    return max(i for i, start in enumerate(starts(phases, steps)) if start <= step)


def narrowed(space: Space, varies: Collection[str]) -> Space:
    """The part of `space` in which only this varies, and the kinds of blocks; the rest is at its largest.

    Raises:
        SpaceError: the space forbids all that would be left.
    """
    held = set(DIMENSIONS) - set(varies)
    shared = {name for name, dimension in _uses(space.root, "") if dimension in held and name is not None}
    root = _narrowed(space.root, "", held, shared)
    if root == space.root:
        return space
    name = f"{space.name}, of which {' and '.join(sorted(varies)) or 'no size'} varies"
    return Space(root, constraints=space.constraints, name=name)


def _dimension(choice: OneOf, place: str) -> str | None:
    """What an open value is to the phases; None for kinds of blocks and all else without a largest."""
    if place == "layers":
        return DEPTH if choice.is_repeat else None
    if not is_size(choice.labels):
        return None
    return WIDTH if place == "d_model" else SIZES


def _parts(node: Any) -> list[tuple[str, Any]]:
    """The parts of a node that is no open value; fields of a decoder by their names."""
    named = isinstance(node, Decoder)
    return [(str(name) if named else "", part) for name, part in children(node)]


def _uses(node: Any, place: str) -> Iterator[tuple[str | None, str | None]]:
    """The name and the dimension of every open value."""
    if isinstance(node, OneOf):
        yield node.name, _dimension(node, place)
        for option in node.options:
            yield from _uses(option, "")
        return
    for inner, part in _parts(node):
        yield from _uses(part, inner)


def _narrowed(node: Any, place: str, held: set[str], shared: set[str]) -> Any:
    if isinstance(node, OneOf):
        if node.name in shared or (node.name is None and _dimension(node, place) in held):
            return _narrowed(_largest(node), "", held, shared)
        return OneOf(tuple(_narrowed(option, "", held, shared) for option in node.options), node.name)
    parts = [_narrowed(part, inner, held, shared) for inner, part in _parts(node)]
    return with_children(node, parts) if parts else node


def _largest(choice: OneOf) -> Any:
    numbers = [label for label in choice.labels if isinstance(label, (int, float))]
    if not numbers:
        raise SpaceError(f"no option of {choice.labels} is the largest")
    return choice.labelled(max(numbers))
