"""`repro evaluate`: evaluate the agent of a finished run again."""

import argparse
import json

from repro.errors import UsageError

HELP = "evaluate the kept agent of a run again by the paper's protocol"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("run", metavar="RUN", help="run folder, record file or record id")
    what = "episodes per seed (default 10); encoders have none: their probe is made again"
    parser.add_argument("--episodes", type=int, default=10, metavar="N", help=what)
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Prints the mean return of every seed; returns the exit code."""
    if args.episodes < 1:
        raise UsageError(f"--episodes must be at least 1, got {args.episodes}")

    from repro import platform
    from repro.pipeline import evaluate

    platform.configure_jax()
    folder = evaluate.find_run(args.run)
    about, returns = evaluate.evaluate_run(folder, args.episodes)
    if args.json:
        print(json.dumps({"run": str(folder), "seeds": about["seeds"], "returns": returns}))
        return 0
    print(f"{about['paper']} {about['suite']}/{about['task']}, evaluated anew")
    for seed, values in zip(about["seeds"], returns, strict=True):
        if len(values) == 1:
            print(f"seed {seed}: {values[0]:.1f}")
        else:
            mean, count = sum(values) / len(values), len(values)
            print(f"seed {seed}: mean {mean:.1f}, min {min(values):.1f}, max {max(values):.1f} of {count} episodes")
    return 0
