"""Commands that pages show can be pasted into a shell."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.facts import Facts, StudyFacts
from dashboards.shell_commands import export, store_option, target
from nas.study.study import DEFAULT_STORE


@pytest.fixture
def study(all_facts: dict[str, Facts]) -> StudyFacts:
    return all_facts["full"].study


def test_the_default_store_is_not_named(study: StudyFacts) -> None:
    default = replace(study, store=str(DEFAULT_STORE))
    assert target(default) == "full"
    assert store_option(default) == []
    assert export(default, "ab12") == "nas export full ab12 -o full-ab12"


@given(name=st.text("ab '\"$;&|", min_size=1), store=st.text("/ab '\"$;&|", min_size=1))
def test_any_name_and_store_are_one_word_each(name: str, store: str) -> None:
    study = StudyFacts(
        name=name,
        store=store,
        created=0.0,
        space_name="s",
        space_digest="d",
        space_size=1,
        objectives=(),
        constraints=(),
        engine="ofa",
        evaluator="supernet",
        steps=1,
        length=1,
        seed=0,
        scenarios={"": "cpu"},
        planned=1,
        counts={},
        repeated=0,
        distinct=0,
        seconds=0.0,
    )
    words = shlex.split(f"nas show {target(study, 'ab12')}")
    assert words == ["nas", "show", name, "ab12", "--store", store]
    assert shlex.split(export(study, "ab12"))[-2:] == ["--store", store]
