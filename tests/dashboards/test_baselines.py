"""Baselines in reports: the verdict in a sentence, marks in the plane, and a row for every network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dashboards.app.live_store import LiveStore
from dashboards.facts import BaselineFacts, Facts, read_facts
from dashboards.facts.baselines import baseline_facts, verdict_sentences
from dashboards.figures import figures
from dashboards.figures.baselines import baseline_figure
from dashboards.pages.base import Place
from dashboards.pages.front import Front
from dashboards.report.study import report_html
from nas.study.study import Study

NAMES = ("transformer", "lfm2")


@pytest.fixture
def found(full: Study) -> BaselineFacts:
    facts = baseline_facts(full)
    assert facts is not None
    return facts


def test_every_baseline_is_read_with_its_scores_and_costs(found: BaselineFacts, full: Study) -> None:
    assert set(found.names) == set(NAMES)
    assert {n.digest for n in found.members} <= {t.digest for t in full.trials("final")}
    assert all(n.costs["decode_ms"].source == "measured" for n in found.baselines)
    assert all(n.last in n.rungs and found.quality.name not in n.costs for n in found.baselines)
    assert verdict_sentences(full) == found.sentences


def test_a_study_without_baselines_has_no_such_part(all_facts: dict[str, Facts]) -> None:
    assert all_facts["two"].baselines is None
    assert "Against baselines" not in report_html(all_facts["two"])
    assert "no baseline was trained" in str(figures["baselines"](all_facts["two"]))


def test_the_report_says_the_verdict_first_and_lists_every_network(full: Study) -> None:
    facts = read_facts(full)
    assert facts.baselines is not None
    page = report_html(facts)
    assert page.index(facts.baselines.sentences[0].split("±")[0]) < page.index("The front</h2>")
    assert "Against baselines" in page
    assert all(name in page and f"<b>{name}</b>" not in page.split("<script")[0] for name in NAMES)
    assert all(network.digest in page for network in facts.baselines.baselines)


def test_the_figure_names_each_baseline_once_and_marks_every_score(found: BaselineFacts) -> None:
    cost = found.verdicts[-1].cost
    drawn = baseline_figure(found, cost)
    legend = [trace.name for trace in drawn.data if trace.showlegend is not False]
    assert sorted(legend) == sorted(["of the front", *NAMES])
    shown = [n for n in (*found.members, *found.baselines) if cost.name in n.costs]
    marks = sum(len(trace.x) for trace in drawn.data if trace.mode == "lines+markers")
    assert marks == sum(len(network.rungs) for network in shown)


def test_a_cost_that_nothing_has_is_said(found: BaselineFacts) -> None:
    bare = replace(found, members=(), baselines=())
    assert "no network has a known weights" in str(baseline_figure(bare, found.verdicts[-1].cost))


def test_the_live_page_says_the_verdict(full: Study) -> None:
    page = Front(LiveStore(full.store)).layout(Place(study="full"))
    assert verdict_sentences(full)[0] in str(page)
