"""The tables of the page: rows of a suite with verdict, interval picture, record and command; aggregates; cost."""

import html
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.evaluation.statistics import Estimate
from repro.tracker import records, text
from repro.tracker.compare import Comparison, SuiteComparison
from repro.tracker.groups import Group
from repro.tracker.published import PublishedTable
from repro.tracker.report import charts, data
from repro.tracker.verdict import Verdict


@dataclass(frozen=True)
class Cell:
    """A table cell: its HTML, what the column sorts by, and whether a phone may leave it out."""

    label: str
    content: str
    sort: str | None = None
    """None: sort by the text."""
    empty: bool = False


@dataclass(frozen=True)
class Links:
    """Where the results folder and the page lie, for links between them."""

    root: Path
    page: Path

    def to(self, record: dict[str, object]) -> str:
        """Relative link from the page to a record's file."""
        return os.path.relpath(records.path_of(record, self.root), self.page).replace(os.sep, "/")


def css_class(label: str) -> str:
    """A verdict's label as a CSS class."""
    return label.replace(" ", "-")


def pill(verdict: Verdict) -> str:
    """The verdict's label in its colour, what qualifies it below."""
    changed = " changed" if verdict.changed else ""
    words = str(verdict).removeprefix(verdict.label).lstrip(":, ")
    note = f"<br><span class='soft small'>{html.escape(words)}</span>" if words else ""
    return f'<span class="pill {css_class(verdict.label)}{changed}">{html.escape(verdict.label)}</span>{note}'


def estimate(value: Estimate | None) -> str:
    """The number, its interval in smaller print."""
    if value is None:
        return ""
    number = f"<b>{text.number(value.value)}</b>"
    if not math.isfinite(value.half_width):
        return number
    return f"{number} <span class='soft small range'>{text.number(value.low)} to {text.number(value.high)}</span>"


def table(rows: Sequence[str], columns: Sequence[tuple[str, bool]], css: str = "cards") -> str:
    """A table whose sortable columns have a button in their head."""
    heads = "".join(
        f"<th scope='col'><button type='button'>{html.escape(name)}</button></th>"
        if sortable
        else f"<th scope='col' class='plain'>{html.escape(name)}</th>"
        for name, sortable in columns
    )
    return f"<table class='{css}'><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def line(cells: Sequence[Cell], attributes: str = "") -> str:
    """One table row."""
    tds = "".join(
        f'<td data-label="{html.escape(cell.label)}"'
        + ("" if cell.sort is None else f' data-sort="{html.escape(cell.sort)}"')
        + (' class="none"' if cell.empty else "")
        + f"><div>{cell.content}</div></td>"
        for cell in cells
    )
    return f"<tr{attributes}>{tds}</tr>"


COLUMNS = (
    ("task", True), ("published", True), ("reproduced", True), ("compared", False), ("seeds", True), ("budget", True),
    ("verdict", True), ("record", False),
)  # fmt: skip


def suite_table(suite: SuiteComparison, links: Links) -> str:
    """All rows of a suite; further groups of records of a task follow its line."""
    lines = []
    for row in suite.rows:
        lines.append(_row(row, row.group, row.verdict, links, ""))
        lines += [_row(row, group, verdict, links, "also") for group, verdict in row.also]
    return table(lines, COLUMNS, "rows cards")


def _row(row: Comparison, group: Group | None, verdict: Verdict, links: Links, css: str) -> str:
    task, *rest = text.name_of(row).split(" ")
    name = html.escape(task) + "".join(f" <span class='soft small'>{html.escape(part)}</span>" for part in rest)
    ours, target = verdict.ours, verdict.published
    printed = html.escape(row.printed) if target is None or (row.row and row.row.value is None) else estimate(target)
    source = f' title="{html.escape(_source(row))}"' if row.row else ""
    cells = [
        Cell("task", name, row.task),
        Cell("published", f"<span{source}>{printed}</span>", "" if target is None else str(target.value)),
        Cell("reproduced", estimate(ours), "" if ours is None else str(ours.value), ours is None),
        Cell("compared", _picture(row, verdict), None, ours is None or target is None),
    ]
    if group is None:
        cells += [Cell("seeds", "", "", True), Cell("budget", "", "", True)]
    else:
        cells += [
            Cell("seeds", str(len(group.scores)), str(len(group.scores))),
            Cell("budget", text.budget_text(group), str(group.fraction)),
        ]
    cells += [
        Cell("verdict", pill(verdict), str(verdict)),
        Cell("record", _details(row, group, verdict, links) if group else "", None, group is None),
    ]
    searched = f"{row.paper} {row.suite} {row.task} {row.method} {row.metric} {verdict}".lower()
    attributes = (
        f' class="{css}" data-text="{html.escape(searched)}" data-verdict="{verdict.label}" '
        f'data-paper="{row.paper}" data-recorded="{int(group is not None)}"'
    )
    return line(cells, attributes)


