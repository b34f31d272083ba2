"""`REPORT.md`: the report as a reader of the repository sees it."""

import os
from collections.abc import Sequence
from pathlib import Path

from repro.tracker import published, records, text
from repro.tracker.compare import Comparison, SuiteComparison
from repro.tracker.groups import Group
from repro.tracker.verdict import LABELS, Verdict


def render(suites: Sequence[SuiteComparison], root: Path, out: Path) -> str:
    """Overview, a table a suite with records, and the command behind every number."""
    recorded = [suite for suite in suites if suite.recorded]
    lines = [
        "# Published against reproduced",
        "",
        "Written by `repro report`; do not edit. The page `report.html`, written with it, adds learning curves, "
        "performance profiles, cost, and every row without a record. `repro verify` recomputes all of it from the "
        "records.",
        "",
        *_overview(suites),
    ]
    if not recorded:
        lines += ["", "No record yet: `repro reproduce PAPER` makes one."]
    for suite in recorded:
        lines += ["", *_suite(suite, root, out)]
    return "\n".join([*lines, ""])


def _cell(value: str) -> str:
    return value.replace("|", "\\|")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(map(_cell, row))} |" for row in (head, ["---"] * len(head), *rows)]


def _overview(suites: Sequence[SuiteComparison]) -> list[str]:
    rows = []
    for suite in suites:
        if suite.rows:
            counts = suite.counts
            verdicts = ", ".join(f"{counts[v]} {v}" for v in LABELS if counts[v] and v != "untested") or "untested"
            name = published.load_or_empty(suite.paper).facts["name"]
            rows.append((name, suite.title, f"{suite.recorded} of {len(suite.rows)}", verdicts))
    return _table(("paper", "suite", "rows with a record", "verdicts"), rows)


def _suite(suite: SuiteComparison, root: Path, out: Path) -> list[str]:
    name = published.load_or_empty(suite.paper).facts["name"]
    rows, commands = [], []
    for row in suite.rows:
        for group, verdict in [(row.group, row.verdict), *row.also] if row.group else []:
            assert group is not None
            rows.append(_row(row, group, verdict, root, out))
            for command in dict.fromkeys(r["command"] for r in group.records):
                if command not in commands:
                    commands.append(command)
    lines = [f"## {name}: {suite.title}", ""]
    lines += _table(("task", "published", "reproduced", "seeds", "budget", "verdict", "records"), rows)
    for one in suite.aggregates:
        if one.tasks >= 2:
            lines += [
                "",
                f"{one.name} over {one.tasks} of {one.of} tasks: "
                f"published {text.with_interval(one.verdict.published)}, "
                f"reproduced {text.with_interval(one.verdict.ours)}: {one.verdict} "
                f"(paper, all tasks: {text.number(one.printed)}).",
            ]
    notes = [(text.name_of(row), text.note_of(row)) for row in suite.rows if row.group]
    if any(note for _, note in notes):
        lines += ["", *(f"- {name}: {note}" for name, note in notes if note)]
    return [*lines, "", "```", *commands, "```"]


def _row(row: Comparison, group: Group, verdict: Verdict, root: Path, out: Path) -> Sequence[str]:
    links = ", ".join(
        f"[{r['id']}]({os.path.relpath(records.path_of(dict(r), root), out).replace(os.sep, '/')})"
        for r in group.records
    )
    shown = str(verdict)
    if verdict.changed:
        shown += f" ({', '.join(text.changes(verdict.changed, 4))})"
    numbers = (text.published_text(row, verdict), text.with_interval(verdict.ours))
    return (text.name_of(row), *numbers, str(len(group.scores)), text.budget_text(group), shown, links)
