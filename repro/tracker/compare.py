"""Published against reproduced: rows of the paper's tables with our numbers and verdicts, and suite aggregates."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro import paths, registry
from repro.errors import unknown
from repro.evaluation import statistics
from repro.evaluation.statistics import Estimate
from repro.tracker import aggregates, bounds, published, records, targets
from repro.tracker.aggregates import Aggregate
from repro.tracker.groups import Group, group
from repro.tracker.published import PublishedTable, Row
from repro.tracker.verdict import Label, Verdict, decide, decide_claim


@dataclass(frozen=True)
class Comparison:
    """One row of a paper's table beside our number. `also` holds the verdicts on other groups of records."""

    paper: str
    suite: str
    task: str
    method: str
    metric: str
    row: Row | None
    printed: str
    """The published number or statement as text."""
    verdict: Verdict
    group: Group | None = None
    also: tuple[tuple[Group, Verdict], ...] = ()


@dataclass(frozen=True)
class SuiteComparison:
    """All rows of one suite of a paper."""

    paper: str
    suite: str
    title: str
    rows: tuple[Comparison, ...]
    aggregates: tuple[Aggregate, ...]

    @property
    def counts(self) -> Counter[str]:
        """Rows by verdict label."""
        return Counter(row.verdict.label for row in self.rows)

    @property
    def recorded(self) -> int:
        """Rows with a record."""
        return sum(row.group is not None for row in self.rows)


def suites(paper: str, found: Iterable[Mapping[str, Any]], suite: str | None = None) -> list[SuiteComparison]:
    """Every suite of a paper (or the one named) in the paper's order, with the records `found`."""
    table = published.load_or_empty(paper)
    groups = group(found)
    names = list(dict.fromkeys([*table.facts["suites"], *(key[0] for key in groups)]))
    return [_suite(table, name, groups) for name in names if suite in (None, name)]


def _suite(table: PublishedTable, suite: str, groups: Mapping[Any, list[Group]]) -> SuiteComparison:
    about = table.suite(suite)
    metric = about.get("metric", "episode_return")
    keys = [(suite, task, table.method(suite), metric) for task in table.tasks(suite, table.method(suite), metric)]
    declared = [
        (e["suite"], e["task"], e["method"], e["metric"]) for e in table.facts.get("rows", ()) if e["suite"] == suite
    ]
    recorded = sorted(key for key in groups if key[0] == suite)
    rows = tuple(_row(table, key, groups.get(key, [])) for key in dict.fromkeys([*keys, *declared, *recorded]))
    main = [row for row in rows if (row.method, row.metric) == (table.method(suite), metric)]
    main_rows = [(row.row, row.group) for row in main if row.row is not None]
    return SuiteComparison(
        table.paper, suite, about.get("title", suite), rows, tuple(aggregates.of_suite(table, suite, main_rows))
    )


def _row(table: PublishedTable, key: tuple[str, str, str, str], groups: Sequence[Group]) -> Comparison:
    suite, task, method, metric = key
    row = _published_row(table, key, groups[0] if groups else None)
    limited = [dataclasses.replace(one, limit=_limit(table, key, one)) for one in groups]
    verdicts = [judge(table, key, one) for one in limited] or [judge(table, key, None)]
    return Comparison(
        table.paper, suite, task, method, metric, row, _printed(table, key, row), verdicts[0],
        limited[0] if limited else None, tuple(zip(limited[1:], verdicts[1:], strict=True)),
    )  # fmt: skip


def _published_row(table: PublishedTable, key: tuple[str, str, str, str], one: Group | None) -> Row | None:
    """The published row, at the budget that the record names as the paper's where several were published."""
    suite = key[0]
    largest = table.row(*key)
    if one is None or largest is None:
        return largest
    budget = one.first["budget"]
    same = targets.convert(table, suite, budget["paper"], budget["unit"], largest.budget_unit or budget["unit"])
    return table.row(*key, budget=same) or largest


def _limit(table: PublishedTable, key: tuple[str, str, str, str], one: Group) -> float:
    """The budget of the published number in the record's unit: what came later does not count, less is partial."""
    row = _published_row(table, key, one)
    budget = one.first["budget"]
    if row is None or row.budget is None:
        return budget["paper"]
    return targets.convert(table, key[0], row.budget, row.budget_unit, budget["unit"]) or budget["paper"]


