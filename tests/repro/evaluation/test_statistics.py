"""Our statistics equal rliable's: its stored results always, the library itself where it is installed.

`python tests/repro/evaluation/test_statistics.py` writes the stored results anew.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.evaluation import statistics
from repro.tracker import published

GOLDEN = Path(__file__).parents[2] / "golden" / "statistics" / "rliable.json"
THRESHOLDS = np.linspace(0, 2, 9)


def tables() -> dict[str, np.ndarray]:
    """IRIS and SimPLe on Atari 100k, human-normalised, 5 runs x 26 games each, and a small made-up table."""
    table = published.load("iris")
    found = {}
    for method in ("iris", "simple"):
        columns = [
            statistics.normalise(table.per_seed("atari100k", t, method), *table.references("atari100k", t))
            for t in table.tasks("atari100k", method)
        ]
        found[method] = statistics.table(columns)
    found["small"] = np.random.default_rng(3).gamma(0.7, 1.0, (3, 4)).round(6)
    return found


def rliable_results() -> dict:
    from rliable import library, metrics

    names = ("mean", "median", "iqm", "optimality_gap")
    functions = [getattr(metrics, f"aggregate_{name}") for name in names]
    random = np.random.RandomState(0)
    results: dict = {}
    for key, scores in tables().items():
        np.random.seed(0)
        points, intervals = library.get_interval_estimates(
            {key: scores}, lambda x: np.array([f(x) for f in functions]), reps=20_000, random_state=random
        )
        profile = library.create_performance_profile({key: scores}, THRESHOLDS, reps=20)[0][key]
        results[key] = {
            "points": dict(zip(names, map(float, points[key]), strict=True)),
            "intervals": {name: [float(x) for x in intervals[key][:, i]] for i, name in enumerate(names)},
            "profile": [float(x) for x in profile],
        }
    iris, simple = tables()["iris"], tables()["simple"]
    np.random.seed(0)
    point, between = library.get_interval_estimates(
        {"a": [iris, simple]}, metrics.probability_of_improvement, reps=2_000, random_state=random
    )
    results["iris over simple"] = {"point": float(point["a"]), "interval": [float(x) for x in between["a"][:, 0]]}
    return results


@pytest.fixture(scope="module")
def stored() -> dict:
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("key", ["iris", "simple", "small"])
def test_aggregates_and_profiles_equal_rliables(stored, key):
    scores = tables()[key]
    for name, value in stored[key]["points"].items():
        assert float(statistics.AGGREGATES[name](scores)) == pytest.approx(value, rel=1e-12), name
    profile = statistics.performance_profile(scores, THRESHOLDS)
    np.testing.assert_allclose(profile, stored[key]["profile"], rtol=1e-12)


@pytest.mark.parametrize("key", ["iris", "simple", "small"])
def test_bootstrap_intervals_equal_rliables_to_sampling_error(stored, key):
    """20,000 resamples put the ends of both within about 2 % of the interval's width."""
    for name, (low, high) in stored[key]["intervals"].items():
        ours = statistics.interval(tables()[key], statistics.AGGREGATES[name], reps=20_000)
        np.testing.assert_allclose(ours, (low, high), atol=0.04 * (high - low))


def test_probability_of_improvement_equals_rliables(stored):
    iris, simple = tables()["iris"], tables()["simple"]
    assert float(statistics.probability_of_improvement(iris, simple)) == pytest.approx(
        stored["iris over simple"]["point"], rel=1e-12
    )
    low, high = stored["iris over simple"]["interval"]
    ours = statistics.improvement_interval(iris, simple)
    np.testing.assert_allclose(ours, (low, high), atol=0.15 * (high - low))
    assert float(statistics.probability_of_improvement(iris, iris)) == 0.5


def test_the_stored_results_are_rliables(stored):
    pytest.importorskip("rliable")
    from rliable import metrics

    for key, scores in tables().items():
        for name, value in stored[key]["points"].items():
            assert float(getattr(metrics, f"aggregate_{name}")(scores)) == pytest.approx(value, rel=1e-12)


def test_unequal_runs_weigh_every_task_the_same():
    """A task with its runs doubled must not count double; with equal counts the NaN-aware path gives the same."""
    even = tables()["small"]
    uneven = statistics.table([np.tile(even[:, 0], 2), *even.T[1:]])
    assert np.isnan(uneven).sum() == 9
    for name in ("mean", "median", "optimality_gap", "capped_mean"):
        function = statistics.AGGREGATES[name]
        assert float(function(uneven)) == pytest.approx(float(function(even)))
    # 12 values: a quarter is exactly three of them, so the weighted and the counted IQM agree
    assert float(statistics.iqm(uneven)) == pytest.approx(float(statistics.iqm(even)))


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=6), min_size=1, max_size=5))
def test_resamples_draw_from_their_own_column(columns):
    scores = statistics.table(columns)
    drawn = statistics.resample(scores, 20, np.random.default_rng(0))
    assert np.array_equal(np.isnan(drawn), np.broadcast_to(np.isnan(scores), drawn.shape))
    for k, column in enumerate(columns):
        assert set(drawn[:, : len(column), k].ravel()) <= set(map(float, column))


def test_students_interval_covers_at_its_level():
    """2,000 experiments of five runs each: 95 % of the intervals hold the truth."""
    runs = np.random.default_rng(0).normal(10, 3, (2_000, 5))
    held = sum((e := statistics.of_scores(r)).low <= 10 <= e.high for r in runs)
    assert 0.94 < held / 2_000 < 0.96


def test_students_and_welchs_numbers_equal_scipys():
    from scipy import stats

    a, b = np.random.default_rng(1).normal(0, 1, 5), np.random.default_rng(2).normal(1, 3, 8)
    one = stats.ttest_1samp(a, 0).confidence_interval(0.95)
    ours = statistics.of_scores(a)
    assert (ours.low, ours.high) == pytest.approx((one.low, one.high))
    welch = stats.ttest_ind(a, b, equal_var=False)
    gap = statistics.difference(ours, statistics.of_scores(b), margin=2.5)
    interval = welch.confidence_interval(0.95)
    assert (gap.low, gap.high) == pytest.approx((interval.low, interval.high))
    lower = stats.ttest_ind(a + 2.5, b, equal_var=False, alternative="greater").pvalue
    upper = stats.ttest_ind(a - 2.5, b, equal_var=False, alternative="less").pvalue
    assert gap.equivalence_p == pytest.approx(max(lower, upper))


def test_one_run_has_no_interval_and_equal_constants_are_equivalent():
    one = statistics.of_scores([5.0])
    assert math.isinf(one.low) and math.isinf(one.half_width)
    assert statistics.difference(one, one, 1.0).equivalence_p == 1.0
    same = statistics.of_scores([100.0] * 5)
    assert statistics.difference(same, same, 0.0).equivalence_p == 0.0


def test_the_median_of_runs_has_a_bootstrap_interval():
    estimate = statistics.of_median([3.0] * 20 + [4.0] * 5)
    assert (estimate.value, estimate.low, estimate.high) == (3.0, 3.0, 3.0)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(rliable_results(), indent=1) + "\n")
