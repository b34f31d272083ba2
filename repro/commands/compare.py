"""`repro compare`: published numbers against reproduced ones, with intervals and verdicts."""

import argparse
import json

from repro import paths
from repro.errors import UsageError, unknown

HELP = "published numbers against reproduced ones, with intervals and verdicts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("paper", nargs="?", help="one paper, every row of its tables; without it: an overview of all")
    parser.add_argument("--suite", help="only this suite")
    parser.add_argument("--recorded", action="store_true", help="only rows with a record")
    parser.add_argument("--why", action="store_true", help="add the reason of every verdict")
    parser.add_argument("--json", action="store_true", help="everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the comparison; 1 where a full run with the paper's settings contradicts its number, else 0."""
    from repro.tracker import compare, text

    names = [compare.find(args.paper)] if args.paper else compare.papers(paths.results())
    found = [s for name in names for s in compare.suites(name, compare.records_of(name, paths.results()))]
    if args.suite:
        if args.suite not in {s.suite for s in found}:
            raise unknown("suite", args.suite, {s.suite for s in found})
        found = [s for s in found if s.suite == args.suite]
    if not found and not args.json:
        raise UsageError(f"{args.paper}: no published numbers to compare with and no record yet")
    contradicting = [row for s in found for row in s.rows if row.verdict.contradicts]
    contradicting_aggregates = [(s, a) for s in found for a in s.aggregates if a.verdict.contradicts]
    if args.json:
        names_json = [f"{r.paper}/{r.suite}/{r.task}" for r in contradicting]
        names_json += [f"{s.paper}/{s.suite}/{a.name}" for s, a in contradicting_aggregates]
        print(json.dumps({"suites": [text.suite_json(s) for s in found], "contradictions": names_json}, indent=1))
        return 1 if names_json else 0
    overview = not args.paper and not args.suite
    if overview:
        print(text.overview(found))
    shown = [s for s in found if s.recorded] if overview or args.recorded else found
    for suite in shown:
        print("\n" + text.table(suite, recorded_only=overview or args.recorded))
    if args.why:
        print("\n" + "\n".join(text.reasons(row for s in shown for row in s.rows)))
    for row in contradicting:
        print(f"\ncontradicts the paper: {row.suite}/{row.task}: {row.verdict.reason}")
    for suite, aggregate in contradicting_aggregates:
        print(f"\ncontradicts the paper: {suite.suite} {aggregate.name}: {aggregate.verdict.reason}")
    return 1 if contradicting or contradicting_aggregates else 0
