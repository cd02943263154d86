"""From a space to tables: slots, what may stand there, and what it adds to the score and to every cost.

Slots are the network around the layers (its width, its vocabulary) and the two sublayers of each layer.
Options of one slot differ in block, width and bits; `nas.engines.exact.contents` lists them.

A cost is a function of whole networks (an objective); what each part adds to it, and how far such sums are
from it, is `search_spaces.network.additive_cost`'s to say. Latency tables, bytes and counted numbers add up;
a peak of memory does not, and is only checked, network by network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from random import Random

from evaluators.blockwise.additive_part import does_not_add_up
from evaluators.blockwise.replacement_scores import LayerRemoved, Moved, Replacement, Width, canonical
from foundation.errors import SpaceError
from nas.engines.exact.contents import Content, Contents, NothingBeside, slots_of
from nas.engines.exact.integer_program import ChoiceProblem
from nas.engines.exact.slots import Option, Picks, Slot, Solution
from search_spaces.blocks.base import Block
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.network import additive_cost
from search_spaces.network.additive_cost import Difference, Total, added_by, prices
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.network.sublayers import Sublayer, sublayers_of


@dataclass(frozen=True)
class ScoredSpace:
    """The choice over a space: `problem` has numbers only, the rest is what they stand for."""

    space: Space
    parent: Decoder
    scores: Mapping[Replacement, Moved]
    problem: ChoiceProblem

    def spec(self, chosen: Solution | Picks) -> Decoder:
        """The network that was chosen, unchecked."""
        picks = chosen.picks if isinstance(chosen, Solution) else chosen
        outer, *inner = (p.options[i].name for p, i in zip(self.problem.slots, picks, strict=True))
        assert isinstance(outer, Width)
        pairs = zip(inner[::2], inner[1::2], strict=True)
        layers = [_layer(first, second) for first, second in pairs if isinstance(first, Sublayer)]
        return replace(self.parent, d_model=outer.d_model, layers=tuple(layers))

    def genotype(self, chosen: Solution | Picks) -> Genotype:
        """Its answers.

        Raises:
            IllegalArchitecture: it violates a constraint of the space.
        """
        return self.space.genotype_of(self.spec(chosen))

    def contents(self, spec: Decoder) -> list[Content]:
        """What stands in each slot of a network of the space."""
        d_model, removed = spec.d_model, range(len(spec.layers), len(self.parent.layers))
        nothing = [c for i in removed for c in (LayerRemoved(i, d_model), NothingBeside(d_model))]
        return [Width(d_model), *sublayers_of(spec), *nothing]

    def predicted(self, spec: Decoder) -> float:
        """The sum of the scores over a network: what its divergence from the parent should be, in nats.

        Raises:
            SpaceError: it has a part that was not scored.
        """
        parts = [canonical(part) for part in self.contents(spec) if not isinstance(part, NothingBeside)]
        missing = [part for part in parts if part not in self.scores]
        if missing:
            raise SpaceError(f"a part of this network was not scored: {missing[0]}")
        return math.fsum(self.scores[part].kl for part in parts)

    def added(self, spec: Decoder, cost: str) -> float | None:
        """The sum of what the parts of a network add to a cost; None where some part is not an option."""
        contents = self.contents(spec)
        if does_not_add_up(spec) or not all(c in slot for c, slot in zip(contents, self._slots, strict=True)):
            return None
        return math.fsum(slot[c].costs[cost] for c, slot in zip(contents, self._slots, strict=True))

    @cached_property
    def _slots(self) -> list[dict[Hashable, Option]]:
        return [{option.name: option for option in place.options} for place in self.problem.slots]


def _layer(sequence: Sublayer, channels: object) -> Layer:
    assert isinstance(channels, Sublayer)
    assert sequence.block is not None
    return Layer(
        sequence_mixer=sequence.block,
        channel_mixer=channels.block,
        bits=sequence.bits,
        channel_bits=None if channels.block is None else channels.bits,
        reads_embedding=sequence.reads_embedding,
    )


def scored_space(
    space: Space,
    parent: Decoder,
    scores: Mapping[Replacement, Moved],
    totals: Mapping[str, Total],
    *,
    allows: Callable[[Decoder], bool] = lambda spec: True,
) -> ScoredSpace:
    """The choice over a space by these scores and costs.

    Layers that share weights, have a router or an exit are left out: their effects do not add up. What the
    space or `allows` objects to is never chosen.

    Raises:
        SpaceError: the parent is not as deep as the space, or nothing is left in some slot.
    """
    slots = slots_of(space, parent)
    places = []
    for name, contents in slots.items():
        scored = [content for content in contents if _score(content, scores) is not None]
        differences = _differences(scored, slots, name, parent)
        added = {cost: prices(total, differences.values()) for cost, total in totals.items()}
        options = []
        for content in scored:
            difference = differences.get(content)
            costs = {c: 0.0 if difference is None else amounts[difference] for c, amounts in added.items()}
            score = _score(content, scores) or 0.0
            options += [Option(content, score, costs, condition) for condition in contents[content]]
        if not options:
            raise SpaceError(f"nothing that may stand at {name} was scored")
        places.append(Slot(name, tuple(options)))

    def fits(picks: Picks) -> bool:
        spec = made.spec(picks)
        return space.objection(spec) is None and allows(spec)

    made = ScoredSpace(space, parent, scores, ChoiceProblem(places, allows=fits))
    return made


def deviation(scored: ScoredSpace, totals: Mapping[str, Total], *, seed: int = 0) -> dict[str, float]:
    """By cost, the largest relative error of the sum of its parts on random networks."""

    def added(cost: str, genotype: Genotype, spec: Decoder) -> float | None:
        return scored.added(spec, cost)

    return {
        name: additive_cost.deviation(scored.space, total, partial(added, name), seed=seed)
        for name, total in totals.items()
    }


def random_networks(scored: ScoredSpace, count: int, *, seed: int) -> list[Decoder]:
    """Random networks of the space of which every part was scored, each once."""
    dice, networks = Random(f"{seed}/networks"), dict[Decoder, None]()
    for _ in range(50 * count):
        spec = scored.space.close(scored.space.sample(dice))
        if does_not_add_up(spec) is None:
            try:
                scored.predicted(spec)
            except SpaceError:
                continue
            networks[spec] = None
        if len(networks) == count:
            break
    return list(networks)


def _score(content: Content, scores: Mapping[Replacement, Moved]) -> float | None:
    """The score of what stands in a slot; None where it was not scored."""
    if isinstance(content, NothingBeside):
        return 0.0
    moved = scores.get(canonical(content))
    return None if moved is None else moved.kl


def _differences(
    contents: Sequence[Content], slots: Mapping[str, Contents], slot: str, parent: Decoder
) -> dict[Content, Difference]:
    """What adds to costs of what may stand in a slot; whatever is nothing adds nothing."""
    differences: dict[Content, Difference] = {}
    for content in contents:
        empty = replace(parent, d_model=content.d_model, layers=())
        if isinstance(content, Width):
            differences[content] = Difference(empty)
        elif isinstance(content, Sublayer) and content.block is not None:
            beside = _sequence_mixer(slots[slot.replace(PLACES[1], PLACES[0])], content.d_model)
            if beside is not None:
                differences[content] = added_by(content, empty, beside=beside)
    return differences


def _sequence_mixer(contents: Contents, d_model: int) -> Block | None:
    """Any sequence mixer that may stand in a slot at a width."""
    blocks = (c.block for c in contents if isinstance(c, Sublayer) and c.d_model == d_model)
    return next(blocks, None)
