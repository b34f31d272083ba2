"""Numbers over the tasks of a suite (mean, median, IQM ... of normalised scores), both sides over the same tasks."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from repro.evaluation import statistics
from repro.evaluation.statistics import Estimate
from repro.tracker.groups import Group
from repro.tracker.published import PublishedTable, Row
from repro.tracker.verdict import Verdict, decide

MARGIN = 0.1
"""Equivalence margin of an aggregate, relative to the published one: many tasks average out much of the noise."""

RecordedRow = tuple[Row, Group | None]


@dataclass(frozen=True)
class Aggregate:
    """An aggregate of the tasks that have full records with the paper's settings."""

    name: str
    statistic: str
    """Name in `repro.evaluation.statistics.AGGREGATES`; `record:` before it means normalised by the human record."""
    printed: float | None
    """The paper's own number, over all its tasks."""
    tasks: int
    of: int
    verdict: Verdict
    """With estimates of both sides over the same tasks."""


def normalise(table: PublishedTable, suite: str, task: str, scores: Sequence[float], statistic: str) -> np.ndarray:
    """Scores of a task on the scale of an aggregate; unchanged where the suite has no references."""
    references = table.references(suite, task)
    if references is None:
        return np.asarray(scores, np.float64)
    low, high = references
    if statistic.startswith("record:"):
        row = table.row(suite, task, table.suite(suite)["record"])
        if row is None or row.value is None:
            return np.asarray([])
        high = row.value
    return statistics.normalise(scores, low, high)


def runs_of(table: PublishedTable, row: Row) -> np.ndarray:
    """The released runs behind a published number, shifted to the printed value; without any the value alone."""
    if row.value is None:
        return np.asarray([])
    method = row.method
    runs = table.per_seed(row.suite, row.task, method, row.budget)
    if not runs and method == table.method(row.suite):
        runs = table.per_seed(row.suite, row.task, table.suite(row.suite).get("spread_method", method), row.budget)
    if len(runs) < 2:
        return np.asarray([row.value])
    return np.asarray(runs) - np.mean(runs) + row.value


def published(table: PublishedTable, suite: str, rows: Sequence[Row], statistic: str) -> Estimate:
    """An aggregate of published rows. Its interval comes from the released runs; unbounded where most are missing."""
    columns = [normalise(table, suite, row.task, list(runs_of(table, row)), statistic) for row in rows]
    columns = [column for column in columns if len(column)]
    function = statistics.AGGREGATES[statistic.removeprefix("record:")]
    scores = statistics.table(columns)
    if sum(map(len, columns)) < 2 * len(columns):
        return statistics.t_estimate(float(function(scores)), 0.0, 1)
    return statistics.of_table(scores, function, reps=10_000)


def reproduced(table: PublishedTable, suite: str, rows: Sequence[RecordedRow], statistic: str) -> Estimate:
    """The aggregate of our runs, all tasks weighing the same."""
    columns = [normalise(table, suite, row.task, group.scores, statistic) for row, group in rows if group]
    function = statistics.AGGREGATES[statistic.removeprefix("record:")]
    return statistics.of_table(statistics.table(c for c in columns if len(c)), function, reps=10_000)


def complete(rows: Sequence[RecordedRow]) -> list[RecordedRow]:
    """Rows with a record of the full budget and the paper's settings."""
    return [
        (row, one)
        for row, one in rows
        if one and one.fraction >= 1 and not one.changed and one.scores and row.value is not None
    ]


def of_suite(table: PublishedTable, suite: str, rows: Sequence[RecordedRow]) -> Iterator[Aggregate]:
    """Every aggregate that the paper prints for a suite; `untested` below two complete tasks."""
    done = complete(rows)
    for name, statistic in table.suite(suite).get("aggregates", {}).items():
        printed = _printed(table, suite, name)
        if len(done) < 2:
            reason = f"{len(done)} of {len(rows)} tasks have a full record with the paper's settings"
            yield Aggregate(name, statistic, printed, len(done), len(rows), Verdict("untested", reason))
            continue
        target = published(table, suite, [row for row, _ in done], statistic)
        verdict = decide(reproduced(table, suite, done, statistic), target, MARGIN * abs(target.value))
        if len(done) < len(rows):
            reason = f"over {len(done)} of {len(rows)} tasks on both sides: {verdict.reason}"
            verdict = dataclasses.replace(verdict, label="partial", reason=reason)
        yield Aggregate(name, statistic, printed, len(done), len(rows), verdict)


def _printed(table: PublishedTable, suite: str, name: str) -> float | None:
    """The paper's own aggregate, else the one recomputed from its per-task numbers."""
    method = table.method(suite)
    rows = {r.method: r.value for r in reversed(table.rows) if (r.suite, r.task) == (suite, name)}
    return rows.get(method, rows.get(f"{method}_recomputed"))
