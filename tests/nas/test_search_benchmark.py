"""The problems of `benchmarks.search`: their fronts are those of what they say of networks."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest

from benchmarks.search.chains import chained, undominated
from benchmarks.search.hybrid import Hybrid
from benchmarks.search.layered import Layered
from search_spaces.language.space import Space

NETWORKS: dict[str, Any] = {
    "layered": Layered("a", strength=0.5, pairs=0.7, trap=0.4, depths=(3,)),
    "scattered": Layered("b", strength=0.5, pairs=0.7, depths=(3,), scattered=True),
    "hybrid": Hybrid("c", depths=(2, 3)),
}


def drawn(space: Space, dice: Random) -> Any:
    return space.draw(lambda path, labels: dice.choice(labels))[1]


def test_the_front_of_a_chain_is_that_of_all_chains() -> None:
    chance = np.random.default_rng(0)
    tables = chance.uniform(0, 1, (3, 2, 4, 2))
    suits = chance.uniform(-0.5, 0.5, (2, 2))

    def step(layer: int, state: Any, kind: Any) -> tuple[Any, tuple[float, float]]:
        return kind, (0.0, 0.0 if state is None else suits[state, kind])

    def all_chains() -> Iterator[tuple[float, ...]]:
        for kinds in np.ndindex(2, 2, 2):
            for options in np.ndindex(4, 4, 4):
                value = sum(tables[i, kinds[i], options[i]] for i in range(3))
                yield value[0], value[1] + suits[kinds[0], kinds[1]] + suits[kinds[1], kinds[2]]

    found = chained((2, 3), lambda layer: {0: tables[layer, 0], 1: tables[layer, 1]}, step)
    expected = undominated(np.array(list(all_chains())))
    np.testing.assert_allclose(np.sort(found[3], axis=0), np.sort(expected, axis=0))
    assert set(found) == {2, 3}


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_add_up_to_the_values_of_networks(name: str) -> None:
    networks, dice = NETWORKS[name], Random(0)
    for _ in range(50):
        spec = drawn(Space(networks.root), dice)
        order = getattr(networks, "order", list(range(len(spec.layers))))
        chosen = [networks.index[spec.layers[i]] for i in order[: len(spec.layers)]]
        state, total = None, np.zeros(2)
        for layer, option in enumerate(chosen):
            kind = (
                (networks.family[option], networks.reach[option])
                if name == "hybrid"
                else networks.mixer_of[option]
            )
            state, added = networks._step(layer, state, kind)
            total += (networks.cost[option] + added[0], networks.loss[layer, option] + added[1])
        np.testing.assert_allclose(networks._outer(spec.width, total[None])[0], networks(spec))


@pytest.mark.parametrize("name", ["layered", "hybrid"])
def test_no_network_is_better_than_the_front(name: str) -> None:
    networks, dice = NETWORKS[name], Random(1)
    front = networks.front()
    for _ in range(200):
        values = np.array(networks(drawn(Space(networks.root), dice)))
        assert (front <= values + 1e-9).all(axis=1).any()
