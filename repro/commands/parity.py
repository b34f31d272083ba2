"""`repro parity PAPER --golden DIR`: our modules on recorded official inputs and weights."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from repro import registry
from repro.errors import UsageError

HELP = "our modules on recorded official inputs and weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("paper", help="e.g. dreamerv3")
    parser.add_argument("--golden", required=True, metavar="DIR", help="directory with cases.json and the archives")
    parser.add_argument("--case", action="append", metavar="NAME", help="only this case (may be given several times)")
    parser.add_argument("--json", action="store_true", help="results as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints one line a case; 1 when any case is over its tolerance or has no implementation, else 0."""
    # The recorded numbers are float32 of a CPU; JAX_PLATFORMS names another device to check.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from repro.interop import parity

    paper = registry.find(args.paper)
    golden = parity.Golden(Path(args.golden))
    if golden.paper and golden.paper != paper.name:
        raise UsageError(f"{golden.folder}: recorded for {golden.paper}, not {paper.name}")
    names = args.case or golden.names
    for name in names:
        if name not in golden.names:
            raise UsageError(f"{golden.folder}: no case {name!r}; it has: {', '.join(golden.names)}")

    import jax

    implementations = registry.load(paper.parity) if paper.parity else {}
    results = []
    with jax.default_matmul_precision("highest"):
        for name in names:
            result = parity.check(golden.load(name), implementations)
            results.append(result)
            if not args.json:
                print(line(result, max(map(len, names))), flush=True)
    failed = sum(not r.passed for r in results)
    if args.json:
        rows = [r._asdict() | {"error": r.error if r.error < float("inf") else None} for r in results]
        print(json.dumps({"paper": paper.name, "passed": not failed, "cases": rows}, indent=1))
    else:
        print(f"{len(results) - failed} of {len(results)} cases pass")
    return 1 if failed else 0


def line(result: Any, width: int) -> str:
    """One case as text."""
    if result.message:
        what = result.message + (f" ({result.worst})" if result.worst else "")
    elif result.error == float("inf"):
        what = f"{result.worst}: values, shape or NaN differ"
    else:
        what = f"largest error {result.error:.2g} of the tolerance" + (f" in {result.worst}" if result.worst else "")
    return f"{result.case:<{width}}  {'ok  ' if result.passed else 'FAIL'}  {what}"
