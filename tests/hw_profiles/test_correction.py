import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_profiles.correction import Accuracy, Correction, accuracy, fit_correction, rank_agreement


def test_a_correction_is_a_straight_line():
    assert Correction(2.0, 10.0, 100.0).whole_ms(3.0, 4) == 416.0


def test_without_networks_the_sum_stands():
    assert fit_correction([], [], []) == Correction(1.0, 0.0, 0.0)


def test_a_plain_sum_is_found_to_be_one():
    sums, layers = [1.0, 2.0, 3.0, 5.0], [2, 3, 4, 4]
    line = fit_correction(sums, layers, sums)
    assert (line.scale, line.offset_ms, line.per_layer_ms) == pytest.approx((1.0, 0.0, 0.0), abs=1e-4)


@given(st.floats(0.85, 1.15), st.floats(-0.05, 0.05), st.floats(-0.01, 0.01))
def test_a_mild_line_is_recovered_in_what_it_predicts(scale, offset, per_layer):
    truth = Correction(scale, offset, per_layer)
    sums, layers = [1.0, 2.0, 3.0, 5.0, 4.0, 2.5, 1.5, 6.0], [2, 3, 2, 4, 2, 4, 2, 3]
    wholes = [truth.whole_ms(*pair) for pair in zip(sums, layers, strict=True)]
    line = fit_correction(sums, layers, wholes)
    for pair, whole in zip(zip(sums, layers, strict=True), wholes, strict=True):
        assert line.whole_ms(*pair) == pytest.approx(whole, rel=0.02)


def test_one_network_moves_the_line_but_does_not_throw_it():
    line = fit_correction([10.0], [4], [11.0])
    assert line.whole_ms(10.0, 4) == pytest.approx(11.0, rel=0.01)
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
    assert rank_agreement([1.0, 1.0], [1.0, 2.0]) is None
    assert accuracy([1.0, 1.0], [1.0, 2.0]).tau_low is None
