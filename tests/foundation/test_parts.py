"""Settings inside settings, and parts that are chosen by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.components import Part
from foundation.errors import SettingError, UnknownName
from foundation.registry import Registry
from foundation.settings import Settings, setting

shapes: Registry[type[Shape]] = Registry("shape")


@dataclass(frozen=True, kw_only=True)
class Shape(Part):
    registry: ClassVar = shapes


@shapes.add
@dataclass(frozen=True, kw_only=True)
class Circle(Shape):
    name: ClassVar = "circle"
    radius: float = setting(1.0, help="Half of its width.", above=0)


@shapes.add
@dataclass(frozen=True, kw_only=True)
class Box(Shape):
    name: ClassVar = "box"
    sides: tuple[int, ...] = setting((1, 1), help="Lengths.", least=1)


@dataclass(frozen=True, kw_only=True)
class Point(Settings):
    x: int = setting(0, help="To the right.")
    y: int = setting(0, help="Up.")


@dataclass(frozen=True, kw_only=True)
class Drawing(Settings):
    shape: Shape = setting(Circle(), help="What is drawn.")
    at: Point = setting(Point(), help="Where.")
    path: tuple[Point, ...] = setting((), help="Where else.", named={"diagonal": (Point(), Point(x=1, y=1))})


points = st.builds(Point, x=st.integers(), y=st.integers())
kinds = st.builds(Circle, radius=st.floats(0.1, 9)) | st.builds(
    Box, sides=st.lists(st.integers(1, 9)).map(tuple)
)


@given(st.builds(Drawing, shape=kinds, at=points, path=st.lists(points).map(tuple)))
def test_a_tree_survives_json(drawing: Drawing) -> None:
    assert Drawing.from_plain(json.loads(json.dumps(drawing.to_plain()))) == drawing


def test_plain_values_name_the_kind() -> None:
    assert Drawing().to_plain()["shape"] == {"name": "circle", "radius": 1.0}
    assert Shape.from_plain({"name": "box", "sides": [3]}) == Box(sides=(3,))
    with pytest.raises(SettingError, match=r"which shape.*box, circle"):
        Shape.from_plain({"radius": 2})
    with pytest.raises(UnknownName, match="did you mean 'circle'"):
        Shape.from_plain({"name": "circel"})
    with pytest.raises(UnknownName, match="Circle has no setting 'sides'"):
        Shape.from_plain({"name": "circle", "sides": [1]})


def test_dots_lead_to_settings_inside() -> None:
    changed = Drawing().with_settings({"at.x": 3, "shape.sides": "2,3", "shape": "box", "path": "diagonal"})
    assert changed == Drawing(shape=Box(sides=(2, 3)), at=Point(x=3), path=(Point(), Point(x=1, y=1)))
    assert Drawing().with_settings({"shape": {"name": "circle", "radius": 2}}).shape == Circle(radius=2)
    assert Drawing.from_plain({"path": "diagonal"}).path == changed.path


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"shap": "box"}, UnknownName, "Drawing has no setting 'shap'; did you mean 'shape'"),
        (
            {"shape.radios": 1},
            UnknownName,
            "Drawing has no setting 'shape.radios'; did you mean 'shape.radius'",
        ),
        ({"shape": "boks"}, UnknownName, "unknown shape 'boks'; did you mean 'box'"),
        ({"shape.radius": "0"}, SettingError, "radius must be positive"),
        ({"shape.radius.more": 1}, SettingError, "radius has no settings of its own"),
        ({"at": "here"}, SettingError, "Point cannot be 'here': set one of x, y"),
        ({"at": 3}, SettingError, "at must be Point, got 3"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Drawing().with_settings(changes)