def _source(row: Comparison) -> str:
    assert row.row is not None
    return ". ".join(part for part in (row.row.source, row.row.note) if part)


def _picture(row: Comparison, verdict: Verdict) -> str:
    ours, target = verdict.ours, verdict.published
    if ours is None or target is None:
        return ""
    label = f"{row.task}: published {text.with_interval(target)}, ours {text.with_interval(ours)}"
    both = (target.value, target.low, target.high), (ours.value, ours.low, ours.high)
    return charts.intervals(*both, verdict.margin, label)


def _details(row: Comparison, group: Group, verdict: Verdict, links: Links) -> str:
    """Reason, changed settings, commands and files of a group of records, folded away."""
    files = " ".join(f"<a href='{html.escape(links.to(dict(r)))}'><code>{r['id']}</code></a>" for r in group.records)
    commands = "".join(
        f"<p><code>{html.escape(command)}</code> <button type='button' class='copy'>copy</button></p>"
        for command in dict.fromkeys(r["command"] for r in group.records)
    )
    changed = ""
    if verdict.changed:
        changed = f"<p>Changed settings: {html.escape(', '.join(text.changes(verdict.changed, 12)))}.</p>"
    note = text.note_of(row)
    note = f"<p>{html.escape(note)}.</p>" if note and note not in verdict.reason else ""
    count = f"{len(group.records)} record{'s' if len(group.records) > 1 else ''}"
    return (
        f"<details><summary>{count}</summary><p>{html.escape(verdict.reason)}.</p>{note}{changed}"
        f"<p>Run it again:</p>{commands}<p>Files: {files}</p>"
        f"<p class='soft'>Protocol: {html.escape(group.first['protocol']['description'])}.</p></details>"
    )


def aggregate_table(suite: SuiteComparison) -> str:
    """Aggregates over the complete tasks of a suite; nothing below two of them."""
    names = ("aggregate", "tasks", "paper, all tasks", "published, same tasks", "reproduced", "verdict")
    lines = []
    for one in suite.aggregates:
        if one.tasks >= 2:
            contents = (
                html.escape(one.name),
                f"{one.tasks} of {one.of}",
                text.number(one.printed),
                estimate(one.verdict.published),
                estimate(one.verdict.ours),
                pill(one.verdict),
            )
            lines.append(line([Cell(name, content) for name, content in zip(names, contents, strict=True)]))
    return table(lines, [(name, False) for name in names]) if lines else ""


def cost_table(suites: Sequence[tuple[PublishedTable, SuiteComparison]]) -> str:
    """Hours and speed of every group of records against the paper's; empty without records."""
    lines, columns = [], []
    for published_table, suite in suites:
        for cost in data.costs(published_table, suite):
            cells = _cost_cells(published_table.facts["name"], cost)
            columns = [(cell.label, True) for cell in cells]
            lines.append(line(cells))
    return table(lines, columns) if lines else ""


def _cost_cells(paper: str, cost: data.Cost) -> list[Cell]:
    task = f"{html.escape(cost.task)} <span class='soft small'>{html.escape(cost.suite)}</span>"
    theirs = share = ""
    if cost.paper_hours:
        title = html.escape(cost.paper_note)
        theirs = f'<span title="{title}">{cost.paper_hours:,.4g} h, {html.escape(cost.paper_device)}</span>'
        if cost.fraction >= 1:
            share = f"{cost.hours / cost.paper_hours:.2g} times"
    return [
        Cell("paper", html.escape(paper)),
        Cell("task", task, f"{cost.suite} {cost.task}"),
        Cell("hardware", html.escape(cost.device)),
        Cell("seeds", str(cost.seeds), str(cost.seeds)),
        Cell("budget", "full" if cost.fraction >= 1 else f"{cost.fraction:.2%}", str(cost.fraction)),
        Cell("hours a seed", f"{cost.hours:,.3g}", str(cost.hours)),
        Cell("paper's, full run", theirs, str(cost.paper_hours or ""), not theirs),
        Cell("against the paper's", share, None, not share),
        Cell("env steps/s", text.number(cost.env_steps), str(cost.env_steps or "")),
        Cell("updates/s", text.number(cost.updates), str(cost.updates or "")),
    ]
