"""`repro list`: what the suite can reproduce, what it costs, what is recorded so far."""

import argparse
import json
import textwrap
from collections import Counter
from typing import Any

from repro import paths, registry
from repro.tracker import records

HELP = "papers, suites, tasks, presets, what each costs, what is recorded so far"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("paper", nargs="?", help="this paper only")
    parser.add_argument("--tasks", action="store_true", help="name every task")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the list; returns the exit code."""
    chosen = [registry.find(args.paper)] if args.paper else list(registry.papers().values())
    described = [describe(paper) for paper in chosen]
    if args.json:
        print(json.dumps({"papers": described}, indent=1))
    elif described:
        print("\n\n".join(show(paper, args.tasks) for paper in described))
    else:
        print(f"no paper in {registry.papers_folder()}")
    return 0


def describe(paper: registry.Paper) -> dict[str, Any]:
    """A paper as plain data: suites with tasks and the number of records of each, presets with cost and doc."""
    recorded = Counter(path.parent.parts[-2:] for path in records.files(paths.results(), paper.name))
    suites = {
        suite: {
            "tasks": list(tasks),
            "records": {task: recorded[suite, task] for task in tasks if recorded[suite, task]},
            "unavailable": paper.unavailable.get(suite),
        }
        for suite, tasks in paper.suites.items()
    }
    presets = {name: {"cost": preset.cost, "doc": preset.doc} for name, preset in paper.presets.items()}
    return {
        "name": paper.name,
        "title": paper.title,
        "default": "/".join(paper.default),
        "suites": suites,
        "presets": presets,
    }


def show(paper: dict[str, Any], with_tasks: bool) -> str:
    """A described paper as text of at most 80 columns."""
    width = max(map(len, [*paper["suites"], *paper["presets"]])) + 2
    lines = [paper["name"], *_hang("  ", paper["title"])]
    lines += ["", f"  {'suite':<{width}}tasks  recorded"]
    for name, suite in paper["suites"].items():
        runs = sum(suite["records"].values())
        state = f"{_count(runs, 'run')} of {_count(len(suite['records']), 'task')}" if runs else "-"
        if suite["unavailable"]:
            state = f"cannot run here: {suite['unavailable']}"
        lines += _hang(f"  {name:<{width}}{len(suite['tasks']):>5}  ", state)
        if with_tasks:
            done = [f"{task}*" if task in suite["records"] else task for task in suite["tasks"]]
            lines += textwrap.wrap(
                ", ".join(done), 80, initial_indent=" " * 8, subsequent_indent=" " * 8, break_on_hyphens=False
            )
    if with_tasks and any(suite["records"] for suite in paper["suites"].values()):
        lines.append("  * has a record")
    lines += ["", f"  {'preset':<{width}}cost"]
    for name, preset in paper["presets"].items():
        lines += _hang(f"  {name:<{width}}", preset["cost"])
        lines += _hang(" " * (width + 2), preset["doc"])
    lines += ["", f"  repro reproduce {paper['name']}    ({paper['default']})"]
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _hang(head: str, text: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent=head, subsequent_indent=" " * len(head)) if text else []
