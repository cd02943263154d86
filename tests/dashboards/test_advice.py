"""Pages advise only what would do something for the study as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dashboards.facts import Facts, NextSteps, TableFacts, read_facts
from dashboards.facts.records import read_tables
from dashboards.report.finalist_section import finalist_section
from dashboards.report.study import report_html
from dashboards.report.table_notes import explained
from hw_profiles.roofline.cards import card_named
from hw_profiles.roofline.roofline import Roofline
from nas.store import Store
from nas.study.study import Study
from nas.study.trial import Value
from nas.tables.table_facts import estimate_fact
from search_spaces.scenario import Scenario
from tests.dashboards.made import make_study
from tests.dashboards.test_report import Reader


@pytest.fixture
def two(all_facts: dict[str, Facts]) -> Facts:
    return all_facts["two"]


def text_of(facts: Facts) -> str:
    return Reader(report_html(facts)).text


def test_finalists_are_promised_only_where_some_are_left(two: Facts) -> None:
    assert two.next_steps.unfinished
    assert "nas resume two" in Reader(finalist_section(two) or "").text
    none = replace(two, next_steps=replace(two.next_steps, finalists=0, unfinished=False))
    found = Reader(finalist_section(none) or "").text
    assert "trains no finalists" in found
    assert "nas resume" not in found
    assert "Finish this study" not in text_of(none)
    assert "Finish this study" in text_of(two)


def test_export_is_advised_only_where_there_are_weights(two: Facts, all_facts: dict[str, Facts]) -> None:
    assert two.next_steps.exportable is None
    assert "nas export" not in text_of(two)
    assert "nas export" in text_of(all_facts["full"])


def test_a_study_without_quality_says_so_and_what_to_do(two: Facts) -> None:
    text = text_of(replace(two, next_steps=NextSteps(scored=False)))
    assert "This study has no quality objective" in text
    assert "-o bits_per_byte" in text
    for advice in ("nas validate", "nas export", "finalist", "scored by"):
        assert advice not in text, advice
    assert "This study has no quality objective" not in text_of(two)


def test_what_is_left_is_read_off_the_plan_and_the_record(tmp_path) -> None:
    with Store(tmp_path / "s.db") as store:
        made = make_study(
            store, "costs", trials=4, complete=False, finalists=0, objectives=("params", "decode_ms")
        )
        assert read_facts(Study(store, made.record)).next_steps == NextSteps(scored=False)
        made = make_study(store, "quality", trials=4, complete=False, finalists=2)
        assert read_facts(Study(store, made.record)).next_steps == NextSteps(finalists=2, unfinished=True)


def test_nothing_is_advised_of_an_empty_study(all_facts: dict[str, Facts]) -> None:
    text = text_of(all_facts["empty"])
    assert "DIGEST" not in text
    assert "nas show" not in text


@pytest.mark.parametrize(
    ("note", "says"),
    [
        ("24 of 78 parts were measured, the others are interpolated", "24 of 78 blocks were measured"),
        ("time ran out while interpolation was expected to err by 4.2 %", "off by about 4.2 %"),
        ("3 s were too few: what must be measured took 9 s", "The 3 s given for measuring were too few"),
        (
            "only 5 different networks were found: 4 fit the correction, 1 test it",
            "only 5 different networks",
        ),
        (
            "disturbed in 2 batches, the last time: load of 8.4 on 2 cores",
            "disturbed 2 batches of measurements",
        ),
        ("7 of 90 latencies did not settle: load of 8.4", "7 of 90 measured latencies still varied"),
    ],
)
def test_a_note_on_a_table_says_what_it_means_and_once_what_to_do(two: Facts, note: str, says: str) -> None:
    assert says in explained(note).text
    text = text_of(replace(two, tables=(TableFacts((), notes=(note, note)),)))
    assert text.count("--profile-seconds") == 1


def test_an_estimate_says_once_that_it_is_a_lower_bound(two: Facts) -> None:
    fact = estimate_fact(Roofline(card_named("phone-cpu-4-big-cores"), Scenario(device="cpu")))
    (table,) = read_tables({"table": fact})
    text = text_of(replace(two, tables=(table,)))
    assert text.count("nothing was timed. Real latencies are higher") == 1
    assert "The card holds nominal peaks: phone-cpu-4-big-cores" in text
    assert "ESTIMATE" not in text
    assert "lower bound" not in text


def test_a_rough_table_is_told_once_beside_its_numbers(two: Facts) -> None:
    note = "WARNING: this latency table errs on held-out networks, decode_ms by 14.3 %: what it predicts is ?"
    line = "? rough: predicted by a latency table that errs on whole networks, decode_ms by 14.3 %"
    text = text_of(replace(two, tables=(TableFacts((), notes=(note,)),), legend=(line,)))
    assert "errs on held-out networks" not in text
    assert "WARNING" not in text
    assert text.count("errs on whole networks, decode latency per token by 14.3 %.") == 1
    assert text.count("--profile-seconds") == 1


def test_numbers_of_a_scenario_are_told_by_their_labels(two: Facts) -> None:
    first, *others = two.front
    named = replace(first, values={**first.values, "decode_ms@chat": Value(1.0, None, "predicted, rough")})
    line = "? rough: predicted by a latency table that errs on whole networks, decode_ms@chat by 14.3 %"
    text = text_of(replace(two, front=(named, *others), legend=(line,)))
    assert "whole networks, decode latency per token (chat) by 14.3 %." in text


def test_tables_of_several_scenarios_are_all_shown(two: Facts) -> None:
    tables = tuple(TableFacts((), machine=f"m {name}", scenario=f"{name}: cpu") for name in ("chat", "bulk"))
    text = text_of(replace(two, tables=tables))
    assert "chat: cpu" in text
    assert "Machine: m bulk." in text


def test_a_table_of_another_machine_says_how_to_read_it(two: Facts) -> None:
    text = text_of(replace(two, tables=(TableFacts((), elsewhere="4 cores, not 2"),)))
    assert "on another machine than that of the study: 4 cores, not 2. Read its latencies as those of" in text
