"""Orders of layers, in configurations and back."""

from __future__ import annotations

import pytest

from foundation.errors import SettingError
from search_spaces.families.config import Config
from search_spaces.families.keys import Ratio
from search_spaces.families.nemotron_h import Halves
from search_spaces.families.stacks import Periodic

EVERY = Periodic("period", "offset", ("a", "b"), (8, 4))


@pytest.mark.parametrize("text", ["", "b", "a", "bbb", "aaaa", "bab", "bbabba", "abbab", "bbbabb"])
def test_layers_that_are_equally_far_apart_are_said_by_two_numbers(text: str) -> None:
    written = EVERY.write(list(text))
    assert 0 <= written["offset"] < written["period"]
    if text:
        assert EVERY.read(Config(written)) == list(text)


@pytest.mark.parametrize("text", ["aab", "abaa", "bababba", "abbaa"])
def test_others_are_refused(text: str) -> None:
    with pytest.raises(SettingError, match="layers with a must be equally far apart, and are"):
        EVERY.write(list(text))


def test_periods_and_offsets_must_fit() -> None:
    usual = Config({"num_hidden_layers": 6})
    assert EVERY.read(usual) == list("bbbbab")
    with pytest.raises(SettingError, match="offset must be a whole number from 0 to 3, got 4"):
        EVERY.read(usual.with_values(period=4))
    with pytest.raises(SettingError, match="period must be a positive whole number, got 0"):
        EVERY.read(usual.with_values(period=0))


def test_a_ratio_that_is_no_whole_number_is_refused() -> None:
    ratio = Ratio("expand", ("channels",))
    assert ratio.write({"channels": 96}, 48) == {"expand": 2}
    for value in (float("nan"), float("inf"), 1e308, -1e308, 0, "x"):
        with pytest.raises(SettingError, match="expand must be a "):
            ratio.read(Config({"expand": value, "hidden_size": 48}))
    with pytest.raises(SettingError, match="channels is 72, and expand says multiples of 48 only"):
        ratio.write({"channels": 72}, 48)


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        (["mamba", "mlp", "attention"], ["linear_attention mlp", "full_attention"]),
        (["full_attention", "linear_attention", "mlp"], ["full_attention", "linear_attention mlp"]),
    ],
)
def test_a_perceptron_ends_the_layer_before_it(words: list[str], labels: list[str]) -> None:
    stack = Halves()
    assert stack.read(Config({stack.key: words})) == labels
    assert stack.read(Config(stack.write(labels))) == labels


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["mlp", "mamba"], r"\.0 must be .* mlp behind one of them, got 'mlp'"),
        (["mamba", "mlp", "mlp"], r"\.2 must be"),
        (["mamba", "moe"], r"\.1 must be .* \(experts without gates are not known here\), got 'moe'"),
        (["mamba", 3], r"\.1 must be"),
        ([], "must be a list of layers"),
        ("M", "must be a list of layers"),
    ],
)
def test_other_halves_are_refused(words: object, why: str) -> None:
    with pytest.raises(SettingError, match=why):
        Halves().read(Config({"layers_block_type": words}))
