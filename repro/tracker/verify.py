"""Do the records still hold? Digests, schema, scores, curves and verdicts, computed anew from the raw episodes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.errors import UsageError
from repro.evaluation import statistics
from repro.evaluation.statistics import Estimate
from repro.tracker import compare, records, text, validation

SUMMARY = "verdicts.json"
"""Written by `repro report` beside the page: every verdict it shows, so that this command can check them."""


@dataclass(frozen=True)
class Finding:
    """What was found of one file: no problem, or what is wrong with it."""

    path: Path
    record: Mapping[str, Any] | None
    problems: tuple[str, ...]


def check(path: Path, root: Path | None = None) -> Finding:
    """Checks one record file; with `root` also that it lies where it belongs."""
    try:
        content = path.read_bytes()
        record = records.read(path)
    except (UsageError, OSError) as error:
        return Finding(path, None, (str(error).removeprefix(f"{path}: "),))
    problems = list(validation.problems(record))
    found = records.digest(record)[:12]
    if record.get("id") != found:
        problems.insert(0, f"changed after it was written: its id is {record.get('id')}, its content gives {found}")
    elif content != records.to_bytes(record):
        problems.append("changed after it was written: not byte for byte as records are stored")
    if path.stem != str(record.get("id")):
        problems.append(f"the file is called {path.name}, its record {record.get('id')}")
    elif root is not None and not problems and path.resolve() != records.path_of(record, root).resolve():
        problems.append(f"belongs at {records.path_of(record, root)}")
    return Finding(path, record, tuple(problems))


def verdicts(suites: Iterable[compare.SuiteComparison]) -> list[dict[str, Any]]:
    """Every verdict with the numbers it rests on, as `repro report` keeps them."""
    rows = []
    for suite in suites:
        for row in suite.rows:
            pairs = [(row.group, row.verdict), *row.also] if row.group else []
            for group, verdict in pairs:
                about = {"records": [r["id"] for r in group.records], "verdict": str(verdict)}
                rows.append({"row": "/".join((row.paper, row.suite, row.task, row.method, row.metric)), **about,
                             "reproduced": text.estimate_json(verdict.ours)})  # fmt: skip
        for one in suite.aggregates:
            if one.tasks >= 2:
                name = "/".join((suite.paper, suite.suite, one.name))
                rows.append({"row": name, "records": [], "verdict": str(one.verdict),
                             "reproduced": text.estimate_json(one.verdict.ours)})  # fmt: skip
    return rows


def against_report(root: Path, suites: Iterable[compare.SuiteComparison]) -> tuple[list[str], bool]:
    """What `verdicts.json` says that the records do not give, and whether there are records it does not know yet.

    A report that is merely older than some records is no fault; one that shows records that are gone, or other
    numbers for the same records, is. Nothing to find where there is no report.
    """
    path = root / SUMMARY
    if not path.exists():
        return [], False
    try:
        written = json.loads(path.read_text(), parse_constant=validation.refuse_constant)
        before = {(row["row"], tuple(row["records"])): row for row in written["verdicts"]}
    except (ValueError, KeyError, TypeError) as error:
        return [f"{path}: not a summary of verdicts: {error}"], False
    now = {(row["row"], tuple(row["records"])): json.loads(json.dumps(row)) for row in verdicts(suites)}
    here = {record for _, identities in now for record in identities}
    lines = []
    for (name, identities), row in before.items():
        if missing := [record for record in identities if record not in here]:
            lines.append(f"{name}: reported, but without its records {', '.join(missing)}")
        elif (name, identities) in now and identities and not _same(row, now[name, identities]):
            lines.append(f"{name}: reported {_shown(row)}, the records give {_shown(now[name, identities])}")
    older = {key for key in now if key[1]} != {key for key in before if key[1]}
    for key, row in before.items():  # aggregates rest on all records: comparable only where those are the same
        if not key[1] and not older and not (key in now and _same(row, now[key])):
            lines.append(
                f"{key[0]}: reported {_shown(row)}, the records give {_shown(now[key]) if key in now else '-'}"
            )
    return [f"{path}: {line}; repro report writes it anew" for line in sorted(lines)], older


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    if a.get("verdict") != b["verdict"] or (a.get("reproduced") is None) != (b["reproduced"] is None):
        return False
    if b["reproduced"] is None:
        return True
    x, y = ([e["value"], *(e["interval"] or [])] for e in (a["reproduced"], b["reproduced"]))
    return len(x) == len(y) and all(abs(p - q) <= 1e-6 * max(1.0, abs(q)) for p, q in zip(x, y, strict=True))


def _shown(row: Mapping[str, Any]) -> str:
    value = row["reproduced"]["value"] if row.get("reproduced") else None
    return f"{row.get('verdict')} ({text.number(value)})"


def holds(record: Mapping[str, Any], returns: Sequence[Sequence[float]]) -> tuple[bool, Estimate, Estimate]:
    """Whether a record's number holds when its agents are evaluated again: (holds, recorded, new).

    `returns` are the new episode returns of each seed. With several seeds the new mean must lie in the recorded
    interval over seeds, or differ from it by no more than chance (Welch's interval holds 0); with one, the recorded
    score must lie in the interval over the new episodes.
    """
    scores = [score for score in record["scores"] if score is not None]
    recorded = statistics.of_scores(scores)
    means = [sum(r) / len(r) for r in returns if r]
    if len(scores) > 1:
        new = statistics.of_scores(means)
        gap = statistics.difference(new, recorded, 0.0)
        return recorded.low <= new.value <= recorded.high or gap.low <= 0 <= gap.high, recorded, new
    new = statistics.of_scores(list(returns[0]))
    return new.low <= recorded.value <= new.high, recorded, new