def _printed(table: PublishedTable, key: tuple[str, str, str, str], row: Row | None) -> str:
    declared = targets.override(table, *key)
    ends = [f"{declared[end]:g}" for end in ("low", "high") if end in declared]
    if len(ends) == 1:
        return ("above " if "low" in declared else "below ") + ends[0]
    if ends:
        return " to ".join(ends)
    return row.text if row is not None else ""


def judge(table: PublishedTable, key: tuple[str, str, str, str], one: Group | None) -> Verdict:
    """The verdict on one group of records (None: nothing recorded) by the row's own or the suite's rule."""
    suite, task, method, metric = key
    declared = targets.override(table, *key)
    row = _published_row(table, key, one)
    ours = bounds.clip(one.estimate(), suite, task, metric) if one else None
    if declared.get("verdict") is False:
        target = targets.estimate(table, row) if row else None
        label: Label = "not judged" if one or declared.get("cited") else "untested"
        return Verdict(label, declared.get("note", ""), ours=ours, published=target, changed=one.changed if one else {})
    if "low" in declared or "high" in declared:
        low, high = declared.get("low", -math.inf), declared.get("high", math.inf)
        verdict = decide_claim(ours, low, high, recorded=one is not None)
        return dataclasses.replace(verdict, changed=one.changed if one else {})
    target = bounds.clip(targets.estimate(table, row), suite, task, metric) if row else None
    margin = targets.margin(table, suite, task, target.value) if target else 0.0
    if "margin" in declared:
        margin = declared["margin"]
    if one is None:
        return decide(None, target, margin, recorded=False)
    if declared.get("exact") and ours and target:  # a computed number: no margin but four standard errors of ours
        target, margin = statistics.t_estimate(target.value, 0.0, 2), 4 * ours.error
    if one.fraction < 1.0:
        return _judge_partial(table, key, one, margin, target)
    return decide(ours, target, margin, changed=one.changed)


def _judge_partial(
    table: PublishedTable, key: tuple[str, str, str, str], one: Group, full_margin: float, target: Estimate | None
) -> Verdict:
    """Compares at the last step for which both a published curve point and most scores of ours exist."""
    suite, task, method, metric = key
    unit = one.first["step_unit"]
    steps = one.scores_by_step()
    most = max(map(len, steps.values()), default=0)
    for step in sorted((s for s, scores in steps.items() if len(scores) == most), reverse=True):
        point = bounds.clip(targets.at_step(table, suite, task, method, step, unit), suite, task, metric)
        if point is not None:
            ours = bounds.clip(statistics.of_scores(steps[step]), suite, task, metric)
            margin = targets.margin(table, suite, task, point.value)
            return decide(ours, point, margin, fraction=one.fraction, step=step, changed=one.changed)
    ours = bounds.clip(one.estimate(), suite, task, metric)
    verdict = decide(ours, None, full_margin, fraction=one.fraction, changed=one.changed)
    return dataclasses.replace(verdict, published=target)


def records_of(paper: str, root: Path) -> list[dict[str, Any]]:
    """The validated records of a paper."""
    return records.load_all(root, paper)


def papers(root: Path) -> list[str]:
    """Papers with published numbers (oldest first), then others with records."""
    known = published.papers()
    recorded = sorted({path.parts[-4] for path in records.files(root)})
    return [*known, *(name for name in recorded if name not in known)]


def find(paper: str) -> str:
    """The name of a paper that has published numbers, a folder in `papers/`, or records; `UsageError` otherwise."""
    name = paper.replace("-", "_").lower()
    known = {*papers(paths.results()), *registry.papers()}
    if name not in known:
        raise unknown("paper", paper, known)
    return name


def render_records(paper: str, written: Sequence[Path]) -> str:
    """The rows that the records just written belong to, with the reasons of their verdicts."""
    from repro.tracker import text

    fresh = [records.load(path) for path in written]
    keys = {(r["suite"], r["task"], r["method"], r["metric"]) for r in fresh}
    lines = []
    for suite in suites(paper, fresh):
        rows = tuple(r for r in suite.rows if (r.suite, r.task, r.method, r.metric) in keys)
        if rows:
            shown = dataclasses.replace(suite, rows=rows, aggregates=())
            lines += [text.table(shown, count=False), *text.reasons(rows)]
    return "\n".join(lines)
