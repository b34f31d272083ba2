"""Citations of reproduced numbers: BibTeX, CSL-JSON and plain text, the original paper's own BibTeX beside them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from repro import __version__
from repro.evaluation.statistics import Estimate
from repro.tracker import compare, records, text
from repro.tracker.compare import Comparison
from repro.tracker.groups import Group
from repro.tracker.published import PublishedTable
from repro.tracker.verdict import Verdict

AUTHOR = "The repro contributors"


@dataclass(frozen=True)
class Citation:
    """One reproduced number."""

    key: str
    title: str
    year: str
    date: str
    note: str
    """Number, interval, seeds, budget, verdict, hardware, commit, digests: everything needed to find and judge it."""


def of_comparison(table: PublishedTable, row: Comparison, group: Group, verdict: Verdict) -> Citation:
    """The citation of a row's number from one group of records."""
    first = group.first
    name = table.facts["name"]
    where = f"{row.task} ({table.suite(row.suite).get('title', row.suite)})"
    parts = [
        f"{row.metric.replace('_', ' ')} {interval(group.estimate())}",
        _budget(group),
        f"{verdict} against the published {row.printed or 'number (none)'}"
        + (f" ({row.row.method}; {row.row.source})" if row.row else ""),
    ]
    if group.changed:
        parts.append("settings that differ from the paper's: " + ", ".join(text.changes(group.changed)))
    parts += [
        f"protocol {first['protocol']['name']}",
        "hardware: " + ", ".join(dict.fromkeys(hardware(record) for record in group.records)),
        "code: " + ", ".join(dict.fromkeys(_commit(record) for record in group.records)),
        "records: " + ", ".join(f"{r['id']} (sha256:{records.digest(dict(r))})" for r in group.records),
    ]
    slug = re.sub(r"[^a-z0-9]+", "-", f"{row.paper}-{row.suite}-{row.task}".lower()).strip("-")
    return Citation(
        key=f"repro-{slug}-{first['id']}",
        title=f"{name} on {where}, reproduced with repro {__version__}",
        year=first["created"][:4],
        date=first["created"][:10],
        note="; ".join(parts),
    )


def interval(estimate: Estimate | None) -> str:
    """`955 (95 % interval 930 to 980, 5 seeds)`."""
    if estimate is None:
        return "without a score"
    seeds = f"{estimate.seeds} seed{'s' if estimate.seeds != 1 else ''}"
    if not math.isfinite(estimate.half_width):
        return f"{text.number(estimate.value)} ({seeds})"
    low, high = text.number(estimate.low), text.number(estimate.high)
    return f"{text.number(estimate.value)} (95 % interval {low} to {high}, {seeds})"


def hardware(record: Any) -> str:
    """Device and count, for CPUs the processor and its cores; then the stages that another kind of device worked on."""
    elsewhere: dict[str, list[str]] = {}
    for stage, about in sorted(record["extra"].get("made_on", {}).items()):
        if _kind(about) != _kind(record["hardware"]):
            elsewhere.setdefault(_device(about), []).append(stage)
    return "; ".join([_device(record["hardware"]), *(f"{', '.join(of)} on {name}" for name, of in elsewhere.items())])


def _kind(about: Mapping[str, Any]) -> Any:
    return about.get("cpu") if about.get("platform") == "cpu" else about.get("device_kind")


def _device(about: Mapping[str, Any]) -> str:
    if about.get("platform") == "cpu":
        return f"{about.get('cpu')} ({about.get('cpu_cores')} cores)"
    return f"{about.get('device_count')} x {about.get('device_kind')}"


def _budget(group: Group) -> str:
    budget = group.first["budget"]
    used = f"{budget['used']:,.0f} {budget['unit'].replace('_', ' ')}"
    return f"full budget ({used})" if group.fraction >= 1 else f"{group.fraction:.2%} of the paper's budget ({used})"


def _commit(record: Any) -> str:
    code = record["code"]
    return f"commit {code['commit'] or 'unknown'}" + (" with local changes" if code["dirty"] else "")


def _escape(value: str) -> str:
    for character in ("\\", "{", "}", "%", "&", "_", "#", "$"):
        value = value.replace(character, "\\textbackslash{}" if character == "\\" else "\\" + character)
    return value


