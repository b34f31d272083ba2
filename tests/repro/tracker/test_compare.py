"""Records meet the right published number: pooled, budget-matched, honest about changed settings."""

import dataclasses

import pytest

from repro.evaluation import protocols
from repro.evaluation.protocols import Protocol
from repro.tracker import compare, published, records, text


def row(suites, suite: str, task: str, metric: str = "episode_return", method: str | None = None):
    return next(
        r
        for s in suites
        for r in s.rows
        if (r.suite, r.task, r.metric) == (suite, task, metric) and method in (None, r.method)
    )


def test_without_records_every_row_is_untested_in_the_papers_order():
    for paper in published.papers():
        table = published.load(paper)
        for suite in compare.suites(paper, []):
            cited = {(e["task"], e["method"]) for e in table.facts.get("rows", ()) if e.get("cited")}
            for row in suite.rows:
                assert row.verdict.label == ("not judged" if (row.task, row.method) in cited else "untested")
            assert all(a.verdict.label == "untested" for a in suite.aggregates)
            tasks = table.tasks(suite.suite, table.method(suite.suite), table.suite(suite.suite)["metric"])
            assert [r.task for r in suite.rows][: len(tasks)] == tasks


def test_the_official_runs_as_records_are_reproduced(sample):
    table = published.load("dreamerv3")
    made = [
        sample.record(table.per_seed("dmc_proprio", task, "dreamerv3"), task=task)
        for task in table.tasks("dmc_proprio", "dreamerv3")
    ]
    (suite,) = [s for s in compare.suites("dreamerv3", _with_ids(made)) if s.suite == "dmc_proprio"]
    assert suite.counts == {"reproduced": 18}
    assert {a.name: a.verdict.label for a in suite.aggregates} == {
        "mean_return": "reproduced",
        "median_return": "reproduced",
    }
    assert suite.aggregates[0].printed == 754


def _with_ids(made):
    return [{**r, "id": records.digest(r)[:12]} for r in made]


def test_a_weaker_method_is_below_and_contradicts(sample):
    runs = published.load("dreamerv3").per_seed("dmc_proprio", "cheetah_run", "ppo_fixhp")
    found = compare.suites("dreamerv3", _with_ids([sample.record(runs, task="cheetah_run")]))
    verdict = row(found, "dmc_proprio", "cheetah_run").verdict
    assert verdict.label == "below" and verdict.contradicts


def test_a_shortened_run_is_compared_with_the_published_curve_at_the_same_step(sample):
    table = published.load("dreamerv3")
    curve = table.curve("dmc_proprio", "walker_walk", "dreamerv3")
    at = curve.step.index(100_000)
    runs = [curve.mean[at] + d for d in (-1.0, 0.0, 1.0)]
    short = sample.record(runs, used=110_000, rise=lambda f: 1.0)
    found = row(compare.suites("dreamerv3", _with_ids([short])), "dmc_proprio", "walker_walk")
    assert str(found.verdict) == "partial: reproduced at 100,000"
    assert found.verdict.published.value == curve.mean[at]
    assert not found.verdict.contradicts
    bad = sample.record([10.0, 11.0, 12.0], used=110_000, rise=lambda f: 1.0)
    verdict = row(compare.suites("dreamerv3", _with_ids([bad])), "dmc_proprio", "walker_walk").verdict
    assert (verdict.label, verdict.outcome, verdict.contradicts) == ("partial", "below", False)


def test_frames_and_environment_steps_are_the_same_budget(sample):
    """EfficientZero counts updates and environment steps one to one, and a frame is a quarter of a step."""
    rule = dataclasses.replace(protocols.of("efficientzero", "atari100k"), step_unit="frames")
    curve = published.load("efficientzero").curve("atari100k", "pong", "efficientzero")
    value = curve.mean[curve.step.index(50_000)]
    record = sample.record(
        [value] * 3, paper="efficientzero", suite="atari100k", task="pong", protocol=rule, used=200_000, budget=400_000
    )
    verdict = row(compare.suites("efficientzero", _with_ids([record])), "atari100k", "pong").verdict
    assert verdict.published.value == value and verdict.outcome == "reproduced"


