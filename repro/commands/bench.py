"""`repro bench`: measured speed here, or what the programs cost compiled for an accelerator that is not here."""

import argparse
import dataclasses
import json

from repro import registry
from repro.commands import reproduce
from repro.errors import UsageError

HELP = "speed of acting, updates and whole iterations here, or compiled for another chip"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("paper", help="e.g. dreamerv3; `repro list` shows all")
    parser.add_argument("--suite", help="where a task belongs to several suites")
    parser.add_argument("--task", action="append", metavar="T", help="task or suite/task")
    parser.add_argument("--preset", metavar="P", help="default: `paper`")
    parser.add_argument("--seeds", type=int, metavar="N", help="number of seeds in one program (default 1)")
    parser.add_argument("--set", action="append", default=[], metavar="key=value", help="override any config field")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="time for each measurement")
    parser.add_argument("--target", metavar="CHIP", help="compile for v4, v5e, v5p, v6e or h100 instead of measuring")
    parser.add_argument("--chips", type=int, default=1, metavar="N", help="with --target: share the work among N chips")
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Prints the measurements or the compiled costs; returns the exit code."""
    args.budget = None
    paper = registry.find(args.paper)
    if not (paper.build or (paper.compiled if args.target else paper.bench)):
        raise UsageError(f"{paper.name} has no update to time: `repro reproduce {paper.name}` shows its time")
    if args.chips != 1 and not args.target:
        raise UsageError("--chips goes with --target; a measurement uses the devices that are here")
    if args.seconds <= 0:
        raise UsageError(f"--seconds must be above 0, got {args.seconds:g}")
    suite, task = reproduce.checked_tasks(paper, args)[0]
    config = reproduce.configure(paper, args.preset or "paper", suite, task, args)
    if args.seeds is None:
        config = dataclasses.replace(config, seeds=1)
    if args.target:
        from repro.pipeline import aot

        found = aot.report(paper, config, args.target, args.chips)
        text = aot.render(found)
    else:
        import jax

        from repro import platform
        from repro.pipeline import bench

        platform.configure_jax()
        if hasattr(config, "for_platform"):
            config = config.for_platform(jax.default_backend())
        if not paper.build:
            found = bench.measure_parts(paper, config, args.seconds)
            print(json.dumps(found, indent=1) if args.json else bench.render_parts(found))
            return 0
        # Room for the measurement, not for the whole budget.
        small = min(config.loop.replay_capacity, 200 * config.loop.envs)
        config = dataclasses.replace(config, loop=dataclasses.replace(config.loop, replay_capacity=small))
        found = bench.measure(paper, config, args.seconds)
        text = bench.render(found)
    print(json.dumps(found, indent=1) if args.json else text)
    return 0
