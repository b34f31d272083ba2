"""The rule, on published data: the same runs are reproduced, weaker methods are below, too few seeds say nothing."""

import math

import numpy as np
import pytest

from repro.evaluation import statistics
from repro.evaluation.statistics import of_scores, t_estimate
from repro.tracker import aggregates, published, targets
from repro.tracker.verdict import decide, decide_claim

SUITES = [
    ("dreamerv3", "atari100k", "ppo_fixhp"),
    ("dreamerv3", "atari_200m", "ppo_fixhp"),
    ("dreamerv3", "dmc_proprio", "ppo_fixhp"),
    ("dreamerv3", "dmc_vision", "sac"),
    ("dreamerv2", "atari_200m", None),
    ("iris", "atari100k", "simple"),
]


def verdicts(paper: str, suite: str, method: str, most: int | None = None) -> dict[str, str]:
    """Task -> verdict on a method's released runs as if they were ours; tasks with fewer than three are left out."""
    table = published.load(paper)
    found = {}
    for task in table.tasks(suite, table.method(suite)):
        runs = table.per_seed(suite, task, method)
        if len(runs) >= 3:
            row = table.row(suite, task, table.method(suite))
            target = targets.estimate(table, row)
            margin = targets.margin(table, suite, task, target.value)
            found[task] = decide(of_scores(runs[:most]), target, margin).label
    return found


@pytest.mark.parametrize(("paper", "suite", "weaker"), SUITES)
def test_official_runs_as_ours_are_reproduced(paper, suite, weaker):
    found = verdicts(paper, suite, published.load(paper).method(suite))
    assert len(found) >= 18 and set(found.values()) == {"reproduced"}


@pytest.mark.parametrize(("paper", "suite", "weaker"), SUITES)
def test_two_of_the_official_runs_are_inconclusive(paper, suite, weaker):
    found = verdicts(paper, suite, published.load(paper).method(suite), most=2)
    assert set(found.values()) == {"inconclusive"}


@pytest.mark.parametrize(("paper", "suite", "weaker"), [s for s in SUITES if s[2]])
def test_a_weaker_methods_runs_are_below_wherever_it_clearly_is(paper, suite, weaker):
    """Below wherever it steadily scores less than half (counted from random play); never above where it scores less."""
    table = published.load(paper)
    found = verdicts(paper, suite, weaker)
    clearly = 0
    for task, label in found.items():
        row = table.row(suite, task, table.method(suite))
        target, runs = targets.estimate(table, row), of_scores(table.per_seed(suite, task, weaker))
        low = (table.references(suite, task) or (0.0, 0.0))[0]
        if runs.value < target.value:
            assert label != "above", task
        steady = (
            runs.half_width + (target.half_width if math.isfinite(target.half_width) else 0) < target.value - runs.value
        )
        if runs.value - low < 0.5 * (target.value - low) and steady:
            clearly += 1
            assert label == "below", task
    assert clearly >= 4


def test_aggregates_follow_the_same_rule():
    table = published.load("dreamerv3")
    rows = [table.row("atari100k", t, "dreamerv3") for t in table.tasks("atari100k", "dreamerv3")]
    target = aggregates.published(table, "atari100k", rows, "mean")
    margin = aggregates.MARGIN * target.value
    columns = [
        statistics.normalise(table.per_seed("atari100k", r.task, "ppo_fixhp"), *table.references("atari100k", r.task))
        for r in rows
    ]
    weak = statistics.of_table(statistics.table(columns), statistics.mean, reps=2_000)
    assert decide(weak, target, margin).label == "below"
    assert decide(target._replace(seeds=5), target, margin).label == "reproduced"
    assert decide(target._replace(seeds=2), target, margin).label == "inconclusive"


def test_a_faithful_reproduction_is_hardly_ever_contradicted():
    """Five runs against five of the same distribution, 4,000 times: above and below together in under 1 %."""
    generator = np.random.default_rng(0)
    labels = []
    for spread in (0.05, 0.15, 0.3, 0.6):
        for _ in range(1_000):
            ours, theirs = generator.normal(1, spread, (2, 5))
            labels.append(decide(of_scores(ours), of_scores(theirs), 0.25).label)
    assert sum(label in ("above", "below") for label in labels) < 0.01 * len(labels)
    assert sum(label == "reproduced" for label in labels) > 0.6 * len(labels)


