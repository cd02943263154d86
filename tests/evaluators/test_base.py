import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.scoring.base import Score, paired_difference, tied
from foundation.errors import EvaluationFailed, SettingError

losses = st.lists(st.floats(0, 10), min_size=2, max_size=30)


def test_score_is_mean_and_standard_error():
    score = Score.of([1.0, 2.0, 3.0])
    assert score == Score(2.0, 1 / math.sqrt(3), (1.0, 2.0, 3.0))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_score_must_be_finite(broken):
    with pytest.raises(EvaluationFailed, match=f"validation loss is {broken} on 1 windows"):
        Score.of([1.0, broken])


def test_pairing_cancels_what_the_windows_share():
    hard, easy = [4.0, 1.0, 3.0, 2.0], [3.9, 0.9, 2.9, 1.9]
    mean, error = paired_difference(hard, easy)
    assert mean == pytest.approx(0.1)
    assert error < 1e-9
    assert Score.of(hard).standard_error > 0.5
    assert not tied(hard, easy)
    assert tied(hard, hard)
    assert tied([1.0, 2.0], [2.0, 1.0])


@pytest.mark.parametrize("other", [[1.0], [1.0, 2.0, 3.0]])
def test_other_windows_cannot_be_paired(other):
    with pytest.raises(SettingError, match="same windows"):
        paired_difference(other, [1.0] * 2 if len(other) > 1 else [1.0])


@given(losses, st.floats(-1, 1))
def test_difference_is_antisymmetric_and_exact(samples, shift):
    shifted = [sample + shift for sample in samples]
    mean, error = paired_difference(shifted, samples)
    assert mean == pytest.approx(shift, abs=1e-9)
    assert error == pytest.approx(0, abs=1e-9)
    back, same_error = paired_difference(samples, shifted)
    assert (back, same_error) == (pytest.approx(-mean), pytest.approx(error))
