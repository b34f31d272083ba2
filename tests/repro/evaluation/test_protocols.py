"""Scores follow from episodes as the papers say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.errors import UsageError
from repro.evaluation import protocols
from repro.evaluation.protocols import Protocol, final_scores, learning_curve


def episodes(steps, returns):
    return [{"step": list(steps), "return": list(returns), "length": [1] * len(steps)}]


def test_dreamerv3_averages_the_training_episodes_of_the_last_bin():
    rule = protocols.of("dreamerv3", "atari100k")
    data = episodes([380_000, 390_000, 390_004, 395_000, 400_000], [0, 1000, 1, 2, 6])
    assert final_scores(rule, data, 400_000) == [
        3.0
    ]  # (390K, 400K]: the episode that ends at 390K is in the one before


def test_a_partial_budget_uses_the_last_complete_bin():
    rule = protocols.of("dreamerv3", "atari100k")
    data = episodes([8_000, 15_000, 19_000, 24_000], [1, 2, 4, 100])
    assert final_scores(rule, data, 25_000) == [3.0]
    assert final_scores(rule, data, 9_999) == [None]


def test_an_empty_last_bin_is_no_score_for_dreamerv3_and_the_last_earlier_one_for_dreamerv2():
    data = episodes([100_000, 1_400_000], [5, 7])
    assert final_scores(protocols.of("dreamerv2", "atari_200m"), data, 199_000_000) == [7.0]
    assert final_scores(protocols.of("dreamerv3", "atari_200m"), data, 200_000_000) == [None]


def test_dreamerv1_bins_start_at_the_first_evaluation():
    """Released curves: x = 5000 + 1e5 i, each the mean of ten evaluations, the first the evaluation at 5000 alone."""
    rule = protocols.of("dreamerv1", "dmc_vision")
    steps = np.arange(5_000, 5_000_000, 10_000)
    returns = np.arange(len(steps), dtype=float)
    curve = learning_curve(rule, episodes(steps, returns), 5_000_000)[0]
    assert [p[0] for p in curve] == [5_000 + 100_000 * i for i in range(50)]
    assert curve[0][1] == 0.0
    assert curve[1][1] == np.mean(range(1, 11))
    assert final_scores(rule, episodes(steps, returns), 5_000_000) == [curve[-1][1]]


def test_final_evaluation_counts_only_the_last_one():
    rule = protocols.of("iris", "atari100k")
    data = episodes([50_000] * 2 + [100_000] * 4, [1, 3, 10, 20, 30, 40])
    assert final_scores(rule, data, 100_000) == [25.0]
    assert learning_curve(rule, data, 100_000) == [[[50_000.0, 2.0], [100_000.0, 25.0]]]


def test_statistics_average_their_samples_and_have_no_curve():
    rule = Protocol("first_episode", "steps of the first episode", kind="statistic", step_unit="episodes")
    data = [{"return": [800.0, 900.0]}, {"return": [700.0]}, {"return": []}]
    assert final_scores(rule, data, 1) == [850.0, 700.0, None]
    assert learning_curve(rule, data, 1) == [[], [], []]


def test_the_curve_has_the_bins_of_the_published_one():
    from repro.tracker import published

    table = published.load("dreamerv3")
    for suite in ("atari100k", "atari_200m", "dmc_proprio", "dmc_vision", "dmlab30", "procgen_hard"):
        rule = protocols.of("dreamerv3", suite)
        points = table.curve(suite, table.tasks(suite, "dreamerv3")[0], "dreamerv3")
        assert points.unit == rule.step_unit
        assert set(np.diff(points.step)) == {rule.curve_width} and points.step[0] == rule.curve_width


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 400_000), st.floats(-100, 100)), min_size=1, max_size=40),
    st.integers(1_000, 400_000),
)
def test_bins_partition_the_episodes(pairs, budget):
    """Curve points average back to all episodes of complete bins, each counted once."""
    pairs.sort()
    steps, returns = zip(*pairs, strict=True)
    rule = Protocol("bins", "equal bins", bin_width=10_000)
    end = budget // 10_000 * 10_000
    curve = learning_curve(rule, episodes(steps, returns), budget)[0]
    counts = [sum(1 for s in steps if p - 10_000 < s <= p) for p, _ in curve]
    assert sum(counts) == sum(s <= end for s in steps)
    total = sum(r for s, r in zip(steps, returns, strict=True) if s <= end)
    assert sum(c * v for c, (_, v) in zip(counts, curve, strict=True)) == pytest.approx(total, abs=1e-6)


def test_a_protocol_survives_the_record():
    for rule in protocols.PROTOCOLS.values():
        assert protocols.from_dict(protocols.to_dict(rule)) == rule


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"name": "x"}, "needs a description"),
        ({"name": "x", "description": "y", "bin": 3}, "unknown field"),
        ({"name": "x", "description": "y", "bin_width": "3"}, "must be int"),
        ({"name": "x", "description": "y", "kind": "best"}, "unknown kind"),
        ({"name": "x", "description": "y"}, "bin_width must be positive"),
        ({"name": "x", "description": "y", "kind": "final", "evaluation_episodes": -1}, "negative"),
    ],
)
def test_bad_protocols_are_refused(data, complaint):
    with pytest.raises(UsageError, match=complaint):
        protocols.from_dict(data)


def test_an_unknown_protocol_names_the_nearest():
    with pytest.raises(UsageError, match="dreamerv3/atari100k"):
        protocols.of("dreamerv3", "atari_100k")
