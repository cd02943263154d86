import math

import pytest

from foundation.text import count, duration, listed, percent, significant, with_error


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(0, 3, "0"), (1234.5, 3, "1,234"), (0.0123456, 3, "0.0123"), (1e-7, 3, "1.00e-07"), (2.5, 4, "2.500")],
)
def test_significant_digits(value, digits, text):
    assert significant(value, digits) == text


def test_what_is_not_finite():
    assert significant(math.inf) == "inf"
    assert with_error(2.0, math.inf) == "2.000"


def test_numbers_with_errors():
    assert with_error(2.3456, 0.0123) == "2.346 ± 0.012"
    assert percent(0.1234) == "12.3 %"
    assert percent(0.1234, 0.01) == "12.3 ± 1.0 %"


def test_shares_from_ten_on_are_so_many_times():
    assert [percent(share) for share in (9.994, 10.0, -12.34, 3705.254)] == [
        "999.4 %",
        "10.0 times",
        "-12.3 times",
        "3,705 times",
    ]
    assert percent(37.0512, 0.42) == "37.05 ± 0.42 times"
    assert percent(0.12345, places=2) == "12.35 %"
    assert percent(math.inf) == "inf %"


def test_words():
    assert count(1, "network") == "1 network"
    assert count(1204, "network") == "1,204 networks"
    assert count(2, "study", "studies") == "2 studies"
    assert (duration(5), duration(600), duration(7200)) == ("5 s", "10 min", "2.0 h")
    assert [listed(x) for x in ([], ["a"], ["a", "b"], "abc")] == ["", "a", "a and b", "a, b and c"]
