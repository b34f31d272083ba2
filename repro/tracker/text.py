"""Comparisons as text for a terminal and as JSON."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from repro.evaluation.statistics import Estimate
from repro.tracker import published, targets
from repro.tracker.aggregates import Aggregate
from repro.tracker.compare import Comparison, SuiteComparison
from repro.tracker.groups import Group
from repro.tracker.verdict import LABELS, Verdict

HEADER = ("task", "published", "reproduced", "seeds", "budget", "verdict")


def number(value: float | None) -> str:
    """Four significant digits without exponent; whole from a thousand on."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 4)}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"


def with_interval(estimate: Estimate | None) -> str:
    """`value [low, high]`, without the brackets where the interval is not known."""
    if estimate is None:
        return "-"
    if not math.isfinite(estimate.half_width):
        return number(estimate.value)
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def published_text(row: Comparison, verdict: Verdict | None = None) -> str:
    """The published number, or the point of the published curve that a partial run was compared with."""
    verdict = verdict or row.verdict
    if verdict.published is not None and (row.row is None or row.row.value is not None):
        return with_interval(verdict.published)
    return row.printed or "-"


def budget_text(group: Group | None) -> str:
    """Share of the paper's budget."""
    if group is None:
        return "-"
    return (
        "full" if group.fraction >= 1 else f"{group.fraction:.2%}" if group.fraction < 0.1 else f"{group.fraction:.0%}"
    )


def _cells(row: Comparison, group: Group | None, verdict: Verdict, name: str) -> tuple[str, ...]:
    seeds = str(len(group.scores)) if group else "-"
    return (name, published_text(row, verdict), with_interval(verdict.ours), seeds, budget_text(group), str(verdict))


def name_of(row: Comparison) -> str:
    """The task, and method and metric where they are not the suite's own."""
    own = published.load_or_empty(row.paper)
    main = own.method(row.suite), own.suite(row.suite).get("metric", "episode_return")
    return " ".join([row.task, *(x for x, y in zip((row.method, row.metric), main, strict=True) if x != y)])


def note_of(row: Comparison) -> str:
    """What was declared about the row beside its rule, e.g. an assumption; empty where there is nothing to say."""
    own = published.load_or_empty(row.paper)
    return str(targets.override(own, row.suite, row.task, row.method, row.metric).get("note", ""))


def table(suite: SuiteComparison, recorded_only: bool = False, count: bool = True) -> str:
    """A suite as an aligned table; further groups of records of a task stand below its line."""
    cells: list[tuple[str, ...]] = []
    for row in suite.rows:
        if recorded_only and row.group is None:
            continue
        cells.append(_cells(row, row.group, row.verdict, name_of(row)))
        cells += [_cells(row, group, verdict, "  also") for group, verdict in row.also]
    lines = [f"{suite.paper}, {suite.title} ({suite.suite})"]
    if count:
        lines[0] += f": {suite.recorded} of {len(suite.rows)} rows recorded"
    if cells:
        lines += _align([HEADER, *cells])
    for one in suite.aggregates:
        if not (recorded_only and one.tasks == 0):
            lines.append(_aggregate(one))
    return "\n".join(lines)


def _aggregate(one: Aggregate) -> str:
    ours, target = one.verdict.ours, one.verdict.published
    text = f"  {one.name} over {one.tasks} of {one.of} tasks: "
    if target is None:
        return text + f"paper {number(one.printed)}, untested"
    paper = f"published {with_interval(target)}, reproduced {with_interval(ours)}: {one.verdict}"
    return text + paper + (f" (paper, all tasks: {number(one.printed)})" if one.tasks < one.of else "")


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def reasons(rows: Iterable[Comparison]) -> list[str]:
    """One line a group of records: verdict, reason and the settings that differ."""
    lines = []
    for row in rows:
        for verdict in (row.verdict, *(also for _, also in row.also)) if row.group else ():
            text = f"{row.suite}/{name_of(row)}: {verdict}: {verdict.reason}"
            if verdict.changed:
                text += "; changed: " + ", ".join(changes(verdict.changed))
            lines.append(text)
    return lines


def changes(changed: Mapping[str, Any], most: int = 6) -> list[str]:
    """`field used (paper: ...)` for the settings that differ."""
    texts = [f"{name} {value['used']} (paper: {value['paper']})" for name, value in changed.items()]
    return texts if len(texts) <= most else [*texts[:most], f"and {len(texts) - most} more"]


def overview(suites: Iterable[SuiteComparison]) -> str:
    """One line a suite: rows, records, verdicts."""
    rows = [("paper", "suite", "rows", "recorded", "verdicts")]
    for suite in suites:
        counts = suite.counts
        verdicts = ", ".join(f"{counts[label]} {label}" for label in LABELS if counts[label] and label != "untested")
        rows.append((suite.paper, suite.suite, str(len(suite.rows)), str(suite.recorded), verdicts or "-"))
    return "\n".join(_align(rows))


def estimate_json(estimate: Estimate | None) -> dict[str, Any] | None:
    """Value, interval (null where unknown), seeds."""
    if estimate is None:
        return None
    known = math.isfinite(estimate.half_width)
    interval = [estimate.low, estimate.high] if known else None
    return {"value": estimate.value, "interval": interval, "seeds": estimate.seeds}


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict with what led to it."""
    gap = verdict.difference
    known = gap is not None and math.isfinite(gap.high)
    return {
        "verdict": str(verdict),
        "label": verdict.label,
        "outcome": verdict.outcome,
        "changed_settings": dict(verdict.changed),
        "reason": verdict.reason,
        "contradicts": verdict.contradicts,
        "compared_at_step": verdict.step,
        "margin": verdict.margin,
        "difference": gap.value if gap else None,
        "difference_interval": [gap.low, gap.high] if gap and known else None,
        "equivalence_p": gap.equivalence_p if gap and known else None,
        "reproduced": estimate_json(verdict.ours),
        "published": estimate_json(verdict.published),
    }


def group_json(group: Group) -> dict[str, Any]:
    """Records, seeds and scores of a group."""
    return {
        "records": [record["id"] for record in group.records],
        "commands": [record["command"] for record in group.records],
        "seeds": group.seeds,
        "scores": list(group.scores),
        "budget": dict(group.first["budget"]),
        "budget_fraction": group.fraction,
        "preset": group.first["preset"],
    }


def comparison_json(row: Comparison) -> dict[str, Any]:
    """One row with its verdict, published number and records."""
    source = row.row
    return {
        "paper": row.paper,
        "suite": row.suite,
        "task": row.task,
        "method": row.method,
        "metric": row.metric,
        "published_text": row.printed,
        "published_row": None
        if source is None
        else {
            "value": source.value,
            "spread": source.spread,
            "spread_kind": source.spread_kind or None,
            "seeds": source.seeds,
            "budget": source.budget,
            "budget_unit": source.budget_unit or None,
            "source": source.source,
            "note": source.note,
        },
        **verdict_json(row.verdict),
        "group": group_json(row.group) if row.group else None,
        "also": [{**verdict_json(verdict), "group": group_json(group)} for group, verdict in row.also],
    }


def suite_json(suite: SuiteComparison) -> dict[str, Any]:
    """A suite with rows, aggregates and counts."""
    return {
        "paper": suite.paper,
        "suite": suite.suite,
        "title": suite.title,
        "recorded": suite.recorded,
        "counts": dict(suite.counts),
        "rows": [comparison_json(row) for row in suite.rows],
        "aggregates": [
            {"name": a.name, "printed": a.printed, "tasks": a.tasks, "of": a.of, **verdict_json(a.verdict)}
            for a in suite.aggregates
        ],
    }
