"""`repro verify`: recompute digests, scores, aggregates and verdicts of the records; say which no longer hold."""

import argparse
import json
from pathlib import Path
from typing import Any

from repro import paths, registry
from repro.errors import RunError, UsageError

HELP = "recompute digests, scores and verdicts of the records from their episodes; say which no longer hold"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("records", nargs="*", metavar="RECORD", help="ids or files; without any: all")
    parser.add_argument("--rerun", action="store_true", help="evaluate the kept agents again")
    parser.add_argument("--episodes", type=int, default=10, help="episodes a seed for --rerun (default: 10)")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints one line a record; 1 where any does not hold."""
    from repro.tracker import compare, records, verify

    root = paths.results()
    if args.episodes < 2:
        raise UsageError(f"--episodes {args.episodes}: at least 2")
    chosen = [_find(name, root) for name in args.records] or list(records.files(root))
    findings = [verify.check(path, None if args.records else root) for path in chosen]
    lines = [_line(finding) for finding in findings]
    failed = any(finding.problems for finding in findings)
    stale: list[str] = []
    older = False
    if not args.records and not failed:
        names = compare.papers(root)
        stale, older = verify.against_report(
            root, [s for name in names for s in compare.suites(name, compare.records_of(name, root))]
        )
    again = [_rerun(f.record, args.episodes) for f in findings if f.record and not f.problems] if args.rerun else []
    failed = failed or bool(stale) or any(not one["holds"] for one in again)
    if args.json:
        print(
            json.dumps(
                {"records": lines, "report": stale, "report_is_older": older, "rerun": again, "holds": not failed},
                indent=1,
            )
        )
        return int(failed)
    for line in lines:
        print(f"{line['path']}: {'holds' if not line['problems'] else '; '.join(line['problems'])}")
    for text in stale:
        print(text)
    if older:
        print("there are records that the report does not show yet; repro report writes it anew")
    for one in again:
        print(f"{one['id']}: evaluated again: {one['text']}")
    if not lines:
        print("no record yet")
    elif len(lines) > 1:
        bad = sum(bool(line["problems"]) for line in lines)
        print(f"{len(lines)} records, {bad} of them no longer hold" if bad else f"{len(lines)} records, all hold")
    return int(failed)


def _find(name: str, root: Path) -> Path:
    from repro.tracker import records

    path = records.locate(name, root)
    if path is None:
        raise UsageError(f"no record {name!r}: give the first digits of an id or a file")
    return path


def _line(finding: Any) -> dict[str, Any]:
    identity = finding.record.get("id") if finding.record else None
    return {"path": str(finding.path), "id": identity, "problems": list(finding.problems)}


def _rerun(record: Any, episodes: int) -> dict[str, Any]:
    """Evaluates a kept agent again. `UsageError` of the pipeline says where none is kept."""
    from repro.tracker import text, verify

    try:
        evaluate = registry.load("repro.pipeline.evaluate:rerun")
    except (ImportError, AttributeError) as error:
        raise RunError(f"--rerun needs the training pipeline: {error}") from error
    if not any(score is not None for score in record["scores"]):
        raise UsageError(f"record {record['id']} has no score to hold")
    holds, recorded, new = verify.holds(record, evaluate(dict(record), episodes))
    words = f"recorded {text.with_interval(recorded)}, now {text.with_interval(new)}: {'holds' if holds else 'FAILS'}"
    return {"id": record["id"], "holds": holds, "text": words, "now": text.estimate_json(new)}