def bibtex(citations: Sequence[Citation], original: str) -> str:
    """One `@misc` entry a number, then the original paper's entries."""
    entries = [
        "\n".join(
            [
                f"@misc{{{c.key},",
                f"  author = {{{{{AUTHOR}}}}},",
                f"  title  = {{{_escape(c.title)}}},",
                f"  year   = {{{c.year}}},",
                f"  note   = {{{_escape(c.note)}}}",
                "}",
            ]
        )
        for c in citations
    ]
    return "\n\n".join([*entries, original])


def csl(citations: Sequence[Citation], original: str) -> list[dict[str, Any]]:
    """CSL-JSON items; the original papers' follow, read from their BibTeX."""
    items: list[dict[str, Any]] = [
        {
            "id": c.key,
            "type": "dataset",
            "title": c.title,
            "author": [{"literal": AUTHOR}],
            "issued": {"date-parts": [[int(part) for part in c.date.split("-")]]},
            "version": __version__,
            "note": c.note,
        }
        for c in citations
    ]
    return items + [_csl_of(entry) for entry in re.findall(r"@\w+\{.*?\n\}", original, re.DOTALL)]


_CSL_FIELDS = {
    "title": "title",
    "journal": "container-title",
    "booktitle": "container-title",
    "publisher": "publisher",
    "volume": "volume",
    "number": "issue",
    "pages": "page",
    "doi": "DOI",
    "edition": "edition",
}
_CSL_TYPES = {"article": "article-journal", "inproceedings": "paper-conference", "book": "book"}


def _csl_of(entry: str) -> dict[str, Any]:
    """A CSL item from one BibTeX entry as our tables write them: one field a line."""
    head = re.match(r"@(\w+)\{([^,]+),", entry)
    assert head is not None
    fields = {m[0].lower(): _unbrace(m[1]) for m in re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", entry, re.MULTILINE)}
    item: dict[str, Any] = {"id": head[2], "type": _CSL_TYPES.get(head[1].lower(), "document")}
    item |= {csl_name: fields[name] for name, csl_name in _CSL_FIELDS.items() if name in fields}
    people = [person.split(", ") for person in fields.get("author", "").split(" and ") if person]
    item["author"] = [
        {"family": p[0], "given": p[1]} if len(p) == 2 else {"literal": "et al." if p[0] == "others" else p[0]}
        for p in people
    ]
    if "year" in fields:
        item["issued"] = {"date-parts": [[int(fields["year"])]]}
    if "eprint" in fields:
        item["note"] = f"arXiv:{fields['eprint']}"
    return item


def _unbrace(value: str) -> str:
    for tex, plain in (('{\\"u}', "ü"), ('\\"{u}', "ü"), ("{\\c{c}}", "ç"), ("\\c{c}", "ç"), ("--", "\N{EN DASH}")):
        value = value.replace(tex, plain)
    return value.replace("{", "").replace("}", "")


def plain(citations: Sequence[Citation], table: PublishedTable) -> str:
    """One paragraph a number, then how to cite the original."""
    lines = [f"{AUTHOR} ({c.year}). {c.title}. {c.note}." for c in citations]
    original = [_line(_csl_of(e)) for e in re.findall(r"@\w+\{.*?\n\}", table.facts["bibtex"], re.DOTALL)]
    return "\n\n".join([*lines, *(f"Original: {line}" for line in original)])


def _line(item: dict[str, Any]) -> str:
    people = [a.get("literal") or f"{a['family']}, {a['given']}" for a in item["author"]]
    year = item.get("issued", {}).get("date-parts", [["n.d."]])[0][0]
    place = [item[k] for k in ("container-title", "publisher", "note") if k in item]
    return f"{'; '.join(people)} ({year}). {item['title']}. {', '.join(place)}."


def of_paper(table: PublishedTable, suites: Sequence[compare.SuiteComparison]) -> list[Citation]:
    """A citation for every row with records, from its most telling group."""
    return [of_comparison(table, row, row.group, row.verdict) for suite in suites for row in suite.rows if row.group]
