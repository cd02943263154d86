from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import SettingError, UnknownName
from foundation.settings import Settings, changed, describe, kind_of, parse_assignments, parse_values, setting


@dataclass(frozen=True, kw_only=True)
class Example(Settings):
    population: int = setting(24, help="Candidates that have children.", least=2, most=1000)
    rate: float = setting(0.1, help="Share of genes that change.", above=0, most=1)
    seconds: float | None = setting(None, help="How long.", least=0, unit="s")
    steps: tuple[int, ...] = setting((100, 300), help="Training steps of each rung.", least=1)
    guard: bool = setting(True, help="Stop when it collapses.")
    variant: str = setting("first", help="Which gradient.", choices=("first", "second"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 1}, "population must be at least 2, got 1"),
        ({"population": 1001}, "population must be at most 1000, got 1001"),
        ({"population": True}, "population must be a whole number, got True"),
        ({"population": 2.5}, "population must be a whole number, got 2.5"),
        ({"rate": 0}, "rate must be positive, got 0"),
        ({"rate": float("nan")}, "rate must be finite, got nan"),
        ({"seconds": -1.0}, "seconds must be at least 0 s, got -1.0"),
        ({"steps": (100, 0)}, r"steps must be at least 1, got \(100, 0\)"),
        ({"steps": 100}, "steps must be a sequence, each a whole number, got 100"),
        ({"guard": "false"}, "guard must be true or false, got 'false'"),
        ({"variant": "third"}, "variant must be one of first, second, got 'third'"),
    ],
)
def test_values_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        Example(**settings)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="Example has no setting 'populaton'; did you mean 'population'"):
        Example.from_plain({"populaton": 3})
    with pytest.raises(UnknownName, match="variant"):
        Example.from_text({"varant": "first"})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("population", " 30", 30),
        ("rate", "1e-2", 0.01),
        ("seconds", "none", None),
        ("seconds", "3", 3.0),
        ("steps", "10, 30,100", (10, 30, 100)),
        ("guard", "false", False),
        ("guard", "Yes", True),
        ("variant", "second", "second"),
    ],
)
def test_text_is_parsed_by_the_annotation(name, text, value):
    assert getattr(Example.from_text({name: text}), name) == value


@pytest.mark.parametrize(("name", "text"), [("population", "many"), ("guard", "maybe"), ("steps", "1,x")])
def test_text_that_is_no_such_value(name, text):
    with pytest.raises(SettingError, match=f"{name} must be .*, got"):
        Example.from_text({name: text})


@given(
    st.builds(
        Example,
        population=st.integers(2, 1000),
        rate=st.floats(0, 1, exclude_min=True),
        seconds=st.none() | st.floats(0, 1e9),
        steps=st.lists(st.integers(1, 10**6)).map(tuple),
        guard=st.booleans(),
        variant=st.sampled_from(["first", "second"]),
    )
)
def test_plain_values_and_texts_come_back(example):
    plain = example.to_plain()
    assert Example.from_plain(plain) == example
    assert Example.from_plain({**plain, "steps": list(plain["steps"])}) == example
    texts = {name: ",".join(map(str, v)) if name == "steps" else str(v) for name, v in plain.items()}
    assert Example.from_text(texts) == example


def test_settings_describe_themselves():
    described = {one.name: one for one in describe(Example)}
    assert described["seconds"].optional
    assert described["seconds"].about.unit == "s"
    assert described["steps"].default == (100, 300)
    assert kind_of(described["seconds"].type) == "a number"


@pytest.mark.parametrize("text", ["population", "=3", " =3"])
def test_assignments_need_a_name_and_a_value(text):
    with pytest.raises(SettingError, match="name=value"):
        parse_assignments([text])


def test_assignments_are_texts_by_name():
    assert parse_assignments(["a.b= 3", "c=x=y"]) == {"a.b": "3", "c": "x=y"}
    with pytest.raises(SettingError, match="a is given twice, '1' and '2'"):
        parse_assignments(["a=1", "a=2"])


@dataclass(frozen=True, kw_only=True)
class Several(Settings):
    """Settings that hold settings."""

    title = "several"

    examples: tuple[Example, ...] = setting((), help="Some.", repeated=True)
    best: Example | None = setting(None, help="One of them.", option="the-best")
    count: int = setting(3, help="How many.", least=1, most=9, unit="pieces", changeable=True)


def test_settings_hold_settings():
    several = Several(examples=(Example(population=3),), best=Example(rate=0.5))
    assert Several.from_plain(several.to_plain()) == several
    assert Several.from_text({"best": "rate=0.5, population=24"}).best == several.best
    with pytest.raises(UnknownName, match="did you mean 'population'"):
        Several.from_plain({"examples": [{"populaton": 3}]})
    with pytest.raises(SettingError, match="examples must be a sequence, each Example"):
        Several(examples=(3,))


def test_a_title_stands_in_front_of_what_is_wrong():
    with pytest.raises(SettingError, match=r"^several: count must be at most 9 pieces, got 10$"):
        Several(count=10)
    with pytest.raises(SettingError, match=r"^several: count must be a whole number, got 'x'$"):
        Several.from_text({"count": "x"})
    with pytest.raises(UnknownName, match=r"^several has no setting 'cuont'; did you mean 'count'"):
        Several.parse("cuont=3")


def test_only_what_is_given_is_parsed():
    assert parse_values(Example, {"population": "30"}) == {"population": 30}
    assert parse_values(Example, {}) == {}


def test_what_may_change_between_runs_is_no_difference():
    one = Several(count=3)
    assert changed(one, Several(count=4)) == []
    assert changed(one, Several(best=Example())) == [("best", None, Example())]


def test_options_have_the_names_of_fields_unless_they_say_otherwise():
    assert [described.option for described in describe(Several)] == ["examples", "the-best", "count"]
    assert [described.entry for described in describe(Several)] == [Example, Example, int]
    assert describe(Several)[2].about.range == "at least 1 pieces, at most 9 pieces"
    assert describe(Example)[1].about.range == "more than 0, at most 1"


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text().map(str.strip)))
def test_assignments_come_back(texts):
    assert parse_assignments(f"{name}={text}" for name, text in texts.items()) == texts


@given(st.text())
def test_any_text_is_parsed_or_refused(text):
    for described in describe(Example):
        with suppress(SettingError):
            parse_values(Example, {described.name: text})
