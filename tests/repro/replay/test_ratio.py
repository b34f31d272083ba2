import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.errors import UsageError
from repro.replay import UpdateRatio


@given(st.integers(1, 6), st.integers(0, 5000), st.integers(1, 400))
def test_updates_keep_the_ratio_to_steps_exactly(power, begin, steps):
    ratio = 2.0**-power
    due = UpdateRatio(ratio)
    total = sum(due(begin + step) for step in range(steps))
    assert total == 1 + math.floor((steps - 1) * ratio)


def test_more_than_one_update_a_step():
    due = UpdateRatio(4)
    assert [due(step) for step in (10, 11, 12, 14)] == [1, 4, 4, 8]
    due = UpdateRatio(2.5)
    assert abs(sum(due(step) for step in range(1001)) - 2501) <= 1


def test_restored_counter_continues_exactly():
    due, other = UpdateRatio(0.3), UpdateRatio(0.3)
    other.restore(due.state())
    assert [due(step) for step in range(7)] == [other(step) for step in range(7)]
    other = UpdateRatio(0.3)
    other.restore(due.state())
    assert [due(step) for step in range(7, 50)] == [other(step) for step in range(7, 50)]


def test_zero_never_trains_and_nonsense_is_refused():
    assert [UpdateRatio(0)(step) for step in range(3)] == [0, 0, 0]
    for ratio in (-1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="ratio"):
            UpdateRatio(ratio)
