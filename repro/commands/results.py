"""`repro results add`: takes run records made on other machines, after full validation."""

import argparse
from pathlib import Path
from typing import Any

from repro import paths, registry
from repro.errors import UsageError, unknown

HELP = "add run records made on another machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="check record files and take them in; one bad file and nothing is taken")
    add.add_argument("files", nargs="+", metavar="FILE", help="record files (.json)")
    add.add_argument("--check", action="store_true", help="only check")


def run(args: argparse.Namespace) -> int:
    """Checks all files, then adds all of them; raises `UsageError` before anything is changed."""
    from repro.tracker import records

    root = paths.results()
    # Everything is read and checked before the first file is written.
    checked = [(Path(name), check(Path(name))) for name in args.files]
    seen: dict[str, Path] = {}
    for path, record in checked:
        if record["id"] in seen:
            raise UsageError(f"{path}: the same record as {seen[record['id']]}")
        seen[record["id"]] = path
    for path, record in checked:
        target = records.path_of(record, root)
        if args.check:
            state = "is sound" + (", already here" if target.exists() else "")
        elif target.exists():
            state = f"already here: {target}"
        else:
            state = f"added: {records.save(record, root)}"
        print(f"{path}: {state}")
    return 0


def check(path: Path) -> dict[str, Any]:
    """The record of a file, validated (schema, digest, plausibility) and known to belong to a paper's task."""
    from repro.tracker import published, records

    record = records.load(path)
    paper, suite, task = record["paper"], record["suite"], record["task"]
    known = registry.papers()
    table = published.load_or_empty(paper)
    if paper not in known and not table.rows:
        raise UsageError(f"{path}: {unknown('paper', paper, {*known, *published.papers()})}")
    tasks: dict[str, set[str]] = (
        {name: set(names) for name, names in known[paper].suites.items()} if paper in known else {}
    )
    for row in table.rows:
        tasks.setdefault(row.suite, set()).add(row.task)
    for declared in table.facts.get("rows", ()):
        tasks.setdefault(declared["suite"], set()).add(declared["task"])
    if suite not in tasks:
        raise UsageError(f"{path}: {unknown(f'suite of {paper}', suite, tasks)}")
    if task not in tasks[suite]:
        raise UsageError(f"{path}: {unknown(f'task of {paper} {suite}', task, tasks[suite])}")
    return record
