"""`repro report`: `REPORT.md` and one self-contained HTML page with all tables and plots."""

import argparse
import json
from pathlib import Path

from repro import paths
from repro.errors import UsageError

HELP = "results/REPORT.md and one self-contained HTML page with tables and plots"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write to (default: the results folder)")


def run(args: argparse.Namespace) -> int:
    """Writes `REPORT.md`, `report.html` and `verdicts.json`; returns the exit code."""
    from repro.tracker import compare, verify
    from repro.tracker.report import markdown, page

    root = paths.results()
    out = args.out or root
    names = compare.papers(root)
    papers = {name: compare.suites(name, compare.records_of(name, root)) for name in names}
    suites = [suite for found in papers.values() for suite in found]
    summary = json.dumps({"verdicts": verify.verdicts(suites)}, indent=1) + "\n"
    written = {
        "REPORT.md": markdown.render(suites, root.absolute(), out.absolute()),
        "report.html": page.render(papers, root.absolute(), out.absolute()),
        verify.SUMMARY: summary,
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in written.items():
            temporary = out / f".{name}.new"
            temporary.write_text(content, encoding="utf-8")
            temporary.replace(out / name)
    except OSError as error:
        raise UsageError(f"cannot write the report to {out}: {error.strerror}") from None
    recorded = sum(suite.recorded for suite in suites)
    print(f"{recorded} of {sum(len(suite.rows) for suite in suites)} published rows have a record")
    for name in written:
        print(out / name)
    return 0
