"""The HTML page: one file that needs no network, made from the comparisons."""

import base64
import html
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from repro import __version__
from repro.tracker import published, records
from repro.tracker.compare import SuiteComparison
from repro.tracker.published import PublishedTable
from repro.tracker.report import charts, data, rows
from repro.tracker.report.script import JS
from repro.tracker.report.style import CSS
from repro.tracker.verdict import LABELS, MAX_WIDTH, MIN_SEEDS

Papers = Mapping[str, Sequence[SuiteComparison]]
"""Paper -> its suites, in the order shown."""

TITLE = "World-model papers: published against reproduced"


def render(papers: Papers, root: Path, out: Path) -> str:
    """The page; links to records go from the folder `out` to the results folder `root`."""
    tables = {name: published.load_or_empty(name) for name in papers}
    links = rows.Links(root, out)
    pairs = [(tables[name], suite) for name, suites in papers.items() for suite in suites]
    body = [
        _header(papers),
        "<main>",
        _glance(papers, tables),
        _filters(papers, tables),
        *(_paper(tables[name], suites, links) for name, suites in papers.items()),
        _cost(pairs),
        _METHOD,
        "</main>",
        f"<footer>Made by <code>repro report</code> (repro {html.escape(__version__)}) from the records in "
        "<code>results/runs/</code>. <code>repro verify</code> recomputes every number; <code>repro cite PAPER</code> "
        "cites them.</footer>",
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<title>{TITLE}</title><link rel="icon" href="data:,">',
            f"<style>{CSS}</style></head><body>",
            *body,
            f"<script>{JS}</script></body></html>",
            "",
        ]
    )


def _counts(suite: SuiteComparison) -> Counter[str]:
    return Counter(str(row.verdict.label) for row in suite.rows if row.group)


def _header(papers: Papers) -> str:
    suites = [suite for found in papers.values() for suite in found]
    groups = [g for s in suites for r in s.rows if r.group for g in (r.group, *(a for a, _ in r.also))]
    counts = sum((_counts(suite) for suite in suites), Counter[str]())
    tiles = [
        (sum(len(g.records) for g in groups), "records"),
        (sum(any(s.recorded for s in found) for found in papers.values()), f"of {len(papers)} papers"),
        (sum(s.recorded for s in suites), f"of {sum(len(s.rows) for s in suites)} published rows"),
        *((counts[label], label) for label in LABELS if counts[label]),
    ]
    items = "".join(f"<li><b>{number:,}</b>{html.escape(name)}</li>" for number, name in tiles)
    return (
        f"<header><h1>{TITLE}</h1><p class='soft'>Every published number beside the one measured with this suite: "
        "95&nbsp;% intervals, a verdict, the record behind it, and the command that makes it again.</p>"
        f"<ul class='tiles'>{items}</ul></header>"
    )


def _anchor(suite: SuiteComparison) -> str:
    return f"{suite.paper}-{suite.suite}"


def _glance(papers: Papers, tables: Mapping[str, PublishedTable]) -> str:
    lines = []
    for paper, suites in papers.items():
        chips = "".join(_chip(suite) for suite in suites if suite.rows)
        name = html.escape(tables[paper].facts["name"])
        if chips:
            name = f"<a href='#{paper}'>{name}</a>"
        chips = chips or "<span class='soft small'>published no number that can be rerun</span>"
        lines.append(f"<div class='paper'><b>{name}</b><div class='suites'>{chips}</div></div>")
    key = "".join(
        f"<span><i class='{rows.css_class(label)}'></i>{label}</span>"
        for label in ("reproduced", "above", "below", "inconclusive", "partial")
    )
    return f"<h2>At a glance</h2><div class='legend key'>{key}</div><div class='papers'>{''.join(lines)}</div>"


def _chip(suite: SuiteComparison) -> str:
    counts = _counts(suite)
    bar = "".join(
        f"<i class='{rows.css_class(label)}' style='width:{100 * counts[label] / len(suite.rows):.2f}%'></i>"
        for label in LABELS
        if counts[label]
    )
    described = ", ".join(f"{counts[label]} {label}" for label in LABELS if counts[label]) or "untested"
    return (
        f"<a class='suite' href='#{_anchor(suite)}' data-recorded='{int(suite.recorded > 0)}' "
        f"title='{html.escape(described)}'>{html.escape(suite.title)} "
        f"<span class='soft'>{suite.recorded}/{len(suite.rows)}</span><span class='bar'>{bar}</span></a>"
    )


def _filters(papers: Papers, tables: Mapping[str, PublishedTable]) -> str:
    names = "".join(f"<option value='{p}'>{html.escape(tables[p].facts['name'])}</option>" for p in papers)
    labels = "".join(f"<option>{label}</option>" for label in LABELS)
    checked = " checked" if any(suite.recorded for suites in papers.values() for suite in suites) else ""
    return (
        "<div class='filters' role='search'>"
        "<input id='search' type='search' placeholder='task, suite, method' aria-label='Filter rows by text'>"
        f"<select id='paper' aria-label='Paper'><option value=''>all papers</option>{names}</select>"
        f"<select id='verdict' aria-label='Verdict'><option value=''>all verdicts</option>{labels}</select>"
        f"<label><input id='recorded' type='checkbox'{checked}> with a record only</label>"
        "<span id='shown' class='soft small' aria-live='polite'></span></div>"
    )


def _paper(table: PublishedTable, suites: Sequence[SuiteComparison], links: rows.Links) -> str:
    parts = [_suite(table, suite, links) for suite in suites if suite.rows]
    if not parts:
        return ""
    facts = table.facts
    link = (
        f" <a class='small' href='{html.escape(facts['repository'])}'>official code</a>" if facts["repository"] else ""
    )
    return (
        f"<section class='paper-rows'><h2 id='{table.paper}'>{html.escape(facts['name'])}</h2>"
        f"<p class='soft'>{html.escape(facts['title'])}{link}</p>{''.join(parts)}{_pictures(suites, links)}</section>"
    )