def test_a_run_at_half_the_score_is_hardly_ever_called_reproduced():
    generator = np.random.default_rng(1)
    labels = []
    for spread in (0.05, 0.1, 0.2):
        for _ in range(500):
            labels.append(
                decide(
                    of_scores(generator.normal(0.5, spread, 5)), of_scores(generator.normal(1, spread, 5)), 0.25
                ).label
            )
    assert sum(label == "reproduced" for label in labels) < 0.02 * len(labels)
    assert sum(label == "below" for label in labels) > 0.8 * len(labels)


PAPER = t_estimate(100.0, 5.0, 5)


def test_no_record_is_untested_and_no_published_number_unpublished():
    assert decide(None, PAPER, 10, recorded=False).label == "untested"
    assert decide(of_scores([1, 2, 3]), None, 10).label == "unpublished"
    assert decide(None, PAPER, 10).label == "inconclusive"


def test_a_short_run_is_partial_whatever_it_scores():
    verdict = decide(of_scores([50.0, 51.0, 52.0]), PAPER, 10, fraction=0.2, step=1000)
    assert (verdict.label, verdict.outcome, str(verdict)) == ("partial", "below", "partial: below at 1,000")
    assert not verdict.contradicts
    assert decide(of_scores([100.0] * 3), None, 10, fraction=0.2).label == "partial"


def test_changed_settings_never_show_as_a_plain_reproduction_nor_contradict():
    changed = {"agent.size": {"paper": "200M", "used": "1M"}}
    same = decide(of_scores([99.0, 100.0, 101.0]), PAPER, 10, changed=changed)
    assert str(same) == "reproduced, changed settings"
    worse = decide(of_scores([49.0, 50.0, 51.0]), PAPER, 10, changed=changed)
    assert str(worse) == "below, changed settings" and not worse.contradicts
    assert decide(of_scores([49.0, 50.0, 51.0]), PAPER, 10).contradicts


def test_a_difference_within_the_margin_is_none_even_if_it_is_certain():
    ours, theirs = t_estimate(95.0, 0.1, 5), t_estimate(100.0, 0.1, 5)
    verdict = decide(ours, theirs, 10)
    assert verdict.label == "reproduced" and verdict.difference.equivalence_p < 0.001
    assert decide(ours, theirs, 4).label == "below"


def test_wide_intervals_are_inconclusive():
    assert decide(t_estimate(100.0, 60.0, 5), PAPER, 10).label == "inconclusive"
    assert decide(t_estimate(130.0, 60.0, 5), PAPER, 10).label == "inconclusive"


def test_a_single_published_run_is_contradicted_only_beyond_the_margin():
    single = t_estimate(100.0, 0.0, 1)
    assert decide(t_estimate(80.0, 1.0, 5), single, 25).label == "reproduced"
    assert decide(t_estimate(74.0, 3.0, 5), single, 25).label == "inconclusive"  # our interval reaches the margin
    assert decide(t_estimate(60.0, 3.0, 5), single, 25).label == "below"


@pytest.mark.parametrize(
    ("runs", "low", "high", "label"),
    [
        ([5.0, 7.0, 9.0, 8.0], 5, 10, "reproduced"),
        ([2.0, 2.5, 2.2], 5, 10, "below"),
        ([20.0, 21.0, 19.0], 5, 10, "above"),
        ([1.0, 9.0, 12.0], 0, math.inf, "inconclusive"),
        ([8.0, 9.0, 12.0], 0, math.inf, "reproduced"),
        ([-8.0, -9.0, -12.0], 0, math.inf, "below"),
        ([8.0, 9.0], 0, math.inf, "inconclusive"),
    ],
)
def test_statements_are_judged_by_where_our_interval_lies(runs, low, high, label):
    assert decide_claim(of_scores(runs), low, high).label == label
