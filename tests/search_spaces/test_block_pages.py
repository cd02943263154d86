"""The page about all blocks can be made, and has a row and a section for each."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest

from search_spaces.block_pages import blocks_page
from search_spaces.blocks.base import Block, blocks
from search_spaces.language.choices import field_names
from search_spaces.references import reference_of

PAGE = blocks_page()
KINDS = pytest.mark.parametrize("kind", blocks.values(), ids=list(blocks))


def sections() -> Iterator[tuple[str, str]]:
    for text in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        name, _, body = text.partition("\n")
        yield name, body


@KINDS
def test_a_block_has_one_row_and_one_section(kind: type[Block]) -> None:
    name = kind.__name__
    assert PAGE.count(f"| [{name}](#{name.lower()}) | {kind.mixes} |") == 1
    assert [heading for heading, _ in sections()].count(name) == 1


@KINDS
def test_a_section_states_equation_fields_cost_state_and_reference(kind: type[Block]) -> None:
    body = dict(sections())[kind.__name__]
    equation, *_ = (sys.modules[kind.__module__].__doc__ or "").splitlines()
    assert equation in body
    assert all(f"{name}=" in body for name in field_names(kind))
    for label in ("Fields and defaults: ", "Cost: ", "State: ", "Computed by: "):
        assert f"\n{label}" in body
    reference = reference_of(kind)
    assert ("Checked against: " in body) == (reference is not None)


def test_sequence_mixers_come_first() -> None:
    order = [heading for heading, _ in sections()]
    mixes = [blocks[name].mixes for name in order]
    assert mixes == sorted(mixes, reverse=True)
    assert set(order) == set(blocks)
