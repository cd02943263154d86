"""What each section of a report says when a study lacks its data."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from dashboards.facts import CorpusFacts, Facts, FinalistFacts, TableFacts, ValidationFacts
from dashboards.facts.records import read_validation
from dashboards.report.corpus_section import corpus_section
from dashboards.report.finalist_section import finalist_section
from dashboards.report.front_section import front_section, headline
from dashboards.report.html import Html
from dashboards.report.latency_section import latency_section
from dashboards.report.sources_section import sources_section
from dashboards.report.study import report_html
from dashboards.report.validation_section import validation_section
from tests.dashboards.conftest import NAMES
from tests.dashboards.test_report import Reader

Section: TypeAlias = Callable[[Facts], "Html | None"]
SECTIONS: dict[str, Section] = {
    "headline": headline,
    "front": front_section,
    "finalists": finalist_section,
    "validation": validation_section,
    "corpus": corpus_section,
    "latency": latency_section,
    "sources": sources_section,
}
SAYS: dict[str, str | None] = {
    "headline": "empty: nothing scored yet",
    "front": None,
    "finalists": "No finalist was trained yet; nas resume empty",
    "validation": "The proxy was not validated on random networks; nas validate empty",
    "corpus": None,
    "latency": None,
    "sources": None,
}
"""For a study without trials: the beginning of a sentence, or None where the section is left out."""

MISSING = re.compile(r"\b(None|nan|NaN|inf)\b")


def text_of(section: Html | None) -> str:
    return Reader(section or "").text


@pytest.fixture
def empty(all_facts: dict[str, Facts]) -> Facts:
    return all_facts["empty"]


@pytest.fixture
def full(all_facts: dict[str, Facts]) -> Facts:
    return all_facts["full"]


def test_every_section_is_listed_here() -> None:
    assert set(SAYS) == set(SECTIONS)


@pytest.mark.parametrize("name", list(SECTIONS))
def test_a_section_without_data_is_left_out_or_names_the_next_command(name: str, empty: Facts) -> None:
    section, expected = SECTIONS[name](empty), SAYS[name]
    if expected is None:
        assert section is None
    else:
        assert expected in text_of(section)


@pytest.mark.parametrize("name", list(SECTIONS))
@pytest.mark.parametrize("study", NAMES)
def test_no_section_shows_a_missing_number(name: str, study: str, all_facts: dict[str, Facts]) -> None:
    assert not MISSING.search(text_of(SECTIONS[name](all_facts[study])))


@pytest.mark.parametrize("study", NAMES)
def test_headings_are_never_empty_and_never_repeated(study: str, all_facts: dict[str, Facts]) -> None:
    page = report_html(all_facts[study])
    headings = re.findall(r"<h([123])>(.*?)</h\1>", page)
    titles = [title for _, title in headings]
    assert all(titles)
    assert len(titles) == len(set(titles))
    assert [level for level, _ in headings].count("1") == 1


OPTIONAL: dict[str, Any] = {
    **dict.fromkeys(("hypervolume", "finals", "supernet", "corpus", "validation", "composition")),
    "tables": (),
}


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_report_lacks_one_record_and_keeps_the_rest(name: str, full: Facts) -> None:
    text = Reader(report_html(replace(full, **{name: None}))).text  # type: ignore[arg-type]
    assert "The front" in text
    assert "Next commands" in text
    assert not MISSING.search(text)


def test_a_report_with_no_record_at_all_still_shows_the_front(full: Facts) -> None:
    text = Reader(report_html(replace(full, **OPTIONAL))).text
    assert "Members of the front" in text
    assert "The search" not in text
    assert "nas resume full" in text


def test_finalists_that_scored_nothing_are_listed_with_their_outcome(full: Facts) -> None:
    assert full.finals is not None
    lost = tuple(
        replace(finalist, rungs={}, best=False, tied=False, outcome="failed: a worker was lost")
        for finalist in full.finals.finalists[:2]
    )
    text = text_of(finalist_section(replace(full, finals=FinalistFacts(lost, (100,)))))
    assert "2 finalists were trained from scratch to 100 steps" in text
    assert text.count("failed: a worker was lost") == 2
    assert "best" not in text.split("outcome")[0].split("failed")[-1]


def test_a_table_without_held_out_networks_says_that_its_error_is_unknown(full: Facts) -> None:
    plain = replace(full, tables=(TableFacts((), 3.0, "a machine"),))
    assert "Machine: a machine." in text_of(latency_section(plain))
    assert "plot" not in str(latency_section(plain))


def test_a_corpus_without_scores_has_no_verdict(empty: Facts) -> None:
    corpus = CorpusFacts("novels", "ab12", 1_000_000, 20_000, {"xz": 1.9})
    text = text_of(corpus_section(replace(empty, corpus=corpus)))
    assert "novels: 1.00 MB for training, 20.0 kB for validation." in text
    assert "At this training budget" not in text


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ({"pairs": []}, ""),
        ({"tau": 0.0, "pairs": [[1.0, 2.0, "ab"]]}, "the proxy orders about 50 correctly"),
        ({"tau": -1.0, "pairs": [[1.0, 2.0, "ab"]]}, "the proxy orders about 0 correctly"),
        ({"claims": {"engine": "exact", "by": "sums"}}, "The engine exact chose by sums."),
        ({"gain": {"ratio": 1.5, "candidates": 3, "against": 3}}, "not significantly different"),
    ],
    ids=["nothing", "no agreement", "reversed", "claims only", "gain without interval"],
)
def test_a_validation_says_what_it_has(full: Facts, plain: dict[str, Any], says: str) -> None:
    validation: ValidationFacts | None = read_validation(plain)
    text = text_of(validation_section(replace(full, validation=validation)))
    assert says in text
    assert not MISSING.search(text)
