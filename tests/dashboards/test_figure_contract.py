"""The contract of figures: each draws whatever a study has, in both colour schemes, with labelled axes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import pytest

from dashboards.facts import Facts, NetworkFacts, front_facts
from dashboards.facts.networks import quantity
from dashboards.facts.records import read_corpus, read_supernet, read_tables, read_validation
from dashboards.facts.study import HypervolumeFacts
from dashboards.figures import figures
from dashboards.style.theme import SCHEMES, with_scheme
from nas.study.proposers import Proposers, Skill
from nas.study.trial import Trial, Value
from tests.dashboards.random_records import made_trial

MEMBERS = 40
EVERY_FIGURE = pytest.mark.parametrize("name", list(figures))
EVERY_CASE = pytest.mark.parametrize("case", ["empty", "one", "forty", "equal", "zero", "bare records"])
DIMENSIONLESS = {
    "trial",
    "training step",
    "training steps from scratch",
    "bits per byte",
    "parameters",
    "rank correlation",
}
"""Titles of axes that count something, or whose unit is their name."""


def members(number: int, *, step: float = 1.0, best: float = 1.0) -> list[Trial]:
    """Trials on one staircase; with a `step` of 0 all have the same values."""
    return [
        made_trial(
            i,
            {
                "decode_ms": Value(best + step * i, 0.05, "predicted"),
                "bits_per_byte": Value(best + step * (number - i) / number, 0.01, "supernet"),
                "weight_bytes": Value(best * 1e4 + step * 500 * i),
            },
        )
        for i in range(number)
    ]


def facts_of(base: Facts, trials: list[Trial]) -> Facts:
    """Facts of a study that scored these trials and nothing else."""
    axes = quantity("decode_ms"), quantity("bits_per_byte")
    networks = [
        NetworkFacts(digest=t.digest, number=t.number, one_line="A | B", layers="A\nB", values=t.values)
        for t in trials
    ]
    return replace(
        base,
        front=tuple(networks),
        fronts=(front_facts(trials, *axes, describe=lambda trial: "A | B"),),
        hypervolume=HypervolumeFacts((0, 1), (0.4, 1.0)) if len(trials) > 1 else None,
        proposers=Proposers({"model": 2}, (Skill(0, {"decode_ms": 0.4}), Skill(1, {"decode_ms": -0.1}))),
    )


@pytest.fixture(scope="module")
def cases(all_facts: dict[str, Facts]) -> dict[str, Facts]:
    """Studies in all stages, and records without their optional parts."""
    empty, full = all_facts["empty"], all_facts["full"]
    bare: dict[str, Any] = {
        "corpus": read_corpus({"name": "c", "digest": "d", "train_bytes": 1, "valid_bytes": 1}),
        "tables": read_tables({"table": {"decode_ms": {}, "prefill_ms": {"held_out": [[0.0, 0.0]]}}}),
        "supernet": read_supernet({"steps": 1, "seconds": 0.0, "loss": [[1, 2.0, 2.0]]}),
        "validation": read_validation({"pairs": [[1.0, 1.0, "ab"]]}),
    }
    return {
        "empty": empty,
        "one": all_facts["one"],
        "forty": facts_of(full, members(MEMBERS)),
        "equal": facts_of(empty, members(3, step=0.0)),
        "zero": facts_of(empty, members(3, step=0.0, best=0.0)),
        "bare records": replace(empty, **bare),
    }


def texts(part: object) -> Iterator[str]:
    """All text of a figure's JSON that a reader could see."""
    match part:
        case str():
            yield part
        case list():
            for item in part:
                yield from texts(item)
        case dict():
            for key, item in part.items():
                if key not in ("template", "bdata"):
                    yield from texts(item)


def numeric_axes(figure: go.Figure, letter: str) -> list[Any]:
    """The visible axes of numbers: on the others the names of bars are the labels."""
    horizontal = {trace.orientation == "h" for trace in figure.data if trace.type == "bar"}
    if letter == "y" and horizontal == {True}:
        return []
    select = figure.select_xaxes if letter == "x" else figure.select_yaxes
    return [axis for axis in select() if axis.visible is not False]


def states_its_unit(axis: Any) -> bool:
    """Whether the title ends in a unit, or the ticks have one."""
    title = axis.title.text or ""
    plain = title.partition(",")[0]
    return bool(re.search(r"\(.+\)$", title)) or plain in DIMENSIONLESS or "50 %" in (axis.ticktext or ())


@EVERY_FIGURE
@EVERY_CASE
@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_a_figure_draws_any_study_in_both_schemes(
    name: str, case: str, scheme: str, cases: dict[str, Facts]
) -> None:
    figure = with_scheme(figures[name](cases[case]), scheme)
    plain = json.loads(json.dumps(json.loads(figure.to_json()), allow_nan=False))
    assert plain["data"] or plain["layout"]["annotations"]
    assert 70 <= plain["layout"]["height"] <= 1200
    template = figure.layout.template.layout
    assert template.font.color == SCHEMES[scheme].ink
    assert template.xaxis.gridcolor == SCHEMES[scheme].rule


@EVERY_FIGURE
@EVERY_CASE
def test_no_text_of_a_figure_is_a_missing_number(name: str, case: str, cases: dict[str, Facts]) -> None:
    plain = json.loads(figures[name](cases[case]).to_json())
    for text in texts(plain):
        assert not re.search(r"\b(nan|NaN|None|inf|undefined)\b", text), text


@EVERY_FIGURE
@EVERY_CASE
def test_every_axis_of_numbers_states_its_unit(name: str, case: str, cases: dict[str, Facts]) -> None:
    figure = figures[name](cases[case])
    for letter in "xy" if figure.data else "":
        axes = numeric_axes(figure, letter)
        labelled = [axis for axis in axes if axis.title.text or axis.ticktext]
        assert not axes or labelled
        for axis in labelled:
            assert states_its_unit(axis), axis.title.text


@EVERY_FIGURE
def test_a_message_replaces_what_an_empty_study_lacks(name: str, cases: dict[str, Facts]) -> None:
    figure = figures[name](cases["empty"])
    assert not figure.data
    (annotation,) = figure.layout.annotations
    assert len(annotation.text.split()) >= 3
    assert not any(axis.visible for axis in (*figure.select_xaxes(), *figure.select_yaxes()))


@EVERY_FIGURE
def test_figures_do_not_set_colours_that_belong_to_the_scheme(name: str, cases: dict[str, Facts]) -> None:
    layout = figures[name](cases["forty"]).layout.to_plotly_json()
    layout.pop("template")
    plain = json.dumps(layout, default=str)
    for scheme in SCHEMES.values():
        assert scheme.paper not in plain
        assert scheme.ink not in plain


def test_a_front_of_forty_shows_forty_points(cases: dict[str, Facts]) -> None:
    figure = figures["front"](cases["forty"])
    points = {trace.name: len(trace.x) for trace in figure.data if trace.mode == "markers"}
    on_front = points.get("front, predicted", 0) + points.get("front, tied with the next step, predicted", 0)
    assert on_front == MEMBERS
    texts = [text for trace in figure.data if trace.text for text in trace.text]
    assert len(texts) == MEMBERS