def test_a_run_too_short_for_the_curve_says_so(sample):
    record = sample.record([30.0] * 3, used=20_000, protocol=Protocol("x", "y", bin_width=5_000))
    verdict = row(compare.suites("dreamerv3", _with_ids([record])), "dmc_proprio", "walker_walk").verdict
    assert verdict.label == "partial" and verdict.outcome is None and "no published learning curve" in verdict.reason


def test_a_longer_run_is_judged_at_the_published_budget(sample):
    """A run of 1M steps against the table at 500K: only what came before 500K counts."""
    record = sample.record([900.0] * 3, used=1_000_000, budget=1_000_000)
    found = row(compare.suites("dreamerv3", _with_ids([record])), "dmc_proprio", "walker_walk")
    assert found.verdict.ours.value == pytest.approx(450.0)
    assert found.group.fraction == 1.0 and found.verdict.label == "below"


def test_records_of_one_experiment_are_pooled_and_a_seed_counts_once(sample):
    one = sample.record([900.0, 910.0], seeds=[0, 1])
    other = sample.record([920.0, 930.0, 100.0], seeds=[2, 3, 1], created="2026-02-02T00:00:00Z")
    found = row(compare.suites("dreamerv3", _with_ids([other, one])), "dmc_proprio", "walker_walk")
    assert sorted(found.group.scores) == [900.0, 910.0, 920.0, 930.0]
    assert len(found.group.records) == 2 and not found.also


def test_changed_settings_stay_apart_and_are_labelled(sample):
    changed = {"agent.size": {"paper": "200M", "used": "1M"}}
    full = sample.record([900.0, 910.0], seeds=[0, 1])
    small = sample.record([920.0] * 5, deviations=changed)
    found = row(compare.suites("dreamerv3", _with_ids([small, full])), "dmc_proprio", "walker_walk")
    assert not found.group.changed and found.verdict.label == "inconclusive"  # two seeds, but the paper's settings
    ((group, verdict),) = found.also
    assert group.changed == changed and str(verdict).endswith(", changed settings")
    suite = next(s for s in compare.suites("dreamerv3", _with_ids([small])) if s.suite == "dmc_proprio")
    assert all(a.verdict.label == "untested" for a in suite.aggregates)
    assert "changed settings" in text.table(suite)
    as_json = text.suite_json(suite)["rows"]
    assert [r["verdict"] for r in as_json if r["group"]] == ["reproduced, changed settings"]


def test_partial_suites_aggregate_over_the_recorded_tasks_of_both_sides(sample):
    table = published.load("dreamerv3")
    tasks = ["walker_walk", "cheetah_run", "cup_catch"]
    made = [sample.record(table.per_seed("dmc_proprio", t, "dreamerv3"), task=t) for t in tasks]
    suite = next(s for s in compare.suites("dreamerv3", _with_ids(made)) if s.suite == "dmc_proprio")
    mean = suite.aggregates[0]
    assert (mean.tasks, mean.of, mean.verdict.label, mean.verdict.outcome) == (3, 18, "partial", "reproduced")
    expected = sum(table.row("dmc_proprio", t, "dreamerv3").value for t in tasks) / 3
    assert mean.verdict.published.value == pytest.approx(expected)
    assert "over 3 of 18 tasks" in text.table(suite)


def test_human_normalised_aggregates_of_official_atari_runs_agree_with_the_paper(sample):
    table = published.load("iris")
    made = [
        sample.record(table.per_seed("atari100k", t, "iris"), paper="iris", suite="atari100k", task=t, budget=100_000)
        for t in table.tasks("atari100k", "iris")
    ]
    suite = next(s for s in compare.suites("iris", _with_ids(made)) if s.suite == "atari100k")
    assert {a.name: a.verdict.label for a in suite.aggregates} == dict.fromkeys(
        ("mean_hns", "median_hns", "iqm_hns", "optimality_gap"), "reproduced"
    )
    values = {a.name: a.verdict.ours.value for a in suite.aggregates}
    assert values["mean_hns"] == pytest.approx(1.0459, abs=1e-4) and values["iqm_hns"] == pytest.approx(
        0.5012, abs=1e-4
    )