EMBEDDED = 1_000_000
"""Bytes up to which a picture stands in the page itself; larger ones are linked."""


def _pictures(suites: Sequence[SuiteComparison], links: rows.Links) -> str:
    groups = [g for s in suites for r in s.rows if r.group for g in (r.group, *(a for a, _ in r.also))]
    drawn = []
    for record in sorted({r["id"]: r for g in groups for r in g.records}.values(), key=lambda r: r["created"]):
        for caption, file in records.pictures(dict(record), links.root).items():
            if file.stat().st_size > EMBEDDED:
                source = os.path.relpath(file, links.page).replace(os.sep, "/")
            else:
                encoded = base64.b64encode(file.read_bytes()).decode()
                source = f"data:image/{file.suffix[1:]};base64,{encoded}"
            words = html.escape(f"{record['task']}: {caption}")
            link = f"<a href='{html.escape(links.to(dict(record)))}'>{record['id']}</a>"
            drawn.append(
                f"<figure class='picture'><img src='{source}' alt='{words}' loading='lazy'>"
                f"<figcaption class='small'>{words} ({link})</figcaption></figure>"
            )
    return f"<h4>Pictures</h4><div class='pictures'>{''.join(drawn)}</div>" if drawn else ""


def _suite(table: PublishedTable, suite: SuiteComparison, links: rows.Links) -> str:
    return (
        f"<section class='suite-rows' id='{_anchor(suite)}'><h3>{html.escape(suite.title)} "
        f"<span class='soft small'>{suite.recorded} of {len(suite.rows)} rows recorded</span></h3>"
        f"{rows.aggregate_table(suite)}{rows.suite_table(suite, links)}"
        f"{_curves(table, suite)}{_profile(table, suite)}{_figures(suite)}</section>"
    )


def _legend(kinds: Sequence[str], note: str) -> str:
    names = {"published": "published", "ours": "ours", "changed": "ours, changed settings"}
    shown = "".join(f"<span><i class='{kind}'></i>{names[kind]}</span>" for kind in names if kind in kinds)
    return f"<div class='legend'>{shown}<span>{note}</span></div>"


def _curves(table: PublishedTable, suite: SuiteComparison) -> str:
    found = [curves for curves in (data.curves(table, row) for row in suite.rows) if curves is not None]
    if not found:
        return ""
    figures = "".join(
        f"<figure>{charts.lines(c.series, c.task, c.unit.replace('_', ' '), 'score')}</figure>" for c in found
    )
    legend = _legend([s.kind for c in found for s in c.series], "shaded: one standard deviation over seeds")
    return f"<h4>Learning curves</h4>{legend}<div class='charts'>{figures}</div>"


def _profile(table: PublishedTable, suite: SuiteComparison) -> str:
    found = data.profile(table, suite)
    if found is None:
        return ""
    chart = charts.lines(found.series, "share of runs above a score", found.scale, "share of runs", 460, 260)
    better, low, high = found.improvement
    legend = _legend(("published", "ours"), "shaded: 95&nbsp;% bootstrap interval")
    return (
        f"<h4>Performance profile over {found.tasks} tasks</h4>{legend}"
        f"<div class='charts wide'><figure>{chart}</figure></div>"
        f"<p class='small'>A run of ours beats a published one with probability {better:.2f} "
        f"[{low:.2f}, {high:.2f}].</p>"
    )


def _figures(suite: SuiteComparison) -> str:
    drawn = []
    for figure in data.figures(suite):
        names = "".join(f"<span><i class='{s.kind}'></i>{html.escape(s.name)}</span>" for s in figure.series)
        chart = charts.lines(figure.series, figure.title, figure.x_label, figure.y_label, 460, 280)
        drawn.append(f"<figure>{chart}<div class='legend'>{names}</div></figure>")
    return f"<h4>Figures</h4><div class='charts large'>{''.join(drawn)}</div>" if drawn else ""


def _cost(suites: Sequence[tuple[PublishedTable, SuiteComparison]]) -> str:
    head = "<h2 id='cost'>Throughput and cost</h2>"
    table = rows.cost_table(suites)
    if not table:
        return f"{head}<p class='empty'>No record yet: <code>repro reproduce PAPER</code> makes one.</p>"
    return (
        f"{head}<p class='soft small'>Hours are wall-clock hours times devices, divided by the seeds that ran "
        f"together. Devices differ: see the hardware column.</p>{table}"
    )


_METHOD = (
    "<h2 id='verdicts'>How verdicts are formed</h2>"
    "<p>Each suite declares beforehand a margin within which two scores count as the same (shaded in the column "
    "“compared”). Intervals are Student's 95&nbsp;% intervals over seeds for one task, stratified bootstrap intervals "
    "for aggregates.</p><ul>"
    "<li><b>reproduced</b>: the difference lies within the margin.</li>"
    "<li><b>above, below</b>: beyond the margin, and the intervals do not meet.</li>"
    f"<li><b>inconclusive</b>: fewer than {MIN_SEEDS} seeds; an interval more than {MAX_WIDTH:g} times as wide as the "
    "published one and the margin; or a difference that the intervals do not confirm.</li>"
    "<li><b>partial</b>: less than the paper's budget; compared with the published learning curve at the same step "
    "where there is one.</li>"
    "<li><b>changed settings</b>: settings differ from the paper's, so it is no plain reproduction whatever it "
    "scores.</li><li><b>untested</b>: no record.</li></ul>"
)
