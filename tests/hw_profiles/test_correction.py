from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_profiles.latency.correction import (
    BASE_ERROR,
    Accuracy,
    Correction,
    accuracy,
    expected_error,
    fit_correction,
    reach_of,
)


def fit(sums, layers, wholes):
    return fit_correction([{"": value} for value in sums], layers, wholes)


def whole(line, parts_ms, layers):
    return line.whole_ms(line.factor("") * parts_ms, layers)


def test_a_correction_is_a_straight_line():
    assert Correction(2.0, 10.0, 100.0).whole_ms(3.0, 4) == 416.0


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.integers(1, 8), st.floats(0.05, 30)), min_size=1, max_size=8),
    st.lists(st.floats(0.001, 10), min_size=1, max_size=4),
    st.integers(1, 40),
)
def test_no_network_takes_no_time_and_more_work_takes_no_less(timed, sums, layers):
    line = fit(*map(list, zip(*timed, strict=True)))
    alone = [line.whole_ms(ms, layers) for ms in sorted(sums)]
    assert alone[0] > 0
    assert alone == sorted(alone)
    together = line.whole_ms(np.array(sorted(sums)), np.full(len(sums), layers))
    assert together.tolist() == pytest.approx(alone)


def test_without_networks_the_sum_stands():
    assert fit_correction([], [], []) == Correction(1.0, 0.0, 0.0)


def test_a_plain_sum_is_found_to_be_one():
    sums, layers = [1.0, 2.0, 3.0, 5.0], [2, 3, 4, 4]
    line = fit(sums, layers, sums)
    assert (line.scale, line.offset_ms, line.per_layer_ms) == pytest.approx((1.0, 0.0, 0.0), abs=1e-4)
    assert line.factors == {"": 1.0}


@given(st.floats(0.85, 1.15), st.floats(-0.05, 0.05), st.floats(-0.01, 0.01))
def test_a_mild_line_is_recovered_in_what_it_predicts(scale, offset, per_layer):
    truth = Correction(scale, offset, per_layer)
    sums, layers = [1.0, 2.0, 3.0, 5.0, 4.0, 2.5, 1.5, 6.0], [2, 3, 2, 4, 2, 4, 2, 3]
    wholes = [truth.whole_ms(*pair) for pair in zip(sums, layers, strict=True)]
    line = fit(sums, layers, wholes)
    for pair, truly in zip(zip(sums, layers, strict=True), wholes, strict=True):
        assert whole(line, *pair) == pytest.approx(truly, rel=0.02)


def test_one_network_moves_the_line_but_does_not_throw_it():
    line = fit([10.0], [4], [11.0])
    assert whole(line, 10.0, 4) == pytest.approx(11.0, rel=0.01)
    assert 1.0 <= line.scale <= 1.1


def test_accuracy_by_hand():
    found = accuracy([11.0, 18.0, 30.0], [10.0, 20.0, 30.0])
    assert found.n == 3
    assert (found.mape, found.bias) == pytest.approx((0.2 / 3, 0.0), abs=1e-6)
    assert found.rms == pytest.approx((0.02 / 3) ** 0.5, abs=1e-6)
    assert (found.tau, found.tau_high) == (1.0, 1.0)


def test_the_interval_of_tau_holds_tau():
    predicted = [1.0, 3.0, 2.0, 4.0, 6.0, 5.0, 7.0, 8.0]
    found = accuracy(predicted, [float(i) for i in range(1, 9)])
    assert found.tau_low < found.tau < found.tau_high <= 1.0
    assert found == accuracy(predicted, [float(i) for i in range(1, 9)])


def test_too_few_networks_have_no_accuracy():
    assert accuracy([], []) == Accuracy(0)
    assert accuracy([1.0], [2.0]).tau is None
    assert accuracy([1.0], [2.0]).mape == 0.5


def test_equal_values_have_no_rank():
    assert accuracy([1.0, 1.0], [1.0, 2.0]).tau is None
    assert accuracy([1.0, 1.0], [1.0, 2.0]).tau_low is None


def test_a_family_that_takes_more_inside_a_network_is_found():
    dice = Random(0)
    parts = [{"a": dice.uniform(1, 5), "b": dice.uniform(1, 5)} for _ in range(30)]
    wholes = [1.05 * sums["a"] + 0.95 * sums["b"] for sums in parts]
    line = fit_correction(parts, [4] * 30, wholes)
    assert line.factor("a") > 1.02 > 0.98 > line.factor("b")
    assert line.factor("unheard of") == 1.0
    for sums, truly in zip(parts, wholes, strict=True):
        corrected = line.whole_ms(sum(line.factor(name) * ms for name, ms in sums.items()), 4)
        assert corrected == pytest.approx(truly, rel=0.01)


def test_a_width_that_takes_more_is_found():
    dice = Random(1)
    parts = [{"a": dice.uniform(1, 5), "b": dice.uniform(1, 5)} for _ in range(30)]
    widths = [dice.choice([64, 128, 256]) for _ in parts]
    true = {64: 1.06, 128: 0.95, 256: 1.0}
    wholes = [true[width] * sum(sums.values()) for width, sums in zip(widths, parts, strict=True)]
    line = fit_correction(parts, [4] * 30, wholes, widths)
    assert line.factor("a", 64) > line.factor("a", 256) > line.factor("a", 128)
    assert line.factor("a", 96) == line.factor("a")
    for width, sums, truly in zip(widths, parts, wholes, strict=True):
        corrected = line.whole_ms(sum(line.factor(name, width) * ms for name, ms in sums.items()), 4)
        assert corrected == pytest.approx(truly, rel=0.01)
    one_for_all = fit_correction(parts, [4] * 30, wholes)
    worst = max(
        abs(
            one_for_all.whole_ms(sum(one_for_all.factor(name) * ms for name, ms in sums.items()), 4) / truly
            - 1
        )
        for sums, truly in zip(parts, wholes, strict=True)
    )
    assert worst > 0.03


def test_exact_measurements_are_followed_more_closely():
    parts, wholes = [{"a": 1.0}, {"b": 1.0}] * 4, [1.3, 1.0] * 4
    loose, close = (fit_correction(parts, [2] * 8, wholes, noise=noise) for noise in (0.2, 0.002))
    assert close.factor("a") / close.factor("b") > loose.factor("a") / loose.factor("b") > 1


def test_the_reach_is_the_conformal_quantile():
    scores = [i / 10 for i in range(1, 21)]
    assert reach_of(scores) == 1.9  # the 19th of 20: ceil(21 * 0.9)
    assert reach_of(scores[:9]) == 0.9
    assert reach_of([1.0, 2.0]) == 3.0  # two cannot say: the larger, half as much again
    assert reach_of([]) is None


def test_nine_in_ten_new_networks_lie_within_reach():
    dice, inside = Random(1), 0
    for _ in range(400):
        errors = [abs(dice.gauss(0, 0.05)) for _ in range(17)]
        inside += errors[0] / BASE_ERROR <= reach_of([error / BASE_ERROR for error in errors[1:]])
    assert 0.87 < inside / 400 < 0.99


def test_expected_errors_scale_the_reach():
    assert expected_error(0.0) == BASE_ERROR
    predicted, measured = [10.0] * 10, [10.0 + i / 10 for i in range(10)]
    plain, wide = accuracy(predicted, measured), accuracy(predicted, measured, [0.1] * 10)
    assert plain.reach == pytest.approx(0.09 / BASE_ERROR)
    assert wide.reach == pytest.approx(0.9)
