"""The contract of ready-made spaces: each is searchable, stored as JSON, and in a file of its own name."""

from __future__ import annotations

import inspect
from random import Random

import pytest

from search_spaces.language.serialization import from_json, to_json
from search_spaces.language.space import Space
from search_spaces.scenario import Scenario
from search_spaces.spaces import spaces

EVERY_SPACE = pytest.mark.parametrize("name", list(spaces))


@EVERY_SPACE
def test_a_space_has_its_files_name_and_a_description(name: str) -> None:
    make = spaces[name]
    assert make.__module__ == f"search_spaces.spaces.{name}"
    assert make().name == name
    assert inspect.getdoc(make)


@EVERY_SPACE
def test_a_space_holds_many_architectures_and_counts_them(name: str) -> None:
    space = spaces[name]()
    assert space.size() > 1000
    assert f"{space.digest}" in str(space)


@EVERY_SPACE
def test_json_keeps_the_digest(name: str) -> None:
    space = spaces[name]()
    again = Space(from_json(to_json(space.root)), name=space.name)
    assert again.digest == space.digest
    assert spaces[name]().digest == space.digest


@EVERY_SPACE
@pytest.mark.parametrize("seed", range(5))
def test_random_architectures_are_legal_and_have_a_cost(name: str, seed: int) -> None:
    space = spaces[name]()
    genotype = space.sample(Random(seed))
    spec = space.close(genotype)
    assert space.contains(spec)
    assert spec.cost(Scenario()).params > 0
