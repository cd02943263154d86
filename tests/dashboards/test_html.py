"""Elements escape their text, and nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dashboards.report.html import (
    Html,
    code,
    document,
    fact_list,
    figure,
    joined,
    p,
    row,
    script_json,
    section,
    table,
    tag,
    text,
)
from dashboards.style.theme import SCHEMES, message_figure
from tests.dashboards.test_report import HOSTILE, Reader


@example("\r\n")
@example("\x00&lt;<")
@given(st.text())
def test_any_text_survives_as_text(content: str) -> None:
    assert Reader(p(content)).text == content


@given(st.text())
def test_attributes_cannot_break_out(content: str) -> None:
    (name, attributes), *others = Reader(tag("td", "x", title=content, kind=content)).elements
    assert name == "td"
    assert set(attributes) <= {"class", "title"}
    assert not others


def test_elements_are_not_escaped_twice() -> None:
    assert p("a < b: ", code("<x>")) == "<p>a &lt; b: <code>&lt;x&gt;</code></p>"
    assert text(Html("<b>")) == "<b>"
    assert text(None) == ""
    assert joined(["a", None, Html("<br>")]) == "a<br>"


def test_a_section_has_its_heading_first() -> None:
    assert section("A & B", p("x")) == "<section><h2>A &amp; B</h2><p>x</p></section>"


def test_tables_have_a_head_and_scroll() -> None:
    found = Reader(table(row(["a", "b"], header=True), [row(["1", None])], "ruled"))
    assert [name for name, _ in found.elements] == [
        *("div", "table", "thead", "tr", "th", "th"),
        *("tbody", "tr", "td", "td"),
    ]
    assert found.elements[0][1] == {"class": "scroll ruled"}


def test_facts_are_a_list_of_definitions() -> None:
    found = Reader(fact_list({"space": HOSTILE, "trials": "3"}))
    assert [name for name, _ in found.elements].count("dd") == 2
    assert HOSTILE in found.text


@pytest.mark.parametrize("value", ["</script>", {"a": ["<!--", 1.5, None]}])
def test_json_cannot_close_its_script(value: object) -> None:
    plain = script_json(value)
    assert "<" not in plain
    assert json.loads(plain) == value


def test_a_figure_carries_its_data_and_its_height() -> None:
    found = figure(message_figure("nothing <here>", height=222), caption="c")
    assert "height:222px" in found
    assert "<figcaption>c</figcaption>" in found
    plain = json.loads(found.split('application/json">')[1].split("</script>")[0])
    assert "template" not in plain["layout"]
    assert plain["layout"]["annotations"][0]["text"] == "nothing <here>"


def test_a_document_may_load_nothing_and_holds_both_schemes() -> None:
    page = document(HOSTILE, p("body"), "/* plotly */")
    assert "default-src 'none'" in page.replace("&#x27;", "'")
    schemes = json.loads(page.split("const schemes=")[1].split(";\n")[0])
    assert set(schemes) == set(SCHEMES)
    assert "onerror=alert(1)>" not in page.split("<title>")[1].split("</title>")[0]
