"""The contract of every figure, and what is special about some."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dashboards.facts import Cloud, Facts, FrontFacts, Point
from dashboards.facts.quantities import Quantity
from dashboards.figures import figures
from dashboards.figures.front import VECTOR_POINTS, front_figure, stairs
from dashboards.style.theme import with_scheme
from nas.study.proposers import Proposers, Skill
from nas.study.trial import Value
from tests.dashboards.conftest import NAMES

MODELLED = Proposers({"model": 2}, (Skill(12, {"bits_per_byte": 0.4}), Skill(13, {"bits_per_byte": 0.6})))

X, Y = Quantity("weight_bytes", "bytes"), Quantity("bits_per_byte", "bits per byte", scored=True)


@pytest.mark.parametrize("study", NAMES)
@pytest.mark.parametrize("name", list(figures))
def test_every_figure_draws_every_study(name: str, study: str, all_facts: dict[str, Facts]) -> None:
    figure = figures[name](all_facts[study])
    plain = json.loads(figure.to_json())
    assert plain["layout"]["height"] >= 100
    assert plain["data"] or plain["layout"]["annotations"]
    json.dumps(plain, allow_nan=False)


@pytest.mark.parametrize("name", list(figures))
def test_figures_of_a_whole_study_show_something(name: str, all_facts: dict[str, Facts]) -> None:
    figure = figures[name](replace(all_facts["full"], proposers=MODELLED))
    assert figure.data
    titles = [axis.title.text for axis in figure.select_xaxes() if axis.title.text]
    assert titles or name == "composition"


@pytest.mark.parametrize("name", list(figures))
def test_figures_do_not_change_when_drawn_twice(name: str, all_facts: dict[str, Facts]) -> None:
    assert figures[name](all_facts["full"]) == figures[name](all_facts["full"])


def test_stairs_go_round_the_dominated_region() -> None:
    assert stairs([(1.0, 3.0), (2.0, 1.0), (2.5, 2.0)], (4.0, 5.0)) == [
        (1.0, 5.0),
        (1.0, 3.0),
        (2.0, 3.0),
        (2.0, 1.0),
        (4.0, 1.0),
    ]


def point(number: int, x: float, y: float, **more: object) -> Point:
    plain = {
        "digest": f"d{number}",
        "number": number,
        "one_line": "<b>A</b> | B",
        "x": Value(x),
        "y": Value(y, 0.1),
    }
    return Point(**{**plain, **more})  # type: ignore[arg-type]


def test_hover_names_the_network_and_escapes_it() -> None:
    drawn = front_figure(FrontFacts(x=X, y=Y, front=(point(0, 2000, 2.0, tied=True), point(1, 9000, 1.0))))
    texts = [text for trace in drawn.data if trace.text for text in trace.text]
    assert any("d0" in text and "&lt;b&gt;A&lt;/b&gt; | B" in text and "2.00 kB" in text for text in texts)
    assert drawn.layout.xaxis.title.text == "weights (kB)"
    assert {trace.name for trace in drawn.data} >= {"front", "front, tied with the next step"}


def test_many_points_go_through_webgl_with_plain_numbers_to_click() -> None:
    many = VECTOR_POINTS + 1
    cloud = Cloud(tuple(range(many)), (3000.0,) * many, (3.0,) * many)
    drawn = front_figure(FrontFacts(x=X, y=Y, front=(point(-1, 2000, 2.0),), dominated=cloud))
    dominated = drawn.data[0]
    assert dominated.type == "scattergl"
    assert list(dominated.customdata[:3]) == [0, 1, 2]
    assert isinstance(json.loads(drawn.to_json())["data"][0]["customdata"], list)


def test_the_step_of_a_maximised_quantity_turns_round() -> None:
    facts = FrontFacts(x=Quantity("speed", maximise=True), y=Y, front=(point(0, 9, 2.0), point(1, 5, 1.0)))
    line = front_figure(facts).data[1]
    assert list(line.x) == [9, 9, 5, 5, 5]
    assert list(line.y) == [2.0, 2.0, 2.0, 1.0, 1.0]


def test_a_wide_range_is_read_on_a_logarithmic_axis() -> None:
    drawn = front_figure(FrontFacts(x=X, y=Y, front=(point(0, 100, 2.0), point(1, 90_000, 1.0))))
    assert (drawn.layout.xaxis.type, drawn.layout.yaxis.type) == ("log", "linear")


def test_a_figure_turns_dark_without_being_drawn_anew(all_facts: dict[str, Facts]) -> None:
    light, dark = (with_scheme(figures["front"](all_facts["full"]), scheme) for scheme in ("light", "dark"))
    assert light.data == dark.data
    assert light.layout.template.layout.font.color != dark.layout.template.layout.font.color
