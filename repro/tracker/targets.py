"""What a record is compared with: the published number as an estimate, its margin, the published curve at a step."""

import bisect
import math
from collections.abc import Mapping
from typing import Any

from repro.evaluation import statistics
from repro.evaluation.statistics import Estimate
from repro.tracker.published import PublishedTable, Row


def margin(table: PublishedTable, suite: str, task: str, value: float) -> float:
    """The equivalence margin around a published `value`, from the suite's declaration.

    The largest of `relative` (of the distance to the low reference, random play, where there is one, else of the
    value), `absolute`, and `span` (of the distance between both references).
    """
    declared: Mapping[str, float] = table.suite(suite).get("margin", {"relative": 0.1})
    references = table.references(suite, task)
    low, high = references or (0.0, 0.0)
    return max(
        declared.get("relative", 0.0) * abs(value - low),
        declared.get("absolute", 0.0),
        declared.get("span", 0.0) * abs(high - low),
    )


def override(table: PublishedTable, suite: str, task: str, method: str, metric: str) -> Mapping[str, Any]:
    """What `<paper>.json` declares for one row under `rows` (margin, low, high, exact, verdict, note), else empty."""
    for entry in table.facts.get("rows", ()):
        if (entry["suite"], entry["task"], entry["method"], entry["metric"]) == (suite, task, method, metric):
            return entry
    return {}


def estimate(table: PublishedTable, row: Row) -> Estimate | None:
    """The published number with Student's interval; None for a statement that is no number.

    Spread and seeds come from the released runs where there are any (`spread_method` names the runs where they carry
    another name), else from the printed standard deviation, taken as that of the population (NumPy's, as in the files
    that can be checked). Without either the interval is unbounded.
    """
    if row.value is None:
        return None
    spread_method = table.suite(row.suite).get("spread_method")
    own = row.method == table.method(row.suite)
    runs = table.per_seed(row.suite, row.task, row.method, row.budget)
    if not runs and own and spread_method:
        runs = table.per_seed(row.suite, row.task, spread_method, row.budget)
    if len(runs) > 1 and row.metric == "episode_return":
        spread = statistics.of_scores(runs)  # around the printed value, which may be rounded
        return spread._replace(value=row.value, low=row.value - spread.half_width, high=row.value + spread.half_width)
    if row.over_seeds and row.spread is not None and row.seeds is not None:
        sample_std = row.spread * math.sqrt(row.seeds / (row.seeds - 1))
        return statistics.t_estimate(row.value, sample_std, row.seeds)
    return statistics.t_estimate(row.value, 0.0, 1)


def convert(table: PublishedTable, suite: str, amount: float, unit: str, to: str) -> float | None:
    """An amount of budget in another unit, None where the suite does not say how they relate."""
    if unit == to:
        return amount
    sizes = table.suite(suite).get("agent_step", {})
    if unit not in sizes or to not in sizes:
        return None
    return amount * sizes[to] / sizes[unit]


def at_step(table: PublishedTable, suite: str, task: str, method: str, step: float, unit: str) -> Estimate | None:
    """The published learning curve at `step` (in `unit`), linear between its points; None outside of it."""
    curve = table.curve(suite, task, method)
    if curve is None and method == table.method(suite):
        curve = table.curve(suite, task, table.suite(suite).get("curve_method", method))
    if curve is None:
        return None
    x = convert(table, suite, step, unit, curve.unit)
    if x is None or not curve.step[0] <= x <= curve.step[-1]:
        return None
    right = bisect.bisect_left(curve.step, x)
    left = right if curve.step[right] == x else right - 1
    weight = 0.0 if left == right else (x - curve.step[left]) / (curve.step[right] - curve.step[left])
    mean = (1 - weight) * curve.mean[left] + weight * curve.mean[right]
    stds, counts = (curve.std[left], curve.std[right]), (curve.seeds[left], curve.seeds[right])
    seeds = min(counts[0] or 1, counts[1] or 1)
    if stds[0] is None or stds[1] is None or seeds < 2:
        return statistics.t_estimate(mean, 0.0, 1)
    std = (1 - weight) * stds[0] + weight * stds[1]
    return statistics.t_estimate(mean, std * math.sqrt(seeds / (seeds - 1)), seeds)
