"""What the report shows besides the tables: learning curves, performance profiles, cost; as series and plain rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from repro.evaluation import statistics
from repro.tracker import aggregates, targets
from repro.tracker.cite import hardware
from repro.tracker.compare import Comparison, SuiteComparison
from repro.tracker.groups import Group
from repro.tracker.published import Curve, PublishedTable
from repro.tracker.report.charts import Series


@dataclass(frozen=True)
class Curves:
    """Learning curves of one task, x in `unit`."""

    task: str
    unit: str
    series: tuple[Series, ...]


def curves(table: PublishedTable, row: Comparison) -> Curves | None:
    """Our curves of a row over the published one; bands are one standard deviation over seeds. None without points."""
    groups = [row.group, *(group for group, _ in row.also)] if row.group else []
    found = table.curve(row.suite, row.task, row.method)
    if found is None and row.method == table.method(row.suite):
        found = table.curve(row.suite, row.task, table.suite(row.suite).get("curve_method", row.method))
    unit = found.unit if found else (groups[0].first["step_unit"] if groups else "")
    ours = [one for one in (_ours(table, row.suite, group, unit) for group in groups[:3]) if one is not None]
    if not ours or (found is None and all(len(one.x) < 2 for one in ours)):
        return None
    # A short run would vanish at the edge of the full curve: what is shown ends at three times its length.
    end = _ZOOM * max(one.x[-1] for one in ours)
    return Curves(row.task, unit, (*([_published(found, end)] if found else []), *ours))


_ZOOM = 3.0


def _published(curve: Curve, end: float) -> Series:
    shown = [i for i, step in enumerate(curve.step) if step <= end]
    x, mean = [curve.step[i] for i in shown], [curve.mean[i] for i in shown]
    std = [curve.std[i] or 0.0 for i in shown]
    if not any(std):
        return Series("published", "published", x, mean)
    low, high = [m - s for m, s in zip(mean, std, strict=True)], [m + s for m, s in zip(mean, std, strict=True)]
    return Series("published", "published", x, mean, low, high)


def _ours(table: PublishedTable, suite: str, group: Group, unit: str) -> Series | None:
    steps = group.scores_by_step()
    x = [targets.convert(table, suite, s, group.first["step_unit"], unit) for s in steps]
    if not steps or None in x:
        return None
    scores = [np.asarray(v) for v in steps.values()]
    mean, std = [float(s.mean()) for s in scores], [float(s.std()) for s in scores]
    name = f"ours ({len(group.seeds)} seeds{', changed settings' if group.changed else ''})"
    return Series(
        name,
        "changed" if group.changed else "ours",
        [v for v in x if v is not None],
        mean,
        [m - s for m, s in zip(mean, std, strict=True)],
        [m + s for m, s in zip(mean, std, strict=True)],
    )


@dataclass(frozen=True)
class Profile:
    """Performance profiles of a suite over the complete tasks of both sides, and how often a run of ours is better."""

    tasks: int
    scale: str
    series: tuple[Series, ...]
    improvement: tuple[float, float, float]
    """Probability that a run of ours beats a published one, with its interval."""


def profile(table: PublishedTable, suite: SuiteComparison) -> Profile | None:
    """None below three complete tasks, or where hardly any published run is known."""
    rows = aggregates.complete([(r.row, r.group) for r in suite.rows if r.row and _main(table, r)])
    if len(rows) < 3:
        return None
    name = suite.suite
    ours = statistics.table(aggregates.normalise(table, name, r.task, g.scores, "") for r, g in rows if g)
    theirs = statistics.table(
        aggregates.normalise(table, name, r.task, list(aggregates.runs_of(table, r)), "") for r, _ in rows
    )
    if np.isfinite(theirs).sum() < 2 * len(rows):
        return None
    normalised = bool(table.suite(name).get("normalise"))
    top = float(np.nanpercentile(np.concatenate([ours.ravel(), theirs.ravel()]), 95))
    taus = np.linspace(0.0, max(top, 1.0), 60)
    series = []
    for label, kind, scores in (("published", "published", theirs), ("ours", "ours", ours)):
        low, high = statistics.profile_interval(scores, taus, reps=500)
        share = statistics.performance_profile(scores, taus)
        series.append(Series(label, kind, taus.tolist(), share.tolist(), low.tolist(), high.tolist()))
    better = float(statistics.probability_of_improvement(ours, theirs))
    improvement = (better, *statistics.improvement_interval(ours, theirs, reps=1_000))
    return Profile(len(rows), "normalised score" if normalised else "score", tuple(series), improvement)


def _main(table: PublishedTable, row: Comparison) -> bool:
    return row.method == table.method(row.suite)


@dataclass(frozen=True)
class Cost:
    """Time and speed of one group of records; hours are device hours a seed."""

    suite: str
    task: str
    device: str
    seeds: int
    fraction: float
    hours: float
    paper_hours: float | None
    paper_device: str
    paper_note: str
    env_steps: float | None
    updates: float | None


def seconds(record: Any) -> float:
    """Wall-clock seconds of everything a record rests on: where stages were taken from an earlier run or start, theirs
    too (a run without stages notes phases inside one another)."""
    noted = dict(record["seconds"])
    total = noted.pop("total", 0.0)
    return max(total, sum(noted.values())) if "stages" in record["config"] else total


def costs(table: PublishedTable, suite: SuiteComparison) -> list[Cost]:
    """One line a group of records. With S seeds in one program each costs an S-th of the device's time."""
    lines = []
    paper = table.suite(suite.suite).get("cost", {})
    for row in suite.rows:
        for group in [row.group, *(g for g, _ in row.also)] if row.group else []:
            first = group.first
            hours = sum(seconds(r) * r["hardware"].get("device_count", 1) for r in group.records)
            lines.append(
                Cost(
                    suite=suite.suite,
                    task=row.task,
                    device=hardware(first),
                    seeds=len(group.seeds),
                    fraction=group.fraction,
                    hours=hours / 3600 / sum(len(r["seeds"]) for r in group.records),
                    paper_hours=paper.get("hours"),
                    paper_device=paper.get("device", ""),
                    paper_note=paper.get("note", ""),
                    env_steps=first["throughput"].get("env_steps_per_s"),
                    updates=first["throughput"].get("updates_per_s"),
                )
            )
    return lines


@dataclass(frozen=True)
class Figure:
    """A chart that a record brings along (`extra.figures`), e.g. a figure of the paper drawn again."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]


PALETTE = ("s1", "s2", "s3", "s4", "s5", "s6")
"""CSS classes of the lines of such a chart."""


def figures(suite: SuiteComparison) -> list[Figure]:
    """The charts that the newest record of each row brings along; the same title once."""
    found: dict[str, Figure] = {}
    for row in suite.rows:
        for figure in row.group.records[-1]["extra"].get("figures", ()) if row.group else ():
            lines = [
                Series(
                    str(one["name"]),
                    PALETTE[i % len(PALETTE)],
                    one["x"],
                    one["y"],
                    one.get("low", ()),
                    one.get("high", ()),
                )
                for i, one in enumerate(figure["series"])
            ]
            title = str(figure["title"])
            found.setdefault(title, Figure(title, str(figure["x_label"]), str(figure["y_label"]), tuple(lines)))
    return list(found.values())
