"""Values of foreign files are read as what they must be, and named by their place where they are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import FileError
from foundation.fields import Field

PLAIN = {
    "parts": [{"ms": [1.0, 2]}, {"ms": [-1.0, float("nan"), float("inf"), 10**400, True, "3", None]}],
    "name": "A100",
    "path": "../A100",
    "text": "two\nlines",
    "long": "x" * 300,
    "flag": True,
}
WHOLE = Field(PLAIN)
WRONG = WHOLE["parts"][1]["ms"]


def test_values_are_given_as_they_are() -> None:
    first = WHOLE["parts"][0]["ms"]
    assert [entry.number() for entry in first.entries()] == [1.0, 2.0]
    assert first[1].whole(least=2, most=2) == 2
    assert WHOLE["name"].name() == "A100"
    assert WHOLE["flag"].flag() is True
    assert WHOLE["name"].word(("A100", "H100")) == "A100"
    assert WHOLE.get("more", 5).whole() == 5
    assert [name for name, _ in WHOLE.items()] == list(PLAIN)
    assert WHOLE.only(*PLAIN) is WHOLE


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda: WRONG[0].number(positive=True), "parts[1].ms[0] must be positive and finite, got -1.0"),
        (lambda: WRONG[0].number(least=0), r"parts[1].ms[0] must be at least 0, got -1.0"),
        (lambda: WRONG[1].number(), "parts[1].ms[1] must be finite, got nan"),
        (lambda: WRONG[2].number(positive=True), "must be positive and finite, got inf"),
        (lambda: WRONG[3].number(), "must be finite, got a number of many digits"),
        (lambda: WRONG[3].whole(most=9), "must be at most 9, got a number of many digits"),
        (lambda: WRONG[4].number(), "must be a number, got True"),
        (lambda: WRONG[5].number(), "must be a number, got '3'"),
        (lambda: WRONG[6].number(), "must be a number, got None"),
        (lambda: WHOLE["parts"][0]["ms"][0].whole(), "must be a whole number, got 1.0"),
        (lambda: WHOLE["parts"].entries(most=1), "parts must be a list of at most 1, got 2 entries"),
        (lambda: WHOLE["parts"].entries(least=3), "parts must be a list of at least 3, got 2 entries"),
        (lambda: WHOLE["parts"]["ms"], "parts must be an object with named values, got a list of 2"),
        (lambda: WHOLE["part"], "it lacks 'part'"),
        (lambda: WHOLE["name"].entries(), "name must be a list, got 'A100'"),
        (lambda: WHOLE["name"].flag(), "name must be true or false, got 'A100'"),
        (lambda: WHOLE["name"].word(("H100",)), "name must be one of H100, got 'A100'"),
        (lambda: WHOLE["path"].name(), "path must be a name, not a path, got '../A100'"),
        (lambda: WHOLE["text"].text(), "text must be text without control characters, got 'two\\nlines'"),
        (lambda: WHOLE["long"].text(), "long must be text of at most 200 characters, got 300"),
        (lambda: WHOLE["flag"].text(), "flag must be text, got True"),
        (lambda: WHOLE.names(most=1), "it must be an object of at most 1 named values, got 6"),
        (lambda: WHOLE.only("parts", "names"), "it has no field 'name'; did you mean 'names'?"),
        (lambda: WHOLE["name"].refuse("it is no GPU"), "name: it is no GPU"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_place(read: object, said: str) -> None:
    with pytest.raises(FileError) as found:
        read()  # type: ignore[operator]
    assert said in str(found.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(VALUES)
def test_whatever_is_there_is_read_or_refused_in_one_line(plain: object) -> None:
    field = Field(plain, "there")
    for read in (field.number, field.whole, field.flag, field.text, field.name, field.entries, field.names):
        said = ""
        try:
            read()
        except FileError as error:
            said = str(error)
        assert "\n" not in said
        assert len(said) < 300
