import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from foundation.statistics import bootstrap, interval, kendall_tau, mean_and_error, tau_with_interval

pairs = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=25)


@given(pairs)
def test_tau_is_that_of_scipy(values):
    one, other = zip(*values, strict=True)
    ours, theirs = kendall_tau(one, other), float(kendalltau(one, other).statistic)
    assert ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)


@given(pairs, st.integers(0, 9))
def test_an_interval_is_the_same_for_the_same_seed_and_holds_resamples(values, seed):
    one, other = zip(*values, strict=True)
    found = tau_with_interval(one, other, seed=seed, resamples=200)
    again = tau_with_interval(one, other, seed=seed, resamples=200)
    assert repr(found) == repr(again)
    assert math.isnan(found.low) or -1 - 1e-9 <= found.low <= found.high <= 1 + 1e-9


def test_a_perfect_ranking():
    found = tau_with_interval(range(12), range(12))
    assert (found.value, found.high) == (1.0, 1.0)
    assert str(found).startswith("1.00 (95 % interval")


def test_intervals_leave_out_what_is_not_defined():
    assert interval([1.0, math.nan, 2.0, 3.0], level=0.5) == (1.5, 2.5)


def test_a_bootstrap_interval_of_a_mean_covers_it_about_as_often_as_it_says():
    dice = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        samples = dice.normal(3.0, 1.0, size=40)
        low, high = bootstrap(lambda drawn: drawn.mean(1), samples, seed=seed, resamples=400, level=0.9)
        hits += low <= 3.0 <= high
    assert 160 <= hits <= 195  # 180 expected; outside once in ten thousand


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_mean_and_error(samples):
    mean, error = mean_and_error(samples)
    assert mean == pytest.approx(sum(samples) / len(samples), rel=1e-9, abs=1e-6)
    assert error == pytest.approx(statistics.stdev(samples) / len(samples) ** 0.5)
