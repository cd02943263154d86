"""What trains in a study just now: how far, how fast, at what share of the device's peak."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from dash import html, no_update
from dash.development.base_component import Component

from dashboards.app.controls import term
from dashboards.facts.reading import Reading
from evaluators.training.live import Live, read_live
from foundation.text import count

MOST = 8
"""Trainings of a study that are listed; beside them stands the sum of all."""


def trainings_now(reading: Reading) -> tuple[Live, ...]:
    """The trainings that run, as far as this machine sees their notes."""
    return tuple(read_live(reading.study.folder))


def told(found: Any) -> int:
    """What tells these trainings from others, in a few bytes that a page sends back."""
    return zlib.crc32(repr(found).encode())


def news(lines: list[Component], found: Any, seen: Any) -> tuple[Any, Any]:
    """The lines and what tells them from others; no update of a page that has `seen` them."""
    state = told(found)
    return (no_update, no_update) if state == seen else (lines, state)


def training_lines(found: Sequence[Live]) -> list[Component]:
    """A line for each training, and one for all; nothing where nothing trains."""
    if not found:
        return []
    lines: list[Component] = [html.Li(_line(live)) for live in found[:MOST]]
    if len(found) > 1:
        whole = sum(live.tokens_per_second for live in found)
        lines.append(html.Li([f"{count(len(found), 'training')}: {whole:,.0f} ", *_tokens(), " in all"]))
    return [html.Ul(lines, className="training")]


def _line(live: Live) -> list[Component | str]:
    parts: list[Component | str] = [f"training, step {live.step:,} of {live.steps:,}: "]
    parts += [html.Strong(f"{live.tokens_per_second:,.0f}"), " ", *_tokens()]
    if live.peak_share is not None:
        parts += [", ", html.Strong(f"{live.peak_share:.0%}"), " ", term("of the device's peak")]
    return parts


def _tokens() -> list[Component | str]:
    return [term("tokens a second")]
