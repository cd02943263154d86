from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dashboards.facts import CorpusFacts, Facts, LatencyAccuracy
from dashboards.facts.networks import parts_of
from dashboards.report.corpus_section import compressor_verdict
from dashboards.report.html import Html, code, p, script_json, tag
from dashboards.report.latency_section import accuracy_text
from dashboards.report.study import report_html, write_report
from nas.study.study import Study

HOSTILE = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>"
CHROMIUM = shutil.which("chromium")


class Reader(HTMLParser):
    """Collects a page's elements and its visible text; fails on a tag that is closed out of turn."""

    VOID = ("meta", "link", "br", "img")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" not in self.open and "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def pages(all_facts: dict[str, Facts]) -> dict[str, str]:
    return {name: report_html(facts) for name, facts in all_facts.items()}


def test_the_report_lies_in_the_studys_folder(full: Study, tmp_path: Path) -> None:
    assert write_report(full) == full.folder / "report.html"
    assert write_report(full, tmp_path / "there" / "r.html").read_text().startswith("<!doctype html>")


def test_the_report_loads_nothing(pages: dict[str, str]) -> None:
    for page in pages.values():
        found = Reader(page)
        for name, attributes in found.elements:
            for attribute in ("src", "href", "data", "action"):
                assert not re.match(r"(https?:)?//", attributes.get(attribute) or ""), (name, attributes)
        assert "@import" not in page[: page.index("</style>")]
        assert "url(" not in page[: page.index("</style>")]
        assert page.count("define.amd") <= 3  # plotly.js is in there once


def test_the_report_says_what_was_found(pages: dict[str, str], all_facts: dict[str, Facts]) -> None:
    text, facts = Reader(pages["full"]).text, all_facts["full"]
    members = sum(not network.outdone for network in facts.front)
    assert f"{facts.study.distinct} distinct architectures scored, {members} on the front" in text
    best = facts.front[0]
    assert f"{best.values['bits_per_byte'].value:.3f}" in text
    assert all(network.digest in text for network in facts.front)
    assert all(f"<li>{part}</li>" in pages["full"] for part in parts_of(best.one_line))
    assert facts.corpus is not None
    assert all(f"{value:.3f}" in pages["full"] for value in facts.corpus.reference.values())
    for words in (
        "Short trainings",
        "Kendall's τ = 0.67 (95 % interval 0.38 to 0.88)",
        "12 held-out networks",
        "Hypervolume",
        "Supernet",
        "cpu eager, batch 1",
        f"nas export full {best.digest}",
        "nas resume full --store",
        "counted",
        "predicted",
        "measured",
        "scratch",
        "best from scratch",
    ):
        assert words in text or words in pages["full"], words


def test_what_is_missing_is_left_out_or_names_its_command(pages: dict[str, str]) -> None:
    one, empty = Reader(pages["one"]).text, Reader(pages["empty"]).text
    assert "1 distinct architecture scored, 1 on the front" in one
    assert "nas resume one" in one
    assert "nas validate one" in one
    assert "nas export" not in one
    assert "Supernet" not in one
    assert "empty: nothing scored yet" in empty
    assert "The front" not in empty


def test_a_search_that_is_not_done_says_so(all_facts: dict[str, Facts]) -> None:
    facts = all_facts["two"]
    assert "not complete" not in report_html(facts)
    further = replace(facts, study=replace(facts.study, planned=99))
    assert "30 of 99 candidates" in report_html(further)


