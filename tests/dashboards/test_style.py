"""Both colour schemes are readable, and marks of studies can be distinguished."""

from __future__ import annotations

import re
from dataclasses import astuple, fields

import pytest

from dashboards.facts.comparison import MAX_STUDIES
from dashboards.figures.comparison import SIZES
from dashboards.style.app_css import app_css
from dashboards.style.css import report_css
from dashboards.style.theme import (
    DARK,
    LIGHT,
    MARKS,
    SCHEMES,
    ColourScheme,
    empty_figure,
    faint,
    message_figure,
    template,
    with_scheme,
)


def luminance(colour: str) -> float:
    """Relative luminance as in WCAG 2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=list(SCHEMES))
def test_text_has_the_contrast_that_wcag_asks_for(scheme: ColourScheme) -> None:
    for text in (scheme.ink, scheme.muted, scheme.link):
        assert contrast(text, scheme.paper) >= 4.5
        assert contrast(text, scheme.raised) >= 4.5


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=list(SCHEMES))
def test_marks_are_visible_on_the_page(scheme: ColourScheme) -> None:
    assert all(contrast(mark.colour, scheme.paper) >= 2.9 for mark in MARKS)


def test_there_are_as_many_marks_as_studies() -> None:
    assert len(MARKS) == len(SIZES) == MAX_STUDIES
    for column in zip(*map(astuple, MARKS), strict=True):
        assert len(set(column)) == len(MARKS)


def test_colours_are_written_in_full() -> None:
    for scheme in SCHEMES.values():
        for field in fields(scheme):
            assert re.fullmatch(r"#[0-9a-f]{6}", getattr(scheme, field.name))


def test_a_faint_colour_keeps_its_hue() -> None:
    assert faint("#0a141e", 0.25) == "rgba(10, 20, 30, 0.25)"


def test_style_sheets_use_only_colours_that_they_define() -> None:
    for sheet in (report_css(), app_css()):
        assert sheet.count("{") == sheet.count("}")
        used = set(re.findall(r"var\((--[\w-]+)\)", sheet))
        assert used <= set(re.findall(r"(--[\w-]+):", sheet))
    assert all(f".sign.of{i}" in report_css() for i in range(len(MARKS)))


def test_what_is_hidden_is_not_shown_by_a_rule_of_its_class() -> None:
    rules = re.findall(r"^\[hidden\]{(.*)}$", app_css(), re.MULTILINE)
    assert rules == ["display:none!important"]


def test_figures_begin_empty_and_light() -> None:
    assert empty_figure(123).layout.height == 123
    assert not empty_figure().data
    shown = message_figure("no trial")
    assert shown.layout.annotations[0].text == "no trial"
    assert with_scheme(shown, "dark").layout.template == template(DARK)
