"""`repro cite`: how to cite reproduced numbers, of a paper or of one record."""

import argparse
import json

from repro import paths
from repro.errors import UsageError

HELP = "a citation of reproduced numbers (of a paper or of one record), with the original paper's own"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("what", metavar="PAPER|RECORD", help="a paper, or a record's id or file")
    parser.add_argument("--format", choices=("bibtex", "csl", "text"), default="bibtex", help="default: bibtex")
    parser.add_argument("--suite", help="only this suite of the paper")


def run(args: argparse.Namespace) -> int:
    """Prints the citation; returns the exit code."""
    from repro.tracker import cite, compare, published, records

    root = paths.results()
    path = records.locate(args.what, root)
    if path is not None:
        record = records.load(path)
        paper, chosen = record["paper"], [record]
    else:
        paper = compare.find(args.what)
        chosen = compare.records_of(paper, root)
    table = published.load_or_empty(paper)
    citations = cite.of_paper(table, compare.suites(paper, chosen, args.suite))
    if not citations:
        where = f"{paper}/{args.suite}" if args.suite else paper
        raise UsageError(f"no record of {where} yet, so no number to cite; repro reproduce {paper} makes one")
    if args.format == "csl":
        print(json.dumps(cite.csl(citations, table.facts["bibtex"]), indent=1, ensure_ascii=False))
    elif args.format == "text":
        print(cite.plain(citations, table))
    else:
        print(cite.bibtex(citations, table.facts["bibtex"]))
    return 0