def test_hostile_text_stays_text(all_facts: dict[str, Facts]) -> None:
    facts = all_facts["full"]
    assert facts.finals is not None
    (table,) = facts.tables
    bad_front = tuple(replace(network, one_line=HOSTILE, layers=HOSTILE) for network in facts.front)
    bad_points = tuple(
        replace(pair, front=tuple(replace(point, one_line=HOSTILE) for point in pair.front))
        for pair in facts.fronts
    )
    finalists = tuple(replace(f, outcome=HOSTILE, one_line=HOSTILE) for f in facts.finals.finalists)
    bad = replace(
        facts,
        study=replace(facts.study, name=HOSTILE, space_name=HOSTILE, constraints=(HOSTILE,), store=HOSTILE),
        front=bad_front,
        fronts=bad_points,
        finals=replace(facts.finals, finalists=finalists),
        corpus=CorpusFacts(HOSTILE, HOSTILE, 1, 1, {HOSTILE: 1.0}),
        tables=(replace(table, machine=HOSTILE, notes=(HOSTILE,)),),
    )
    clean, found = Reader(report_html(facts)), Reader(report_html(bad))
    names = [name for name, _ in found.elements]
    assert "img" not in names
    assert names.count("script") == [name for name, _ in clean.elements].count("script")
    assert not any("onerror" in attributes for _, attributes in found.elements)
    assert HOSTILE in found.text


def test_text_is_escaped_by_construction() -> None:
    assert p("a < b ", code("<i>")) == "<p>a &lt; b <code>&lt;i&gt;</code></p>"
    assert tag("td", None, Html("<b>x</b>"), title='"', kind="k", span=2) == (
        '<td class="k" title="&quot;" colspan="2"><b>x</b></td>'
    )
    assert "</script" not in script_json({"a": "</script>"})
    assert json.loads(script_json({"a": "</script>"})) == {"a": "</script>"}


def test_compressors_are_named_plainly(all_facts: dict[str, Facts]) -> None:
    facts = all_facts["full"]

    def verdict(**reference: float) -> str:
        return compressor_verdict(facts, CorpusFacts("c", "d", 1, 1, reference)) or ""

    assert "is worse than zlib (0.100)" in verdict(zlib=0.1)
    assert "Read the scores as a ranking" in verdict(zlib=0.1)
    assert "is better than zlib (9.000)" in verdict(zlib=9.0)
    assert "Read the scores" not in verdict(zlib=9.0)
    assert verdict() == ""
    assert compressor_verdict(all_facts["empty"], CorpusFacts("c", "d", 1, 1, {"zlib": 1.0})) is None


def test_a_score_within_noise_of_a_compressor_is_level_with_it(all_facts: dict[str, Facts]) -> None:
    facts = all_facts["full"]
    assert facts.finals is not None
    last = facts.finals.finalists[0].last
    assert last is not None
    found = compressor_verdict(facts, CorpusFacts("c", "d", 1, 1, {"xz": last[1].value + 0.001, "zlib": 9.0}))
    assert found is not None
    assert re.search(r"is level with xz \([\d.]+\) and better than zlib", found)


def test_the_tables_error_in_words() -> None:
    pairs = ((1.0, 1.1), (2.0, 2.1))
    assert accuracy_text(LatencyAccuracy("decode_ms", None, None, None, ())).endswith(
        "so the error is unknown."
    )
    assert accuracy_text(LatencyAccuracy("decode_ms", 0.05, None, None, pairs)) == (
        "Decode: the mean absolute error is 5.0 % over 2 held-out networks."
    )
    assert accuracy_text(LatencyAccuracy("prefill_ms", 0.05, 0.9, None, pairs)).endswith(
        "Kendall's τ = 0.90."
    )
    assert "(95 % interval 0.10 to 0.90)" in accuracy_text(
        LatencyAccuracy("prefill_ms", 0.05, 0.9, (0.1, 0.9), pairs)
    )


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_draws_every_figure_without_an_error(full: Study, tmp_path: Path) -> None:
    page = write_report(full, tmp_path / "report.html")
    assert CHROMIUM is not None
    shown = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=6000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert "CONSOLE" not in shown.stderr, [line for line in shown.stderr.splitlines() if "CONSOLE" in line]
    drawn = len(re.findall(r'<svg class="main-svg"', shown.stdout))
    assert drawn >= page.read_text().count('<div class="plot"') > 5
