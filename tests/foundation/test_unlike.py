from foundation.unlike import unlike


def test_what_is_unlike_is_named_one_by_one():
    expected = {"seed": 0, "shape": (1, 2), "rate": None}
    assert unlike({"seed": 0, "shape": [1, 2], "rate": None, "more": 1}, expected) == ""
    assert unlike({"seed": 1, "shape": [1, 2], "rate": None}, expected) == "another seed"
    assert unlike({"seed": 1, "shape": [1, 2]}, expected) == "another rate and another seed"
    assert unlike("nonsense", expected) == "another rate, another seed and another shape"