def statistic(**fields):
    return Protocol("first_episode", "samples", kind="statistic", step_unit="episodes", **fields)


def dyna_record(sample, samples, *, task, metric, protocol=None, method="dyna_q", suite="dyna_maze"):
    record = sample.record([0.0] * len(samples), paper="dyna", suite=suite, task=task, protocol=protocol or statistic())
    episodes = [{"return": [s]} for s in samples]
    return {
        **record,
        "method": method,
        "metric": metric,
        "episodes": episodes,
        "scores": [float(s) for s in samples],
        "curve": [[] for _ in samples],
        "budget": {"used": 50.0, "paper": 50.0, "unit": "episodes"},
        "budget_fraction": 1.0,
    }


def test_declared_margins_statements_and_exact_numbers_have_their_own_rule(sample):
    episodes = "episodes_to_optimal_performance"
    made = [
        dyna_record(sample, [24, 27, 23, 25], task="n0", metric=episodes),
        dyna_record(sample, [3, 3, 4, 3, 3] * 6, task="n50", metric=episodes, protocol=statistic(aggregate="median")),
        dyna_record(sample, [870.0, 860.0, 880.0, 868.0], task="all", metric="first_episode_steps"),
        dyna_record(
            sample, [870.0, 860.0, 880.0, 868.0], task="all", metric="first_episode_steps", method="exact_random_walk"
        ),
        dyna_record(
            sample, [6.0, 7.5, 9.0], task="all", metric="speed_up_over_dyna_q", method="prioritized_sweeping",
            suite="prioritized_sweeping_mazes",
        ),
    ]  # fmt: skip
    for record in made:
        records.save(record, sample.results)
    found = compare.suites("dyna", records.load_all(sample.results))
    assert row(found, "dyna_maze", "n0", episodes).verdict.label == "reproduced"
    assert row(found, "dyna_maze", "n50", episodes).verdict.label == "reproduced"
    assert row(found, "dyna_maze", "n5", episodes).verdict.label == "untested"
    steps = [r for s in found for r in s.rows if r.metric == "first_episode_steps"]
    assert {r.method: r.verdict.label for r in steps} == {"dyna_q": "not judged", "exact_random_walk": "reproduced"}
    claim = row(found, "prioritized_sweeping_mazes", "all", "speed_up_over_dyna_q")
    assert (claim.printed, claim.verdict.label) == ("5 to 10", "reproduced")


def test_an_exact_number_is_missed_beyond_four_standard_errors(sample):
    record = dyna_record(
        sample, [400.0, 410.0, 405.0], task="all", metric="first_episode_steps", method="exact_random_walk"
    )
    found = compare.suites("dyna", _with_ids([record]))
    assert row(found, "dyna_maze", "all", "first_episode_steps", "exact_random_walk").verdict.label == "below"


def test_records_without_a_published_number_are_shown(sample):
    record = sample.record([1.0, 2.0, 3.0], suite="catch", task="catch", protocol=statistic())
    record |= {"episodes": [{"return": [s]} for s in (1.0, 2.0, 3.0)], "scores": [1.0, 2.0, 3.0], "curve": [[], [], []]}
    found = compare.suites("dreamerv3", _with_ids([record | {"step_unit": "episodes"}]))
    assert row(found, "catch", "catch").verdict.label == "unpublished"


def test_a_new_record_is_rendered_with_its_reason(sample):
    path = sample.save([955.0, 960.0, 950.0])
    shown = compare.render_records("dreamerv3", [path])
    assert "walker_walk" in shown and "reproduced" in shown and "within the margin" in shown
    assert "cheetah_run" not in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.123456, "0.1235"),
        (12.3456, "12.35"),
        (950.0, "950"),
        (1234.5, "1,234"),
        (-9299.1, "-9,299"),
        (5.5, "5.5"),
    ],
)
def test_numbers_are_short(value, shown):
    assert text.number(value) == shown
