"""Parts added up to networks, many networks at once.

A part that stands in a network several times is off by the same each time: its errors add up, while those of
different parts go different ways. A layer with a router or an exit is reckoned from timed parts, but how many
tokens take them was never timed.

A layer becomes a number when it first comes, and so does what stands around the layers: ten thousand networks
of a search are made of far fewer. Shapes: N networks, M amounts (one for each part of each layer of each
network), P parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from foundation.errors import ProfileError
from hw_profiles.latency.parts import Part, Real, around, at_position, shares
from search_spaces.network.decoder import Decoder, Layer

Array: TypeAlias = NDArray[np.float64]
Lookup: TypeAlias = Callable[[Sequence[Part]], Mapping[str, Sequence[tuple[float, float]]]]
"""By reading, milliseconds of parts and their standard deviations."""

Amounts: TypeAlias = "tuple[tuple[int, float, bool], ...]"
"""Numbers of parts, how much of each, and whether that was never timed."""

UNTIMED_ERROR = 0.3
"""How far, relatively, a layer with a router or an exit is taken to be off: its parts were timed, but how
many tokens take them is the router's nominal share, and whole networks that are timed have neither."""


class NetworkSums:
    """Sums over the parts of networks, for one table.

    `look_up` is asked once for each part.
    """

    def __init__(self, real: Real, context: int, look_up: Lookup) -> None:
        self._real, self._context, self._look_up = real, context, look_up
        self._numbers: dict[Part, int] = {}
        # by identity: `half` gives the same part again, and hashing is slow; kept, as identities are reused
        self._seen: dict[int, tuple[int, Part]] = {}
        self._layers: dict[tuple[Layer, int, int | None], int] = {}
        self._outer: dict[tuple[Any, ...], int] = {}
        self._amounts: list[Amounts] = []
        self._known: dict[str, Array] = {}

    def of(self, specs: Sequence[Decoder], position: int | None = None) -> dict[str, tuple[Array, Array]]:
        """By reading, milliseconds [N] and their standard deviations [N]; decoding at `position` if given.

        Raises:
            ProfileError: a part is of a kind, or beyond the sizes, that were measured.
        """
        rows = [self._made_of(spec, position) for spec in specs]
        self._learn()
        numbers = np.array([number for row in rows for number in row], dtype=np.intp)
        distinct, layer = np.unique(numbers, return_inverse=True)
        own = [self._amounts[number] for number in distinct.tolist()]
        sizes = np.array([len(amounts) for amounts in own], dtype=np.intp)
        counts = sizes[layer]
        # the amounts of a layer lie side by side: its first one, and how far behind that
        behind = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        amount = np.repeat((np.cumsum(sizes) - sizes)[layer], counts) + behind
        network = np.repeat(np.repeat(np.arange(len(rows)), [len(row) for row in rows]), counts)
        table = np.array([each for amounts in own for each in amounts], dtype=float).reshape(-1, 3)[amount]
        part, much = table[:, 0].astype(np.intp), table[:, 1]
        untimed = much * table[:, 2]
        return {
            reading: self._added(known, network, part, much, untimed)
            for reading, known in self._known.items()
        }

    def _added(
        self, known: Array, network: NDArray[np.intp], part: NDArray[np.intp], much: Array, untimed: Array
    ) -> tuple[Array, Array]:
        """Milliseconds and standard deviations of all networks, from those of parts [P, 2]."""
        count, size = int(network[-1]) + 1 if len(network) else 0, max(1, len(known))
        ms, error = known[:, 0], known[:, 1]
        total = np.bincount(network, much * ms[part], minlength=count).astype(float)
        pairs, place = np.unique(network * size + part, return_inverse=True)
        alike = np.bincount(place, much, minlength=len(pairs)) * error[pairs % size]
        variance = np.bincount(pairs // size, alike**2, minlength=count)
        reckoned = UNTIMED_ERROR * np.bincount(network, untimed * ms[part], minlength=count)
        return total, np.sqrt(variance + reckoned**2)

    def _made_of(self, spec: Decoder, position: int | None) -> list[int]:
        """The numbers of what a network is made of, in the order of its layers."""
        shell = spec.around
        outer = self._outer.get(shell)
        if outer is None:
            outer = self._outer[shell] = self._new([(self._number(around(spec, self._real)), 1.0, False)])
        row = [outer]
        for layer in spec.layers:
            key = (layer, outer, position)  # the shell by its number: hashing one for each layer is slow
            found = self._layers.get(key)
            if found is None:
                found = self._layers[key] = self._new(self._of_layer(layer, spec, position))
            row.append(found)
        return row

    def _new(self, amounts: Sequence[tuple[int, float, bool]]) -> int:
        """The number of a layer, or of what stands around the layers, that was not known."""
        self._amounts.append(tuple(amounts))
        return len(self._amounts) - 1

    def _of_layer(self, layer: Layer, spec: Decoder, position: int | None) -> list[tuple[int, float, bool]]:
        untimed = bool(layer.not_static)
        found = []
        for part, much in shares(layer, spec, self._real):
            moved = position is not None and part.grows(self._context)
            there = at_position(part, position) if moved and position is not None else part
            found.append((self._number(there), much, untimed))
        return found

    def _number(self, part: Part) -> int:
        known = self._seen.get(id(part))
        if known is None:
            number = self._numbers.setdefault(part, len(self._numbers))
            known = self._seen[id(part)] = number, part
        return known[0]

    def _learn(self) -> None:
        """Look up the parts that are new."""
        first = len(next(iter(self._known.values()), ()))
        new = list(self._numbers)[first:]
        if not new:
            return
        try:
            found = self._look_up(new)
        except ProfileError:  # what cannot be looked up must not stand in the way of other networks
            for kept in (self._numbers, self._seen, self._layers, self._outer, self._amounts, self._known):
                kept.clear()
            raise
        for reading, pairs in found.items():
            known = self._known.get(reading, np.empty((0, 2)))
            self._known[reading] = np.concatenate((known, np.array(pairs, dtype=float)))
