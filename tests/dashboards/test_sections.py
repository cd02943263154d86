"""Parts of the report, each from facts alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dashboards.facts import CorpusFacts, Facts, LatencyAccuracy, TableFacts
from dashboards.facts.networks import quantity
from dashboards.report.corpus_section import corpus_section
from dashboards.report.finalist_section import finalist_section
from dashboards.report.front_section import front_section, headline
from dashboards.report.latency_section import latency_section
from dashboards.report.sources_section import SOURCES, sources_section
from dashboards.report.validation_section import validation_section
from nas.study.trial import Value
from tests.dashboards.test_report import HOSTILE, Reader


@pytest.fixture
def full(all_facts: dict[str, Facts]) -> Facts:
    return all_facts["full"]


def text_of(html: str | None) -> str:
    assert html is not None
    return Reader(html).text


def test_the_headline_names_the_best_of_each_objective(full: Facts) -> None:
    text = text_of(headline(full))
    kept = [network.best_known["decode_ms"] for network in full.front if not network.outdone]
    fastest = min(kept, key=lambda value: value.value)
    assert fastest.source == "measured"
    assert f"the fastest decodes a token in {quantity('decode_ms').of(fastest)}" in text
    assert "Trained from scratch for 800 steps" in text
    assert "not complete" not in text


def test_the_headline_of_a_running_search_states_its_progress(full: Facts) -> None:
    counts = {"complete": 7, "failed": 1, "infeasible": 5}
    running = replace(full, study=replace(full.study, counts=counts, planned=90))
    assert "8 of 90 candidates are scored" in text_of(headline(running))


def test_a_front_of_one_network_has_no_composition(full: Facts) -> None:
    alone = replace(full, front=full.front[:1], fronts=())
    assert "Composition of the front" in text_of(front_section(full))
    assert "Composition of the front" not in text_of(front_section(alone))
    assert front_section(replace(full, front=())) is None


@pytest.mark.parametrize(
    ("tied", "expected"),
    [
        ((False, False), "the one step of this line is significant"),
        ((False, False, False), "all 2 steps of this line are significant"),
        ((True, False, False), "1 of 2 steps of this line is within noise"),
        ((True, True, False), "2 of 2 steps of this line are within noise"),
    ],
)
def test_the_caption_counts_steps_within_noise(full: Facts, tied: tuple[bool, ...], expected: str) -> None:
    pair = full.fronts[0]
    points = tuple(replace(pair.front[0], tied=mark) for mark in tied)
    changed = replace(full, fronts=(replace(pair, front=points),))
    assert expected in text_of(front_section(changed))


def test_a_caption_tells_of_a_band_only_where_there_is_one(full: Facts) -> None:
    pair = full.fronts[0]
    exact = [replace(point, x=Value(i), y=Value(-i)) for i, point in enumerate(pair.front)]
    for points, banded in ((pair.front, True), (pair.front[:1], False), (tuple(exact), False)):
        changed = replace(full, fronts=(replace(pair, front=points),))
        assert ("in a band of one standard error" in text_of(front_section(changed))) is banded


def test_sources_name_a_quantity_once_for_all_scenarios(full: Facts) -> None:
    named = {f"decode_ms@{name}": Value(1.0, None, "predicted") for name in ("chat", "bulk")}
    first = replace(full.front[0], values=named, measured={})
    text = text_of(sources_section(replace(full, front=(first,), finals=None)))
    assert text.count("decode latency per token") == 1


def test_finalists_are_marked(full: Facts) -> None:
    assert full.finals is not None
    text = text_of(finalist_section(full))
    assert "9 finalists were trained from scratch to 100, 300 and 800 steps" in text
    assert text.count("not kept after 100 steps") == 6
    assert "networkproxy100 steps300 steps800 steps" in text


def test_a_study_from_scratch_has_no_proxy(full: Facts) -> None:
    scratch = replace(full, finals=None, validation=None, study=replace(full.study, evaluator="scratch"))
    text = text_of(finalist_section(scratch))
    assert "nas resume full" in text
    assert "nas validate" not in text
    assert validation_section(scratch) is None
    assert "nas validate full" in text_of(validation_section(replace(full, validation=None)))


def test_an_estimate_is_called_one(full: Facts) -> None:
    text = text_of(latency_section(replace(full, tables=(TableFacts((), estimate="phone <1>"),))))
    assert "a roofline from the peaks on the device card phone <1>; nothing was timed" in text
    assert "Measuring the table" not in text


def test_no_latency_names_the_option(full: Facts) -> None:
    without = tuple(replace(network, values={"params": Value(1.0)}) for network in full.front)
    assert "-o decode_ms" in text_of(latency_section(replace(full, tables=(), front=without)))
    assert latency_section(replace(full, tables=())) is None


def test_notes_of_a_table_are_shown(full: Facts) -> None:
    accuracy = LatencyAccuracy("decode_ms", 0.031, None, None, ((1.0, 1.1),))
    table = TableFacts((accuracy,), 12.0, HOSTILE, (HOSTILE,))
    text = text_of(latency_section(replace(full, tables=(table,))))
    assert "Decode: the mean absolute error is 3.1 % over 1 held-out network." in text
    assert text.count(HOSTILE) == 2


@pytest.mark.parametrize(
    ("note", "says", "stands_out"),
    [
        ("24 of 78 parts were measured", "24 of 78 parts were measured.", False),
        ("disturbed in 2 batches.", "Disturbed in 2 batches.", False),
        ("WARNING: this table errs by 37.7 %", "This table errs by 37.7 %.", True),
    ],
)
def test_notes_are_sentences_and_warnings_stand_out(
    full: Facts, note: str, says: str, stands_out: bool
) -> None:
    section = latency_section(replace(full, tables=(TableFacts((), notes=(note,)),)))
    assert f"{says}" in text_of(section)
    assert "WARNING" not in text_of(section)
    assert ('<p class="note">' in str(section)) is stands_out


def test_sources_are_explained_in_a_fixed_order(full: Facts) -> None:
    own = replace(full.front[0], values={**full.front[0].values, "mine": Value(1.0, source="function")})
    text = text_of(sources_section(replace(full, front=(own, *full.front[1:]))))
    order = [
        text.index(SOURCES[source]) for source in ("counted", "predicted", "measured", "supernet", "scratch")
    ]
    assert order == sorted(order)
    assert "functiona function of your ownmine" in text
    assert sources_section(replace(full, front=(), finals=None)) is None


def test_a_corpus_without_references_has_no_verdict(full: Facts) -> None:
    text = text_of(corpus_section(replace(full, corpus=CorpusFacts("novels", "ab12", 3_000_000, 40_000))))
    assert "novels: 3.00 MB for training, 40.0 kB for validation." in text
    assert "At this training budget" not in text
    assert corpus_section(replace(full, corpus=None)) is None


def test_a_corpus_of_tokens_says_what_they_are(full: Facts) -> None:
    corpus = CorpusFacts("novels", "ab12", 3_000_000, 40_000, {"xz": 2.0}, 8_000, 3.947)
    text = text_of(corpus_section(replace(full, corpus=corpus)))
    assert "40.0 kB for validation, read as tokens of a vocabulary of 8,000, 3.95 bytes each." in text
    assert "128 tokens without the text before them" in text
