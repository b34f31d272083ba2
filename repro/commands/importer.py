"""`repro import PAPER FILE --out DIR`: official checkpoint to ours."""

import argparse
from pathlib import Path

from repro import registry
from repro.errors import UsageError

HELP = "official checkpoint to ours"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("paper", help="e.g. dreamerv3")
    parser.add_argument("file", type=Path, help="checkpoint, or the folder the official code wrote it to")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where ours goes; must not exist yet")


def run(args: argparse.Namespace) -> int:
    """Converts and says what was found."""
    paper = registry.find(args.paper)
    if not paper.importer:
        raise UsageError(f"{paper.name}: reading official checkpoints is not implemented")
    if not args.file.exists():
        raise UsageError(f"{args.file}: no such file or directory")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UsageError(f"{args.out}: exists already; --out names a new directory")
    print(f"{registry.load(paper.importer)(args.file, args.out)} -> {args.out}")
    return 0
